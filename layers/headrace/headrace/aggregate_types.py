"""What a view can compute in its windows: a part of what users write.

Structs, since making a dataclass of each takes long, in every cold start. May import
nothing of ours.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Count(msgspec.Struct, frozen=True):
    """Number of events in the window; 0 where there are none."""

    kind: ClassVar[str] = "count"
    field: ClassVar[str] = ""


class TimeSinceLast(msgspec.Struct, frozen=True):
    """Seconds since the newest event in the window (needs ``include_current=False``)."""

    kind: ClassVar[str] = "time_since_last"
    field: ClassVar[str] = ""


class Sum(msgspec.Struct, frozen=True):
    """Sum of the field over the window."""

    kind: ClassVar[str] = "sum"
    field: str


class Mean(msgspec.Struct, frozen=True):
    """Mean of the field over the window."""

    kind: ClassVar[str] = "mean"
    field: str


class Std(msgspec.Struct, frozen=True):
    """Population standard deviation of the field over the window (divides by n)."""

    kind: ClassVar[str] = "std"
    field: str


class Min(msgspec.Struct, frozen=True):
    """Smallest value of the field in the window."""

    kind: ClassVar[str] = "min"
    field: str


class Max(msgspec.Struct, frozen=True):
    """Largest value of the field in the window."""

    kind: ClassVar[str] = "max"
    field: str


class First(msgspec.Struct, frozen=True):
    """Value of the oldest event in the window; the smaller one at equal event times."""

    kind: ClassVar[str] = "first"
    field: str


class Last(msgspec.Struct, frozen=True):
    """Value of the newest event in the window; the larger one at equal event times."""

    kind: ClassVar[str] = "last"
    field: str


class LastN(msgspec.Struct, frozen=True):
    """Values of the n newest events in the window, newest first: n features."""

    kind: ClassVar[str] = "last"
    field: str
    n: int


class DistinctCount(msgspec.Struct, frozen=True):
    """Number of different values of the field (text and entity ids too); 0 where none.

    Exact in exact windows; in others up to 256 values, then an estimate, 6% standard error.
    """

    kind: ClassVar[str] = "distinct_count"
    field: str


Aggregate = (
    Count | TimeSinceLast | Sum | Mean | Std | Min | Max | First | Last | LastN | DistinctCount
)
