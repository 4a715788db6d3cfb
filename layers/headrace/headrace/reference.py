"""What the fields of the scored source looked like in training: what the stream is held against.

May import definition and msgspec only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headrace.definition import Number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Definition

LEVELS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Of the quantiles that are kept."""


class FieldReference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field in the training interval.

    Attributes:
        events: Events in the interval.
        missing: Of these, how many lacked the field or had an invalid value.
        commonest: Share of the commonest value among the present ones.
        quantiles: Of the present values at ``LEVELS``, in the field's unit; none for texts, flags
            and fields that are never there.
        invalid: Of the missing, how many had an invalid value.
    """

    events: int
    missing: int
    commonest: float = 0.0
    quantiles: tuple[float, ...] = ()
    invalid: int = 0


Reference = dict[str, FieldReference]
"""Field of the scored source -> what it looked like."""


def fit_reference(
    definition: Definition,
    columns: Mapping[str, Sequence[float | str | bool | None]],
    invalid: Mapping[str, int] | None = None,
) -> Reference:
    """Look at the events of the training interval.

    Args:
        definition: Says the fields of the scored source.
        columns: Field -> its values, None where absent or invalid; fields without a column were
            never there.
        invalid: Field -> how many of the values that are None had been invalid.
    """
    fields = definition.scored.fields.items()
    return {
        name: msgspec.structs.replace(
            _of_field(columns[name], numeric=isinstance(kind, Number)),
            invalid=(invalid or {}).get(name, 0),
        )
        for name, kind in fields
        if name in columns
    }


def _of_field(values: Sequence[float | str | bool | None], *, numeric: bool) -> FieldReference:
    present = [value for value in values if value is not None]
    counts: dict[object, int] = {}
    for value in present:
        counts[value] = counts.get(value, 0) + 1
    commonest = max(counts.values()) / len(present) if present else 0.0
    quantiles: tuple[float, ...] = ()
    if numeric and present:
        ranked = sorted(float(value) for value in present)
        last = len(ranked) - 1
        quantiles = tuple(ranked[round(level * last)] for level in LEVELS)
    return FieldReference(len(values), len(values) - len(present), commonest, quantiles)
