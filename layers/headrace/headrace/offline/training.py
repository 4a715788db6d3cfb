"""How a model is trained and judged: what `estimator.py` says beside `build()`.

Plain data and the file's loader; scikit-learn is the file's own business. May import definition
and errors.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NONE, SIGMOID, ISOTONIC = "none", "sigmoid", "isotonic"
ALL, NOT_CAUGHT = "all", "not_caught"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtCost:
    """The threshold at which misses and false alarms together cost least.

    Attributes:
        miss: What a positive below the threshold costs.
        false_alarm: What a negative at or above it costs, in the same unit.
    """

    miss: float
    false_alarm: float

    def __post_init__(self) -> None:
        if self.miss <= 0 or self.false_alarm <= 0:
            msg = f"AtCost: got {self.miss} and {self.false_alarm}; expected costs above 0"
            raise Misconfigured(msg)


@dataclass(frozen=True, slots=True)
class AlertsPerDay:
    """The threshold that as many events of a day reach as can be looked at.

    Attributes:
        alerts: Events per day.
    """

    alerts: float

    def __post_init__(self) -> None:
        if self.alerts <= 0:
            msg = f"AlertsPerDay: got {self.alerts}; expected alerts above 0"
            raise Misconfigured(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained and judged.

    Time goes: train, gap, test. Where something is tuned (calibration, threshold), the last part
    of the training interval is kept for it, behind a gap of the same length.

    Attributes:
        train: Length of the training interval; None for all history before the gap.
        gap: Between training and test: how long labels take. None for the lateness of the
            labels' source.
        test: Length of the test interval, the last one.
        tune: Length of the part on which calibration and threshold are fitted; None for as long
            as the test.
        search: Parameter of the estimator -> values to try; none for a fit as it is.
        candidates: How many combinations are drawn of them; 0 for every one.
        folds: Splits of the search, each validated on what comes later.
        calibration: ``"none"``, ``"sigmoid"`` or ``"isotonic"``.
        threshold: The rule for the decision threshold; None for no decision.
        top: Entities that are looked at per day, for precision at k.
        tested: ``"all"`` test events, or those of entities ``"not_caught"``: of whom no positive
            label of an event since the training interval began was known yet (a card that is
            known to be stolen is blocked).
        resamples: How often the test is drawn again for intervals; 0 for none.
        seed: Of everything that is drawn, in estimators that have no ``random_state`` of their own
            too.
        meant_for: What the model is for; goes into its card.
        not_for: What it must not be used for; goes into its card.
    """

    train: timedelta | None = None
    gap: timedelta | None = None
    test: timedelta = timedelta(days=7)
    tune: timedelta | None = None
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    candidates: int = 0
    folds: int = 3
    calibration: str = NONE
    threshold: AtCost | AlertsPerDay | None = None
    top: int = 100
    tested: str = ALL
    resamples: int = 500
    seed: int = 0
    meant_for: str = ""
    not_for: str = ""

    def __post_init__(self) -> None:
        for name, got, expected in (
            ("calibration", self.calibration, (NONE, SIGMOID, ISOTONIC)),
            ("tested", self.tested, (ALL, NOT_CAUGHT)),
        ):
            if got not in expected:
                msg = f"training: {name} is {got!r}; expected one of {', '.join(expected)}"
                raise Misconfigured(msg)
        for name, count, least in (
            ("folds", self.folds, 1),
            ("top", self.top, 1),
            ("candidates", self.candidates, 0),
            ("resamples", self.resamples, 0),
        ):
            if count < least:
                msg = f"training: {name} is {count}; expected at least {least}"
                raise Misconfigured(msg)
        lengths = {"train": self.train, "test": self.test, "tune": self.tune}
        for name, length in lengths.items():
            if length is not None and length <= timedelta(0):
                msg = f"training: {name} is {length}; expected a length above 0"
                raise Misconfigured(msg)
        if self.gap is not None and self.gap < timedelta(0):
            msg = f"training: gap is {self.gap}; expected 0 or more"
            raise Misconfigured(msg)

    @property
    def tunes(self) -> bool:
        """Whether a part of the training interval is kept for tuning."""
        return self.calibration != NONE or self.threshold is not None


class Recipe(NamedTuple):
    """What `estimator.py` says: an unfitted estimator, and how it is trained."""

    estimator: Any
    training: Training


def load_recipe(path: Path) -> Recipe:
    """Run an estimator file: its function ``build()`` and, if it has one, its ``training``.

    Raises:
        Misconfigured: There is no such file or function, or ``training`` is something else.
    """
    spec = importlib.util.spec_from_file_location("headrace_estimator", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"{path.name}: no such file; expected a Python file with a function build()"
        raise Misconfigured(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "build", None)):
        msg = f"{path.name}: no function build(); expected one that returns an unfitted estimator"
        raise Misconfigured(msg)
    training = getattr(module, "training", Training())
    if not isinstance(training, Training):
        got = type(training).__name__
        msg = f"{path.name}: `training` is a {got}; expected `training = Training(...)`"
        raise Misconfigured(msg)
    return Recipe(module.build(), training)
