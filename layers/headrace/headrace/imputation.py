"""Missing to value, with the cause: the last step before the model.

One imputer acts in stream, request, batch and training. What it needs of the training data is
fitted once, on the training interval, and packaged with the model. May import definition and
errors.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from math import fsum, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.definition import AsNan, Constant, Definition, Policy, Required
from headrace.errors import BundleError
from headrace.policies import Fitted, FromEntity, MostFrequent, TrainingMean, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Cause(StrEnum):
    """Why a value is absent."""

    NOT_IN_EVENT = "not_in_event"  # an optional field did not come
    INVALID = "invalid"  # it came, and broke its type, its bounds or a rule
    NEVER_SEEN = "never_seen"  # nothing was known of the entity
    WINDOW_EMPTY = "window_empty"  # the entity is known, the window holds nothing
    LATE = "late"  # the event came so late that what its window held may be gone
    NOT_KEPT = "not_kept"  # the window has grown: it reaches back further than was kept so far
    EXPIRED = "expired"  # the table's row was loaded longer ago than it is valid
    NOT_IN_TABLE = "not_in_table"  # the table's row has no value for it
    LOOKUP_FAILED = "lookup_failed"  # the table's row was not read in time, or cannot be
    NOT_COMPUTABLE = "not_computable"  # a request feature lacks what it needs
    NO_EVENT = "no_event"  # the batch path has no event to take it from


class Imputed(msgspec.Struct, frozen=True, gc=False):
    """What an absent value was replaced by, and why it was absent.

    Attributes:
        cause: Why it was absent.
        value: What stands in for it; None where the model got NaN, or nothing may stand in.
        policy: The policy that gave it, such as ``training_median`` or ``last_known``.
    """

    cause: Cause
    value: float | None
    policy: str = ""


class Absent(NamedTuple):
    """An absent value with what may stand in for it.

    Attributes:
        cause: Why it is absent.
        features: Feature -> value before imputation.
        fields: The event's fields; None where there is no event.
    """

    cause: Cause
    features: Mapping[str, float | None]
    fields: Any


class Statistic(msgspec.Struct, frozen=True):
    """What a policy keeps of the training data: of all rows, and of each large group."""

    value: float | None = None
    groups: dict[str, float] = {}


Statistics = dict[str, list[Statistic]]
"""Column -> one statistic for each policy that the column tries, in order."""

UNFITTED = Statistic(nan)

_Way = tuple[str, "Callable[[Absent], float | None]"]


class Imputer:
    """Replaces absent values, each by its column's policy."""

    def __init__(
        self, definition: Definition, statistics: Mapping[str, Sequence[Statistic]]
    ) -> None:
        """Take the statistics of a bundle.

        Raises:
            BundleError: A column of the definition has not as many statistics as policies.
        """
        self._ways: dict[str, tuple[list[_Way], _Way]] = {}
        self._alike: dict[str, dict[Cause, Imputed]] = {}
        for column in definition.columns:
            policies, found = steps(definition.policy(column)), statistics.get(column, ())
            if len(policies) != len(found):
                msg = (
                    f"imputation.json: {len(found)} statistics for {column}; expected "
                    f"{len(policies)}, one for each of its policies; train the model again"
                )
                raise BundleError(msg)
            *first, last = [
                _way(definition, column, policy, statistic)
                for policy, statistic in zip(policies, found, strict=True)
            ]
            self._ways[column] = first, last
            if not first and _is_alike(policies[0], found[0]):
                causes = {cause: Absent(cause, {}, None) for cause in Cause}
                self._alike[column] = {c: self.impute(column, a) for c, a in causes.items()}

    def alike(self, column: str) -> Mapping[Cause, Imputed]:
        """By cause, what stands in for an absent value whatever the event; empty where it matters.

        Most columns have a constant or a statistic, and what stands in is made once.
        """
        return self._alike.get(column, {})

    def impute(self, column: str, absent: Absent) -> Imputed:
        """What stands in for an absent value."""
        first, (last, last_way) = self._ways[column]
        for name, way in first:
            value = way(absent)
            if value is not None:
                return Imputed(absent.cause, value, name)
        value = last_way(absent)
        is_nan = value != value
        return Imputed(absent.cause, None if is_nan else value, last)


