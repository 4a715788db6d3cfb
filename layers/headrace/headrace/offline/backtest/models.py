"""A model of one kind of features, fitted the way `estimator.py` says. May import train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from headrace.imputation import Cause, Imputer
from headrace.offline.backtest.frames import AS_OF, of_batch_run
from headrace.offline.fitting import Labelled, fit
from headrace.offline.imputed_rows import imputed_rows
from headrace.offline.train import ENTITY, fitted_statistics, input_matrix, labelled_matrix

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.offline.backtest.frames import Frames
    from headrace.offline.history import Floats
    from headrace.offline.splits import Split
    from headrace.offline.training import Training

_GRAIN = 2.0**40
"""Scores are told to 2^-40, so that differences of them are exact, and add up exactly."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model with its imputation.

    Attributes:
        definition: Whose inputs it takes.
        imputer: With statistics of its own training rows.
        estimator: Fitted.
        prior: Positive rate of its training rows.
    """

    definition: Definition
    imputer: Imputer
    estimator: Any
    prior: float

    def scores(self, rows: pl.DataFrame) -> Floats:
        """Scores of events."""
        return self._scores(input_matrix(self.definition, rows, self.imputer))

    def batch_scores(self, frames: Frames) -> Floats:
        """What a look-up of each event's entity would have found: its last nightly score.

        An entity that no run knew has none: the prior stands in for it.
        """
        found = of_batch_run(frames)
        full = imputed_rows(self.definition, found, self.imputer, Cause.NO_EVENT)
        made = found.select(ENTITY, AS_OF).with_columns(
            score=self._scores(full.select(self.definition.inputs).to_numpy())
        )
        asked = frames.nightly.select(ENTITY).with_columns(frames.facts)
        met = asked.join(made, on=[ENTITY, AS_OF], how="left", maintain_order="left")
        knew = pl.col("knew " + self.definition.batch_entity.name)
        given = pl.when(knew).then(pl.col("score")).otherwise(_told(self.prior))
        scores: Floats = met.select(given.alias("given"))["given"].to_numpy()
        return scores

    def _scores(self, inputs: Any) -> Floats:
        return _scores(self.estimator, inputs)


def _scores(estimator: Any, inputs: Any) -> Floats:
    with threadpool_limits(limits=1):  # sums in the same order on any machine, as in fitting
        found: Floats = _told(estimator.predict_proba(inputs)[:, 1])
    return found


def _told(score: Any) -> Any:
    return np.round(score * _GRAIN) / _GRAIN


def fitted(
    definition: Definition, rows: pl.DataFrame, recipe: tuple[Any, Training], split: Split
) -> Fitted:
    """Fit imputation and estimator on the training rows of a split.

    Args:
        definition: What turns features into inputs.
        rows: Of the training interval, as of ``train.labelled``.
        recipe: Unfitted estimator, and how it is trained.
        split: The intervals.

    Raises:
        Misconfigured: As of ``fitting.fit``.
        BundleError: An imputation statistic cannot be fitted.
    """
    estimator, training = recipe
    imputer = Imputer(definition, fitted_statistics(definition, rows))
    of_training = labelled_matrix(definition, rows, imputer)
    found = fit(estimator, of_training, split, training)
    return Fitted(definition, imputer, found.estimator, float(of_training.y.mean()))


def by_fields_alone(
    definition: Definition,
    train: pl.DataFrame,
    test: pl.DataFrame,
    split: Split,
    training: Training,
) -> Floats | None:
    """Scores of a boosted model that sees nothing but the event's numbers; None without any."""
    names = [name for name in definition.inputs if name in definition.scored.fields]
    if not names:
        return None
    estimator = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0)
    rows = Labelled(
        _numbers(train, names),
        train["label"].to_numpy(),
        train["event_time"].dt.epoch("us").to_numpy(),
    )
    model = fit(estimator, rows, split, training).estimator
    return _scores(model, _numbers(test, names))


def _numbers(rows: pl.DataFrame, names: list[str]) -> Any:
    return rows.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
