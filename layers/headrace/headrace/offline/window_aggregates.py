"""Aggregates of many windows at once, each a span of one sorted timeline.

Sums are differences of running sums of scaled integers: exact, and rounded once, as in the
stream. May import timeline, scaled and aggregate_types.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from headrace.aggregate_types import (
    Aggregate,
    First,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Std,
    Sum,
)
from headrace.rows import EXACT

if TYPE_CHECKING:
    from headrace.offline.history import Floats, Ints, Mask
    from headrace.offline.scaled import Scaled
    from headrace.offline.timeline import Spans

Numbers = TypeVar("Numbers", "Ints", "Floats")

_SECOND_US = 1_000_000
_INT64 = 2.0**62


def seconds_since(time: Ints, as_of: Ints, spans: Spans) -> Floats:
    """Seconds from each window's newest event to the query; NaN where it has none."""
    found = np.full(len(as_of), np.nan)
    some = spans.stop > spans.start
    found[some] = (as_of[some] - time[spans.stop[some] - 1]) / _SECOND_US
    return found


class NumberWindows:
    """A numeric column made ready for windows.

    Attributes:
        values: In the order of the timeline; NaN where absent.
        key: Of the timeline: equal for events of one entity at one time.
    """

    def __init__(self, values: Floats, key: Ints, scaled: Scaled) -> None:
        self.values, self.key, self._scaled = values, key, scaled

    def of(self, aggregate: Aggregate, spans: Spans) -> list[Floats]:
        """One array of feature values per name of the aggregate; NaN where it has none."""
        match aggregate:
            case Sum():
                n, total = self._sums(spans)
                total[n == 0] = np.nan
                return [total]
            case Mean():
                n, total = self._sums(spans)
                with np.errstate(invalid="ignore"):  # 0 / 0 is absent
                    return [total / n]
            case Std():
                return [self._deviations(spans)]
            case Min() | Max():
                return [self._extremes(spans, np.fmin if isinstance(aggregate, Min) else np.fmax)]
            case First():
                return [self._first(spans)]
            case Last():
                return [self._newest(spans, 1)[0]]
            case LastN():
                return self._newest(spans, aggregate.n)
        msg = f"{aggregate!r} is no aggregate of numbers"
        raise TypeError(msg)

    @property
    def width(self) -> int:
        """The most bytes that a value can take in a row."""
        largest = int(np.abs(self._scaled.integers).max(initial=0))
        return next(width for width in (1, 2, 4, 8) if largest < 2 ** (8 * width - 1) - 1)

    @cached_property
    def _counted(self) -> Ints | None:
        """Present values before each place; None where all are present."""
        present = self._scaled.present
        return None if present is None else _before(present.astype(np.int64))

    @cached_property
    def _sums_are_doubles(self) -> bool:
        """Whether running sums stay so small that doubles hold them exactly, and faster."""
        integers = self._scaled.integers
        return len(integers) * float(np.abs(integers).max(initial=0)) < EXACT

    @cached_property
    def _summed(self) -> Ints | Floats:
        integers = self._scaled.integers
        return _before(integers.astype(np.float64)) if self._sums_are_doubles else _before(integers)

    @cached_property
    def _squared(self) -> Ints:
        """Modulo 2^64: differences that fit are right all the same."""
        return _before(self._scaled.integers * self._scaled.integers)

    def _present(self, spans: Spans) -> Ints:
        counted = self._counted
        if counted is None:
            return spans.stop - spans.start
        return counted[spans.stop] - counted[spans.start]

    def _sums(self, spans: Spans) -> tuple[Floats, Floats]:
        """Number and sum of the present values: 0 and 0 where there are none."""
        n = spans.length if self._counted is None else self._present(spans).astype(np.float64)
        summed, scale = self._summed, self._scaled.scale
        if self._sums_are_doubles:
            return n, (summed[spans.stop] - summed[spans.start]) / scale
        total = summed[spans.stop] - summed[spans.start]
        found = total / scale
        for place in np.flatnonzero(np.abs(total) >= EXACT):  # numpy would round twice
            found[place] = int(total[place]) / scale
        return n, found

    def _deviations(self, spans: Spans) -> Floats:
        n = self._present(spans)
        total = (self._summed[spans.stop] - self._summed[spans.start]).astype(np.int64)
        squares = self._squared[spans.stop] - self._squared[spans.start]
        spread = (n * squares - total * total).astype(np.float64)
        most = float(np.abs(self._scaled.integers).max(initial=0))
        large = n * most**2 >= _INT64  # the sum of squares itself may not fit
        for place in np.flatnonzero(large):
            spread[place] = self._spread(int(spans.start[place]), int(spans.stop[place]))
        for place in np.flatnonzero(~large & (n * squares.astype(np.float64) >= _INT64)):
            many, total_, squared = int(n[place]), int(total[place]), int(squares[place])
            spread[place] = many * squared - total_ * total_
        some = np.where(n > 0, n, np.nan)
        found: Floats = np.sqrt(np.maximum(spread, 0.0) / some / self._scaled.scale**2 / some)
        return found

    def _spread(self, start: int, stop: int) -> float:
        """Number times the sum of squares less the squared sum, of integers that need more bits."""
        values = self._scaled.integers[start:stop]
        if self._scaled.present is not None:
            values = values[self._scaled.present[start:stop]]
        whole = values.tolist()
        return float(len(whole) * sum(v * v for v in whole) - sum(whole) ** 2)

    def _extremes(self, spans: Spans, choose: np.ufunc) -> Floats:
        """Of each span, from two blocks of a power of two that cover it.

        Source: the sparse table of Bender and Farach-Colton, "The LCA Problem Revisited", 2000,
        one level at a time.
        """
        length = spans.stop - spans.start
        found = np.full(len(length), np.nan)
        level = np.frexp(length.astype(np.float64))[1] - 1  # -1 where the span is empty
        blocks = self.values
        for power in range(int(level.max(initial=-1)) + 1):
            if power:
                half = 1 << (power - 1)
                blocks = choose(blocks[:-half], blocks[half:])
            mine = np.flatnonzero(level == power)
            first, last = spans.start[mine], spans.stop[mine] - (1 << power)
            found[mine] = choose(blocks[first], blocks[last])
        return found + 0.0

    @cached_property
    def _present_places(self) -> Ints:
        present = self._scaled.present
        return np.arange(len(self.values)) if present is None else np.flatnonzero(present)

    @cached_property
    def _groups(self) -> Ints:
        """First place of each event's group: the events of its entity at its time."""
        places = np.arange(len(self.key))
        starts = np.concatenate([[True], self.key[1:] != self.key[:-1]])
        return np.maximum.accumulate(np.where(starts, places, 0))

    def _first(self, spans: Spans) -> Floats:
        """The smallest of the values at the oldest time that has any."""
        found = np.full(len(spans.start), np.nan)
        if not len(self._present_places):
            return found
        before = self._counted
        index = spans.start if before is None else before[spans.start]
        some = np.flatnonzero(self._present(spans) > 0)
        place = self._present_places[index[some]]
        group_end = np.searchsorted(self.key, self.key[place], side="right")
        last = np.minimum(group_end, spans.stop[some]) - 1
        found[some] = self._within_groups(np.fmin)[last]
        return found + 0.0

    def _within_groups(self, choose: np.ufunc) -> Floats:
        """The extreme of each group up to each place."""
        found, groups = self.values.copy(), self._groups
        step = 1
        longest = int((np.arange(len(groups)) - groups).max(initial=0))
        while step <= longest:  # doubling: after each round, of the last 2 * step values
            inside = np.flatnonzero(np.arange(step, len(groups)) - step >= groups[step:]) + step
            found[inside] = choose(found[inside], found[inside - step])
            step *= 2
        return found

    def _newest(self, spans: Spans, n: int) -> list[Floats]:
        """The n values with the largest (time, value), largest first."""
        order = np.lexsort((self.values, self.key)) if self._tied else np.arange(len(self.key))
        values = self.values[order]
        present = ~np.isnan(values)  # NaN goes last among equal keys: places of groups stay
        ranked, counted = values[present], _before(present.astype(np.int64))
        first, last = counted[spans.start], counted[spans.stop]
        found = []
        for rank in range(1, n + 1):
            place = last - rank
            there = place >= first
            column = np.full(len(first), np.nan)
            column[there] = ranked[place[there]]
            found.append(column + 0.0)
        for query in np.flatnonzero(self._cut(spans)) if self._tied else ():
            for column, value in zip(found, self._newest_of(spans, int(query), n), strict=True):
                column[query] = value
        return found

    @cached_property
    def _tied(self) -> bool:
        return bool((self.key[1:] == self.key[:-1]).any())

    def _cut(self, spans: Spans) -> Mask:
        """Queries whose window ends inside a group: the rest of it had not arrived."""
        inside = (spans.stop > spans.start) & (spans.stop < len(self.key))
        after = np.minimum(spans.stop, len(self.key) - 1)
        found: Mask = inside & (self.key[after] == self.key[spans.stop - 1])
        return found

    def _newest_of(self, spans: Spans, query: int, n: int) -> list[float]:
        start, stop = int(spans.start[query]), int(spans.stop[query])
        chosen: list[float] = []
        while stop > start and len(chosen) < n:
            group = max(int(self._groups[stop - 1]), start)
            values = self.values[group:stop]
            chosen += sorted(values[~np.isnan(values)].tolist(), reverse=True)
            stop = group
        return [*chosen[:n], *[np.nan] * (n - len(chosen))]


def distinct(codes: Ints, spans: Spans) -> Floats:
    """Number of different values in each span; codes below 0 do not count.

    A value counts at its newest occurrence in the span. Starts and stops never go back from
    query to query, so that each occurrence counts in one run of queries.
    """
    places = np.flatnonzero(codes >= 0)
    mine = codes[places]
    order = np.argsort(mine, kind="stable")
    following = np.full(len(places), 2**62)
    same = mine[order[1:]] == mine[order[:-1]]
    following[order[:-1][same]] = places[order[1:][same]]
    first = np.searchsorted(spans.stop, places, side="right")
    last = np.minimum(
        np.searchsorted(spans.start, places, side="right"),
        np.searchsorted(spans.stop, following, side="right"),
    )
    runs = np.flatnonzero(last > first)
    changes = np.zeros(len(spans.stop) + 1, np.int64)
    np.add.at(changes, first[runs], 1)
    np.subtract.at(changes, last[runs], 1)
    return np.cumsum(changes[:-1]).astype(np.float64)


def _before(values: Numbers) -> Numbers:
    """The sum of the values before each place, and of all at the end."""
    found: Numbers = np.zeros(len(values) + 1, values.dtype)
    np.cumsum(values, out=found[1:])
    return found
