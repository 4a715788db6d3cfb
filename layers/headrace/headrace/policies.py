"""What stands in for an absent value: a part of what users write. May import fields.

A policy that looks at the training data is fitted on the training interval, and its statistics
are packaged with the model. One that looks at the entity reads a feature of the definition's own
views, which is computed like all others, in training too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from headrace.fields import Entity

LEAST_OF_GROUP = 20


class Constant(msgspec.Struct, frozen=True):
    """Impute this value."""

    value: float


class TrainingMean(msgspec.Struct, frozen=True):
    """Impute the mean of the training data's present values.

    Attributes:
        by: A Text, Flag or entity field: the mean of the events with the same value, where at
            least ``least`` of the training events have it; else of all.
        least: See ``by``.
    """

    by: str = ""
    least: int = LEAST_OF_GROUP


class TrainingMedian(msgspec.Struct, frozen=True):
    """Impute the median of the training data's present values; ``by`` as in TrainingMean."""

    by: str = ""
    least: int = LEAST_OF_GROUP


class MostFrequent(msgspec.Struct, frozen=True):
    """Impute the training data's commonest value, of equally common ones the smallest.

    ``by`` as in TrainingMean.
    """

    by: str = ""
    least: int = LEAST_OF_GROUP


class LastKnown(msgspec.Struct, frozen=True):
    """Impute the entity's newest present value of the field, where it is not older than ``within``.

    Reads the feature ``Last(field)`` of a view of the entity with that window.
    """

    entity: Entity
    within: timedelta


class RunningMean(msgspec.Struct, frozen=True):
    """Impute the entity's own mean of the field over ``within``.

    Reads the feature ``Mean(field)`` of a view of the entity with that window.
    """

    entity: Entity
    within: timedelta


class Feature(msgspec.Struct, frozen=True):
    """Impute the value of another windowed feature, such as the same one of a longer window."""

    name: str


class AsNan(msgspec.Struct, frozen=True):
    """Leave it absent: the model gets NaN, and must be one that takes it."""


class Required(msgspec.Struct, frozen=True):
    """Do not score without it: the ladder's next rung answers, and training leaves the row out.

    The batch run, which has no event to take a value from, imputes the training median.
    """


class FirstOf(msgspec.Struct, frozen=True):
    """Try one policy after the other; the last one must be one that always answers."""

    policies: Sequence[Policy]


Fitted = TrainingMean | TrainingMedian | MostFrequent
FromEntity = LastKnown | RunningMean | Feature
Policy = Constant | Fitted | FromEntity | AsNan | Required | FirstOf


def steps(policy: Policy) -> tuple[Policy, ...]:
    """The single policies that a policy tries, in order."""
    return tuple(policy.policies) if isinstance(policy, FirstOf) else (policy,)
