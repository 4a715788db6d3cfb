"""Events of one source sorted by entity and time, and the spans of them that windows cover.

An entity's code and an event's time make one sortable integer, the key, so that all entities are
searched in one sorted array. May import history, definition and events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from headrace.definition import LIFETIME
from headrace.events import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from headrace.definition import View
    from headrace.offline.history import History, Ints, Mask

_UNITS_US = (60_000_000, 1_000_000, 1_000, 1)
_LARGEST_KEY = 2**62
_DIGIT = 2**16


class Grid(NamedTuple):
    """How times are counted: as ticks from 1 on, so that entities and ticks make one integer.

    Attributes:
        unit: Microseconds from tick to tick; every event lies on one.
        first: Time of the first tick, microseconds UTC.
        span: One more than the last tick: keys of one entity lie within it.
        instants: All times there are, each a tick, where evenly spaced ones would be too many.
    """

    unit: int
    first: int
    span: int
    instants: Ints | None = None

    def ticks(self, time: Ints) -> Ints:
        """The last tick at or before each time; 0 before the first event."""
        if self.instants is not None:
            return np.searchsorted(self.instants, time, side="right")
        return np.clip((time - self.first) // self.unit + 1, 0, self.span - 1)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events of one source, sorted by entity, event time and order of arrival.

    Attributes:
        grid: How the keys count time.
        places: Place of each event in its history.
        code: Number of each event's entity.
        key: ``code * grid.span`` plus the tick of its time, ascending.
        time: Event time, microseconds UTC.
        rank: Place in the order of arrival.
    """

    grid: Grid
    places: Ints
    code: Ints
    key: Ints
    time: Ints
    rank: Ints

    def __len__(self) -> int:
        """Number of events."""
        return len(self.places)

    def kept(self, mask: Mask) -> Timeline:
        """Some of the events."""
        parts = (self.places, self.code, self.key, self.time, self.rank)
        return Timeline(self.grid, *(part[mask] for part in parts))

    @property
    def newest_rank(self) -> Ints:
        """The largest rank of the entity's events up to each one, plus its code times 2^32."""
        return np.maximum.accumulate(self.rank + (self.code << 32))


class Spans(NamedTuple):
    """Which events of a timeline each query's window covers: those from start to stop."""

    start: Ints
    stop: Ints


def entity_codes(columns: Sequence[pl.Series]) -> list[Ints]:
    """A number for each entity, the same for the same id in every column, from 0 on."""
    if all(column.dtype.is_integer() for column in columns):
        return _codes_of_integers([column.cast(pl.Int64).to_numpy() for column in columns])
    texts = pl.concat([column.cast(pl.String) for column in columns])
    codes = texts.cast(pl.Categorical).to_physical().cast(pl.Int64).to_numpy()
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])


def _codes_of_integers(columns: list[Ints]) -> list[Ints]:
    there = [column for column in columns if len(column)]
    if not there:
        return columns
    low, high = min(int(c.min()) for c in there), max(int(c.max()) for c in there)
    total = sum(len(column) for column in columns)
    if high - low < max(2 * total, _DIGIT):
        return columns if low == 0 else [column - low for column in columns]
    _, codes = np.unique(np.concatenate(columns), return_inverse=True)
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])


def grid_of(histories: Sequence[History], codes: int) -> Grid:
    """The coarsest grid on which all events lie, for so many entities."""
    there = [each.time for each in histories if len(each)]
    if not there:
        return Grid(1, 0, 2)
    first, last = min(int(t.min()) for t in there), max(int(t.max()) for t in there)
    unit = next(u for u in _UNITS_US if u == 1 or not any((time % u).any() for time in there))
    span = (last - first) // unit + 2
    if codes * span < _LARGEST_KEY:
        return Grid(unit, first, span)
    instants = np.unique(np.concatenate(there))
    return Grid(unit, first, len(instants) + 1, instants)


def timeline(history: History, code: Ints, grid: Grid) -> Timeline:
    """Sort a history by entity, time and order of arrival."""
    time, rank = history.time, history.rank
    key = code * grid.span + grid.ticks(time)
    if _ascending(rank):
        order = _by_code(code) if _ascending(time) else np.argsort(key, kind="stable")
    else:
        order = np.lexsort((rank, key))
    return Timeline(grid, order, code[order], key[order], time[order], rank[order])


def _by_code(code: Ints) -> Ints:
    """A stable order by code, by sixteen bits at a time: numpy sorts those in linear time."""
    order = np.argsort((code % _DIGIT).astype(np.uint16), kind="stable")
    high = int(code.max(initial=0)) // _DIGIT
    digit = 1
    while high:
        digits = (code[order] // _DIGIT**digit % _DIGIT).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
        high, digit = high // _DIGIT, digit + 1
    return order


def _ascending(values: Ints) -> bool:
    return bool((values[1:] >= values[:-1]).all())


class Edges:
    """The right edges of one view's windows, one for each query, and the spans left of them.

    Attributes:
        stop: For each query, the events of the timeline up to the right edge.
    """

    def __init__(self, view: View, rows: Timeline, queries: Timeline, stop: Ints | None) -> None:
        """Take ``stop`` where it is known from the order of the events."""
        self._rows, self._queries, self._view = rows, queries, view
        self._hop = microseconds(view.hop) if view.hop else 0
        self._right = queries.time - microseconds(view.delay) if view.delay else queries.time
        self._floor = queries.code * rows.grid.span
        self.stop = self._stops() if stop is None else stop

    def spans(self, window: timedelta) -> Spans:
        """What a window covers."""
        if window == LIFETIME:
            edge = self._floor
        else:
            edge = self._key(self._snapped(self._right - microseconds(window)))
        return Spans(np.searchsorted(self._rows.key, edge, side="right"), self.stop)

    def _stops(self) -> Ints:
        right = self._snapped(self._right) if self._view.delay else self._right
        stop = np.searchsorted(self._rows.key, self._key(right), side="right")
        return stop if self._view.delay else self._arrived(stop)

    def _arrived(self, stop: Ints) -> Ints:
        """Without the events at the query's own time that arrived after it."""
        rows, queries = self._rows, self._queries
        open_ = np.flatnonzero(stop > 0)
        while len(open_):
            last = stop[open_] - 1
            after = (rows.key[last] == queries.key[open_]) & (rows.rank[last] > queries.rank[open_])
            open_ = open_[after]
            stop[open_] -= 1
            open_ = open_[stop[open_] > 0]
        return stop

    def _snapped(self, time: Ints) -> Ints:
        return time // self._hop * self._hop if self._hop else time

    def _key(self, time: Ints) -> Ints:
        return self._floor + self._rows.grid.ticks(time)

    def unsettled(self) -> Mask:
        """Queries for which an event up to the right edge had not arrived yet."""
        newest = self._rows.newest_rank
        before = newest[self.stop - 1] if len(newest) else np.full(len(self.stop), -1)
        mine = self._queries.rank + (self._queries.code << 32)
        return (self.stop > 0) & (before > mine)
