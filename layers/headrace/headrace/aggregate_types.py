"""What a view can compute in its windows: a part of what users write.

May import nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Count:
    """Number of events in the window; 0 where there are none."""

    kind: ClassVar[str] = "count"
    field: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class TimeSinceLast:
    """Seconds since the newest event in the window (needs ``include_current=False``)."""

    kind: ClassVar[str] = "time_since_last"
    field: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum of the field over the window."""

    kind: ClassVar[str] = "sum"
    field: str


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of the field over the window."""

    kind: ClassVar[str] = "mean"
    field: str


@dataclass(frozen=True, slots=True)
class Std:
    """Population standard deviation of the field over the window (divides by n)."""

    kind: ClassVar[str] = "std"
    field: str


@dataclass(frozen=True, slots=True)
class Min:
    """Smallest value of the field in the window."""

    kind: ClassVar[str] = "min"
    field: str


@dataclass(frozen=True, slots=True)
class Max:
    """Largest value of the field in the window."""

    kind: ClassVar[str] = "max"
    field: str


@dataclass(frozen=True, slots=True)
class First:
    """Value of the oldest event in the window; the smaller one at equal event times."""

    kind: ClassVar[str] = "first"
    field: str


@dataclass(frozen=True, slots=True)
class Last:
    """Value of the newest event in the window; the larger one at equal event times."""

    kind: ClassVar[str] = "last"
    field: str


@dataclass(frozen=True, slots=True)
class LastN:
    """Values of the n newest events in the window, newest first: n features."""

    kind: ClassVar[str] = "last"
    field: str
    n: int


@dataclass(frozen=True, slots=True)
class DistinctCount:
    """Number of different values of the field (text and entity ids too); 0 where none.

    Exact in exact windows; in others up to 256 values, then an estimate, 6% standard error.
    """

    kind: ClassVar[str] = "distinct_count"
    field: str


Aggregate = (
    Count | TimeSinceLast | Sum | Mean | Std | Min | Max | First | Last | LastN | DistinctCount
)
