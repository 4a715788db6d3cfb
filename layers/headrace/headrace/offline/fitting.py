"""Fit an estimator: search, calibration and threshold, all in order of time.

scikit-learn searches and calibrates; here is only which rows it gets. May import splits,
thresholds and training.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from threadpoolctl import threadpool_limits

from headrace.errors import Misconfigured
from headrace.events import time_to_us
from headrace.offline.splits import later_folds, tuning_split
from headrace.offline.thresholds import threshold_for
from headrace.offline.training import NONE, AtCost

if TYPE_CHECKING:
    from datetime import datetime

    from headrace.offline.splits import Split
    from headrace.offline.training import Training

LEAST_POSITIVES = 10
_DAY = timedelta(days=1)


class Labelled(NamedTuple):
    """Rows with labels.

    Attributes:
        x: Inputs after imputation, shape (n, inputs).
        y: Labels, 0 or 1, shape (n,).
        times: Event times, microseconds UTC, shape (n,).
    """

    x: Any
    y: Any
    times: Any

    def between(self, start: datetime, end: datetime) -> Labelled:
        """The rows of [start, end)."""
        inside = (self.times >= time_to_us(start)) & (self.times < time_to_us(end))
        return Labelled(self.x[inside], self.y[inside], self.times[inside])


@dataclass(frozen=True, slots=True)
class Fitted:
    """What fitting found.

    Attributes:
        estimator: Fitted; with its calibrator where there is one.
        threshold: Decision threshold; None where no rule asks for one.
        chosen: Parameters that the search chose.
    """

    estimator: Any
    threshold: float | None
    chosen: dict[str, Any]


def fit(estimator: Any, rows: Labelled, split: Split, training: Training) -> Fitted:
    """Fit on the training interval.

    What is tuned is tuned on its last part, with a model that was fitted before that. A calibrated
    model stays that one; without calibration the model is then fitted on the whole interval.

    Args:
        estimator: Unfitted, with ``predict_proba`` once fitted; it is not changed.
        rows: Of the training interval.
        split: The interval.
        training: What is wanted.

    Raises:
        Misconfigured: Too few positives, no ``predict_proba``, a parameter that the estimator does
            not have, or an interval that is too short for what is wanted.
    """
    if not hasattr(estimator, "predict_proba"):
        msg = f"estimator: {type(estimator).__name__} has no predict_proba; expected a classifier"
        raise Misconfigured(msg)
    _check_positives("training", rows)
    seeded = _seeded(estimator, training.seed)
    # One thread, so that sums have the same order, and the model the same hash, on any machine.
    with threadpool_limits(limits=1):
        if not training.tunes:
            found, chosen = _searched(seeded, rows, split.gap, training)
            return Fitted(_fitted(found, rows), None, chosen)
        return _tuned(seeded, rows, tuning_split(split, training), training)


def _tuned(estimator: Any, rows: Labelled, inner: Split, training: Training) -> Fitted:
    early = rows.between(inner.start, inner.end)
    late = rows.between(inner.test_start, inner.test_end)
    _check_positives("the part that the model is fitted on before tuning", early)
    if training.calibration != NONE or isinstance(training.threshold, AtCost):
        _check_positives("the part for calibration and threshold", late)
    found, chosen = _searched(estimator, early, inner.gap, training)
    model = _fitted(found, early)
    if training.calibration != NONE:
        frozen = FrozenEstimator(model)
        model = _fitted(CalibratedClassifierCV(frozen, method=training.calibration), late)
    threshold = None
    if training.threshold is not None:
        scores = model.predict_proba(late.x)[:, 1]
        days = (inner.test_end - inner.test_start) / _DAY
        threshold = threshold_for(training.threshold, scores, late.y, days)
    final = model if training.calibration != NONE else _fitted(found, rows)
    return Fitted(final, threshold, chosen)


def _searched(
    estimator: Any, rows: Labelled, gap: timedelta, training: Training
) -> tuple[Any, dict[str, Any]]:
    """The estimator with the parameters of the best average precision, and these."""
    if not training.search:
        return estimator, {}
    options: dict[str, Any] = {
        "scoring": "average_precision",
        "cv": later_folds(rows.times, gap, training.folds),
        "refit": False,
        "error_score": "raise",
    }
    space = dict(training.search)
    if training.candidates:
        drawn = {"n_iter": training.candidates, "random_state": training.seed}
        search: Any = RandomizedSearchCV(estimator, space, **drawn, **options)
    else:
        search = GridSearchCV(estimator, space, **options)
    _fit_in_place(search, rows)
    chosen = dict(search.best_params_)
    return clone(estimator).set_params(**chosen), chosen


def _seeded(estimator: Any, seed: int) -> Any:
    """A copy in which whatever draws does so from the seed."""
    copied = clone(estimator)
    names = [name for name in copied.get_params() if name.split("__")[-1] == "random_state"]
    unset = {name: seed for name in names if copied.get_params()[name] is None}
    return copied.set_params(**unset)


def _fitted(estimator: Any, rows: Labelled) -> Any:
    """A fitted copy.

    Raises:
        Misconfigured: It cannot be fitted on these rows, in scikit-learn's own words.
    """
    copied = clone(estimator)
    _fit_in_place(copied, rows)
    return copied


def _fit_in_place(estimator: Any, rows: Labelled) -> None:
    try:
        estimator.fit(rows.x, rows.y)
    except ValueError as error:
        name = type(estimator).__name__
        msg = f"estimator: {name} cannot be fitted on these rows: {error}"
        raise Misconfigured(msg) from error


def _check_positives(where: str, rows: Labelled) -> None:
    if rows.y.sum() < LEAST_POSITIVES:
        msg = f"{where}: {int(rows.y.sum())} positive labels; expected at least {LEAST_POSITIVES}"
        raise Misconfigured(msg)
