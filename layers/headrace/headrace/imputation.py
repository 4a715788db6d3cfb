"""Missing to value, with the cause: the last step before the model.

The statistics are fitted on training data and packaged with the model, so that stream, request
and batch impute the same values. May import definition and errors.
"""

from __future__ import annotations

from enum import StrEnum
from math import fsum
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from headrace.definition import Constant, Definition, TrainingMean
from headrace.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Cause(StrEnum):
    """Why a value is absent."""

    NOT_IN_EVENT = "not_in_event"  # an optional field did not come
    NEVER_SEEN = "never_seen"  # nothing was known of the entity
    WINDOW_EMPTY = "window_empty"  # the entity is known, the window holds nothing
    NOT_COMPUTABLE = "not_computable"  # a request feature lacks what it needs
    NO_EVENT = "no_event"  # the batch path has no event to take it from


class Imputed(msgspec.Struct, frozen=True):
    """An imputed value and why it was needed."""

    cause: Cause
    value: float


class Imputer:
    """Replaces absent values by the fitted ones."""

    def __init__(self, definition: Definition, statistics: Mapping[str, float]) -> None:
        """Take the statistics of a bundle.

        Raises:
            BundleError: A column of the definition has no statistic.
        """
        lacking = [name for name in definition.columns if name not in statistics]
        if lacking:
            msg = f"imputation.json: no statistic for {', '.join(lacking)}; train the model again"
            raise BundleError(msg)
        self._values = {name: float(statistics[name]) for name in definition.columns}

    def impute(self, column: str, cause: Cause) -> Imputed:
        """The value that stands in for an absent one."""
        return Imputed(cause, self._values[column])


def fit_statistics(
    definition: Definition, columns: Mapping[str, Sequence[float | None]]
) -> dict[str, float]:
    """Imputation statistics of every column, from training data.

    Args:
        definition: Gives each column's policy.
        columns: Column name -> values of the training rows; None where absent.

    Raises:
        BundleError: A policy needs a present value and the training data has none.
    """
    return {name: _fit(definition, name, columns[name]) for name in definition.columns}


def _fit(definition: Definition, name: str, values: Sequence[float | None]) -> float:
    policy = definition.policy(name)
    if isinstance(policy, Constant):
        return float(policy.value)
    present = [value for value in values if value is not None]
    if not present:
        msg = f"imputation of {name!r}: the training data has no value; expected Constant(x)"
        raise BundleError(msg)
    if isinstance(policy, TrainingMean):
        return fsum(present) / len(present)
    return float(median(present))
