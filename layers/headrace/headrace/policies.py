"""What stands in for an absent value: a part of what users write. May import fields.

A policy that looks at the training data is fitted on the training interval, and its statistics
are packaged with the model. One that looks at the entity reads a feature of the definition's own
views, which is computed like all others, in training too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.fields import Entity

LEAST_OF_GROUP = 20


@dataclass(frozen=True, slots=True)
class Constant:
    """Impute this value."""

    value: float


@dataclass(frozen=True, slots=True)
class TrainingMean:
    """Impute the mean of the training data's present values.

    Attributes:
        by: A Text, Flag or entity field: the mean of the events with the same value, where at
            least ``least`` of the training events have it; else of all.
        least: See ``by``.
    """

    by: str = ""
    least: int = LEAST_OF_GROUP


@dataclass(frozen=True, slots=True)
class TrainingMedian:
    """Impute the median of the training data's present values; ``by`` as in TrainingMean."""

    by: str = ""
    least: int = LEAST_OF_GROUP


@dataclass(frozen=True, slots=True)
class MostFrequent:
    """Impute the training data's commonest value, of equally common ones the smallest.

    ``by`` as in TrainingMean.
    """

    by: str = ""
    least: int = LEAST_OF_GROUP


@dataclass(frozen=True, slots=True)
class LastKnown:
    """Impute the entity's newest present value of the field, where it is not older than ``within``.

    Reads the feature ``Last(field)`` of a view of the entity with that window.
    """

    entity: Entity
    within: timedelta


@dataclass(frozen=True, slots=True)
class RunningMean:
    """Impute the entity's own mean of the field over ``within``.

    Reads the feature ``Mean(field)`` of a view of the entity with that window.
    """

    entity: Entity
    within: timedelta


@dataclass(frozen=True, slots=True)
class Feature:
    """Impute the value of another windowed feature, such as the same one of a longer window."""

    name: str


@dataclass(frozen=True, slots=True)
class AsNan:
    """Leave it absent: the model gets NaN, and must be one that takes it."""


@dataclass(frozen=True, slots=True)
class Required:
    """Do not score without it: the ladder's next rung answers, and training leaves the row out.

    The batch run, which has no event to take a value from, imputes the training median.
    """


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Try one policy after the other; the last one must be one that always answers."""

    policies: Sequence[Policy]


Fitted = TrainingMean | TrainingMedian | MostFrequent
FromEntity = LastKnown | RunningMean | Feature
Policy = Constant | Fitted | FromEntity | AsNan | Required | FirstOf


def steps(policy: Policy) -> tuple[Policy, ...]:
    """The single policies that a policy tries, in order."""
    return tuple(policy.policies) if isinstance(policy, FirstOf) else (policy,)
