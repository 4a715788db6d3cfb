"""What stands in for an absent value: a part of what users write. May import nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constant:
    """Impute this value."""

    value: float


@dataclass(frozen=True, slots=True)
class TrainingMean:
    """Impute the mean of the training data's present values."""


@dataclass(frozen=True, slots=True)
class TrainingMedian:
    """Impute the median of the training data's present values."""


Policy = Constant | TrainingMean | TrainingMedian