_REQUIRED = "required"


def refuses(imputed: Imputed) -> bool:
    """Whether nothing may stand in for the value, so that the model must not score it."""
    return imputed.value is None and imputed.policy == _REQUIRED


def group_key(value: object) -> str | None:
    """A field's value as a group; a flag that came as true is the one that came as 1."""
    if value is None:
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def unfitted(definition: Definition) -> Statistics:
    """Statistics of a definition that has not been trained: NaN, where no constant is given."""
    return {
        column: [
            Statistic(float(policy.value)) if isinstance(policy, Constant) else UNFITTED
            for policy in steps(definition.policy(column))
        ]
        for column in definition.columns
    }


def fit_statistics(
    definition: Definition,
    columns: Mapping[str, Sequence[float | None]],
    groups: Mapping[str, Sequence[str | None]],
) -> Statistics:
    """Statistics of every column, from the rows of the training interval.

    Args:
        definition: Gives each column's policy.
        columns: Column name -> values of the training rows; None where absent.
        groups: Field -> ``group_key`` of its value in the training rows, for each field that
            policies group by.

    Raises:
        BundleError: A policy needs a present value and the training data has none.
    """
    return {
        column: [
            _fit(column, policy, columns[column], groups)
            for policy in steps(definition.policy(column))
        ]
        for column in definition.columns
    }


def grouping_fields(definition: Definition) -> tuple[str, ...]:
    """The fields that policies group by."""
    policies = [each for name in definition.columns for each in steps(definition.policy(name))]
    return tuple(dict.fromkeys(p.by for p in policies if isinstance(p, Fitted) and p.by))


def _way(definition: Definition, column: str, policy: Policy, statistic: Statistic) -> _Way:
    return _name(policy), _answer(definition, column, policy, statistic)


def _is_alike(policy: Policy, statistic: Statistic) -> bool:
    """Whether a policy answers by the cause alone: neither by the entity nor by a group."""
    return not isinstance(policy, FromEntity) and not statistic.groups


def _answer(
    definition: Definition, column: str, policy: Policy, statistic: Statistic
) -> Callable[[Absent], float | None]:
    value, groups = statistic.value, statistic.groups
    if isinstance(policy, Required):
        return lambda absent: value if absent.cause is Cause.NO_EVENT else None
    if isinstance(policy, FromEntity):
        feature = definition.feature_for(column, policy) or ""
        return lambda absent: absent.features.get(feature)
    if groups and isinstance(policy, Fitted):
        by = policy.by
        return lambda absent: groups.get(group_key(getattr(absent.fields, by, None)) or "", value)
    if isinstance(policy, AsNan):
        return lambda _: nan
    return lambda _: value


def _name(policy: Policy) -> str:
    """``TrainingMedian`` -> ``training_median``."""
    letters = type(policy).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in letters).lstrip("_")


def _fit(
    column: str,
    policy: Policy,
    values: Sequence[float | None],
    groups: Mapping[str, Sequence[str | None]],
) -> Statistic:
    if isinstance(policy, Constant):
        return Statistic(float(policy.value))
    if not isinstance(policy, (Fitted, Required)):
        return Statistic()
    present = [value for value in values if value is not None]
    if not present:
        msg = f"imputation of {column!r}: the training data has no value; expected Constant(x)"
        raise BundleError(msg)
    if isinstance(policy, Required) or not policy.by:
        return Statistic(_typical(policy, present))
    found = _grouped(values, groups.get(policy.by, [None] * len(values)))
    large = {key: part for key, part in found.items() if len(part) >= policy.least}
    return Statistic(
        _typical(policy, present), {key: _typical(policy, large[key]) for key in sorted(large)}
    )


def _grouped(values: Iterable[float | None], keys: Iterable[str | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for value, key in zip(values, keys, strict=True):
        if value is not None and key is not None:
            found.setdefault(key, []).append(value)
    return found


def _typical(policy: Policy, present: Sequence[float]) -> float:
    if isinstance(policy, TrainingMean):
        return fsum(present) / len(present)
    if isinstance(policy, MostFrequent):
        counts = Counter(present)
        most = max(counts.values())
        return float(min(value for value, times in counts.items() if times == most))
    from statistics import median  # here: only training fits

    return float(median(present))
