"""Events of one source sorted by entity and time, and the spans of them that windows cover.

An entity's code and an event's time make one sortable integer, the key, so that all entities are
searched in one sorted array. May import history, definition and events.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from headrace.definition import LIFETIME
from headrace.events import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from headrace.definition import View
    from headrace.offline.history import Floats, History, Ints, Mask

_UNITS_US = (60_000_000, 1_000_000, 1_000, 1)
_LARGEST_KEY = 2**62
_DIGIT = 2**16
_SAMPLE = 1_000
"""Values that are looked at before all are: most units are ruled out by the first few."""


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

    def ticks_in(self, duration_us: int) -> int | None:
        """A duration in ticks; None where it is not a whole number of them."""
        if self.instants is not None or duration_us % self.unit:
            return None
        return duration_us // self.unit


@dataclass(frozen=True)
class Timeline:
    """Events of one source, sorted by entity, event time and order of arrival.

    Attributes:
        history: Whose events these are.
        grid: How the keys count time.
        places: Place of each event in its history.
        code: Number of each event's entity.
        key: ``code * grid.span`` plus the tick of its time, ascending.
    """

    history: History
    grid: Grid
    places: Ints
    code: Ints
    key: Ints

    def __len__(self) -> int:
        """Number of events."""
        return len(self.places)

    @cached_property
    def order(self) -> Ints:
        """Place in the timeline of each event of the history, where all are in it."""
        found = np.empty_like(self.places)
        found[self.places] = np.arange(len(self.places))
        return found

    @cached_property
    def time(self) -> Ints:
        """Event times, microseconds UTC."""
        return self.history.time[self.places]

    @cached_property
    def rank(self) -> Ints:
        """Places in the order of arrival."""
        return self.history.rank[self.places]

    @cached_property
    def floor(self) -> Ints:
        """The key before each event's entity's first one."""
        return self.code * self.grid.span

    @cached_property
    def newest_rank(self) -> Ints:
        """The largest rank of the entity's events up to each one, plus its code times 2^32."""
        return np.maximum.accumulate(self.rank + (self.code << 32))

    def kept(self, mask: Mask) -> Timeline:
        """Some of the events."""
        parts = (part[mask] for part in (self.places, self.code, self.key))
        return Timeline(self.history, self.grid, *parts)


@dataclass(frozen=True)
class Spans:
    """Which events of a timeline each query's window covers: those from start to stop."""

    start: Ints
    stop: Ints

    @cached_property
    def length(self) -> Floats:
        """How many events each one holds."""
        return (self.stop - self.start).astype(np.float64)


def entity_codes(columns: Sequence[pl.Series]) -> list[Ints]:
    """A number for each entity, the same for the same id in every column, from 0 on."""
    if all(column.dtype.is_integer() for column in columns):
        return _codes_of_integers([column.cast(pl.Int64).to_numpy() for column in columns])
    texts = pl.concat([column.cast(pl.String) for column in columns])
    codes = texts.rank("dense").cast(pl.Int64).to_numpy() - 1
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


def grid_of(histories: Sequence[History]) -> Grid:
    """The coarsest evenly spaced grid on which all events lie."""
    there = [each.time for each in histories if len(each)]
    if not there:
        return Grid(1, 0, 2)
    first, last = min(int(t.min()) for t in there), max(int(t.max()) for t in there)
    unit = next(u for u in _UNITS_US if u == 1 or all(_lie_on(time, u) for time in there))
    return Grid(unit, first, (last - first) // unit + 2)


def grid_for(grid: Grid, histories: Sequence[History], codes: int) -> Grid:
    """The same grid, or another one where keys of so many entities would not fit."""
    if codes * grid.span < _LARGEST_KEY:
        return grid
    instants = np.unique(np.concatenate([each.time for each in histories]))
    return Grid(grid.unit, grid.first, len(instants) + 1, instants)


def _lie_on(time: Ints, unit: int) -> bool:
    return not (time[:_SAMPLE] % unit).any() and not (time % unit).any()


def timeline(history: History, code: Ints, grid: Grid) -> Timeline:
    """Sort a history by entity, time and order of arrival."""
    if grid.instants is None:
        key = code * grid.span + history.ticks(grid.unit, grid.first)
    else:
        key = code * grid.span + grid.ticks(history.time)
    order = _by_code(code) if history.in_order else _by_key(key, history.rank)
    return Timeline(history, grid, order, code[order], key[order])


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


def _by_key(key: Ints, rank: Ints) -> Ints:
    """An order by key, then by rank; few keys are equal, so they are ordered afterwards."""
    order = np.argsort(key)
    ordered = key[order]
    same = np.zeros(len(key) + 1, np.bool_)
    same[1:-1] = ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(same[1:] | same[:-1])
    if len(tied):
        events = order[tied]
        order[tied] = events[np.lexsort((rank[events], key[events]))]
    return order


class Edges:
    """The right edges of one view's windows, one for each query, and the spans left of them.

    Attributes:
        stop: For each query, the events of the timeline up to the right edge.
    """

    def __init__(self, view: View, rows: Timeline, queries: Timeline, stop: Ints | None) -> None:
        """Take ``stop`` where it is known from the order of the events."""
        self._rows, self._queries, self._view = rows, queries, view
        self._hop = microseconds(view.hop) if view.hop else 0
        self._delay = microseconds(view.delay)
        self.stop = self._stops() if stop is None else stop

    def spans(self, window: timedelta) -> Spans:
        """What a window covers."""
        floor = self._queries.floor
        edge = floor if window == LIFETIME else self._keys_before(microseconds(window))
        return Spans(np.searchsorted(self._rows.key, edge, side="right"), self.stop)

    def _stops(self) -> Ints:
        if not self._view.delay:
            return self._arrived(np.searchsorted(self._rows.key, self._queries.key, side="right"))
        return np.searchsorted(self._rows.key, self._keys_before(0), side="right")

    def _keys_before(self, window_us: int) -> Ints:
        """The key of the edge that lies delay and window before each query, snapped to the hop."""
        queries, back = self._queries, self._delay + window_us
        ticks = None if self._hop else queries.grid.ticks_in(back)
        if ticks is not None:
            return np.maximum(queries.key - ticks, queries.floor)
        time = queries.time - back
        snapped = time // self._hop * self._hop if self._hop else time
        return queries.floor + queries.grid.ticks(snapped)

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

    def unsettled(self) -> Ints:
        """Queries for which an event up to the right edge had not arrived yet."""
        rows, queries = self._rows, self._queries
        own = rows.history is queries.history and not self._delay
        if not len(rows) or (own and rows.history.in_order) or self._surely_settled():
            return np.empty(0, np.int64)
        before = rows.newest_rank[self.stop - 1]
        mine = queries.rank + (queries.code << 32)
        return np.flatnonzero((self.stop > 0) & (before > mine))

    def _surely_settled(self) -> bool:
        """Whether every event comes less late than the delay and any query's own lateness."""
        latest, soonest = self._rows.history.latest, self._queries.history.soonest
        return latest - self._delay < soonest
