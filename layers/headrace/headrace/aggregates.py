"""Statistics: one idea each, with three operations on what it accumulates.

``of`` sums up a slice of rows, ``merge`` joins two accumulations (associative and commutative up
to rounding), and the aggregate's reader turns one into feature values. Rows and tiles go through
the same three, so that there is one definition of an aggregate. An accumulation of nothing is
None. Accumulations are msgpack values. May import definition and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest, nsmallest
from math import fsum, sqrt
from operator import mul
from typing import TYPE_CHECKING, Any, Protocol

from headrace.definition import (
    Aggregate,
    Count,
    DistinctCount,
    First,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    TimeSinceLast,
)
from headrace.rows import ABSENT_HASH

if TYPE_CHECKING:
    from headrace.rows import Rows

SKETCH_SIZE = 256
_HASH_SPACE = 2**64
_SECOND_US = 1_000_000

Accumulation = Any  # of msgpack types; its shape is its statistic's own business
Reader = Callable[[Any, int], tuple[float | None, ...]]


class Statistic(Protocol):
    """What a window or a tile accumulates."""

    def of(self, rows: Rows, start: int, stop: int) -> Accumulation:
        """Accumulate rows[start:stop]; None where that is nothing."""

    def merge(self, a: Accumulation, b: Accumulation) -> Accumulation:
        """Join two accumulations that are not None."""


@dataclass(frozen=True, slots=True)
class RowCount:
    """Number of rows."""

    def of(self, rows: Rows, start: int, stop: int) -> int | None:
        return stop - start or None

    def merge(self, a: int, b: int) -> int:
        return a + b


@dataclass(frozen=True, slots=True)
class Newest:
    """Newest event time, microseconds UTC."""

    def of(self, rows: Rows, start: int, stop: int) -> int | None:
        return rows.time(stop - 1) if stop > start else None

    def merge(self, a: int, b: int) -> int:
        return max(a, b)


@dataclass(frozen=True, slots=True)
class Total:
    """(n, sum, compensation): the sum is exact to about 32 digits.

    Source: Knuth's TwoSum; Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997.
    """

    column: int

    def of(self, rows: Rows, start: int, stop: int) -> tuple[int, float, float] | None:
        n, total = rows.columns[self.column].total(start, stop)
        return (n, total, 0.0) if n else None

    def merge(
        self, a: tuple[int, float, float], b: tuple[int, float, float]
    ) -> tuple[int, float, float]:
        total = a[1] + b[1]
        part = total - a[1]
        error = (a[1] - (total - part)) + (b[1] - part)
        return a[0] + b[0], total, a[2] + b[2] + error


@dataclass(frozen=True, slots=True)
class Moments:
    """(n, mean, sum of squared deviations).

    Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979.
    """

    column: int

    def of(self, rows: Rows, start: int, stop: int) -> tuple[int, float, float] | None:
        column = rows.columns[self.column]
        values = column.packed(start, stop)
        n = len(values)
        if not n:
            return None
        if column.code == "d":
            mean = fsum(values) / n
            apart = [value - mean for value in values]
            return n, mean, fsum(map(mul, apart, apart))
        total = sum(values)
        squares = sum(map(mul, values, values))
        return n, total / n / column.scale, (n * squares - total * total) / n / column.scale**2

    def merge(
        self, a: tuple[int, float, float], b: tuple[int, float, float]
    ) -> tuple[int, float, float]:
        n, apart = a[0] + b[0], b[1] - a[1]
        return n, a[1] + apart * b[0] / n, a[2] + b[2] + apart * apart * a[0] * b[0] / n


@dataclass(frozen=True, slots=True)
class Extreme:
    """Smallest or largest value."""

    column: int
    choose: Callable[[Any], Any]

    def of(self, rows: Rows, start: int, stop: int) -> float | None:
        column = rows.columns[self.column]
        values = column.packed(start, stop)
        return self.choose(values) / column.scale if len(values) else None

    def merge(self, a: float, b: float) -> float:
        chosen: float = self.choose((a, b))
        return chosen


@dataclass(frozen=True, slots=True)
class Ends:
    """(time, value) of the n oldest or newest rows, outermost first; ties go by value."""

    column: int
    n: int
    choose: Callable[[int, Any], list[tuple[int, float]]]

    def of(self, rows: Rows, start: int, stop: int) -> list[tuple[int, float]] | None:
        times = rows.times_us(start, stop)
        return self.choose(self.n, rows.columns[self.column].present(start, stop, times)) or None

    def merge(
        self, a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]]
    ) -> list[tuple[int, float]]:
        return self.choose(self.n, [*map(tuple, a), *map(tuple, b)])


@dataclass(frozen=True, slots=True)
class Different:
    """(hashes, whether it is cut): all hashes of a slice; merged ones keep the 256 smallest.

    Source: k minimum values; Bar-Yossef and others, "Counting Distinct Elements in a Data
    Stream", 2002.
    """

    column: int

    def of(self, rows: Rows, start: int, stop: int) -> tuple[list[int], bool] | None:
        hashes = set(rows.columns[self.column].data[start:stop])
        hashes.discard(ABSENT_HASH)
        return (sorted(hashes), False) if hashes else None

    def merge(
        self, a: tuple[Sequence[int], bool], b: tuple[Sequence[int], bool]
    ) -> tuple[list[int], bool]:
        both = {*a[0], *b[0]}
        if len(both) <= SKETCH_SIZE and not (a[1] or b[1]):
            return sorted(both), False
        return nsmallest(SKETCH_SIZE, both), True


def _column_statistic(aggregate: Aggregate, column: int) -> Statistic:
    match aggregate:
        case Sum() | Mean():
            return Total(column)
        case Std():
            return Moments(column)
        case Min():
            return Extreme(column, min)
        case Max():
            return Extreme(column, max)
        case First():
            return Ends(column, 1, nsmallest)
        case Last():
            return Ends(column, 1, nlargest)
        case LastN():
            return Ends(column, aggregate.n, nlargest)
    return Different(column)


def statistic(aggregate: Aggregate, column: int) -> Statistic:
    """The statistic behind an aggregate over a column of the rows (-1 where it has none)."""
    match aggregate:
        case Count():
            return RowCount()
        case TimeSinceLast():
            return Newest()
    return _column_statistic(aggregate, column)


def reader(aggregate: Aggregate) -> Reader:
    """How an aggregate's feature values come out of what its statistic accumulated.

    Returns:
        A function of (accumulation or None for an empty window, as_of in microseconds UTC). It
        gives one value, or n for LastN. Counts of nothing are 0, all else of nothing is None.
    """
    if isinstance(aggregate, LastN):
        return partial(_read_last_n, aggregate.n)
    return _READERS[type(aggregate)]


def _read_count(found: int | None, _: int) -> tuple[float]:
    return (float(found or 0),)


def _read_time_since(found: int | None, as_of: int) -> tuple[float | None]:
    return (None if found is None else (as_of - found) / _SECOND_US,)


def _read_sum(found: tuple[int, float, float] | None, _: int) -> tuple[float | None]:
    return (None if found is None else found[1] + found[2],)


def _read_mean(found: tuple[int, float, float] | None, _: int) -> tuple[float | None]:
    return (None if found is None else (found[1] + found[2]) / found[0],)


def _read_std(found: tuple[int, float, float] | None, _: int) -> tuple[float | None]:
    return (None if found is None else sqrt(max(found[2], 0.0) / found[0]),)


def _read_value(found: float | None, _: int) -> tuple[float | None]:
    return (found,)


def _read_end(found: Sequence[tuple[int, float]] | None, _: int) -> tuple[float | None]:
    return (None if found is None else found[0][1],)


def _read_last_n(
    n: int, found: Sequence[tuple[int, float]] | None, _: int
) -> tuple[float | None, ...]:
    values = [value for _, value in found or ()]
    return (*values, *[None] * (n - len(values)))


def _read_distinct(found: tuple[Sequence[int], bool] | None, _: int) -> tuple[float]:
    if found is None:
        return (0.0,)
    hashes, cut = found
    if not cut:
        return (float(len(hashes)),)
    return (float(round((SKETCH_SIZE - 1) * _HASH_SPACE / (max(hashes) + 1))),)


_READERS: dict[type, Reader] = {
    Count: _read_count,
    TimeSinceLast: _read_time_since,
    Sum: _read_sum,
    Mean: _read_mean,
    Std: _read_std,
    Min: _read_value,
    Max: _read_value,
    First: _read_end,
    Last: _read_end,
    DistinctCount: _read_distinct,
}
