"""The fold: events into a view's state, and features out of it as of an instant.

A window of length w with delay d, as of t, covers (t - d - w, t - d] in event time. A view's
state is three stretches of time, newest first: rows (single events), tiles (accumulations over
((k - 1) * hop, k * hop]) and a base (everything older; lifetime windows only). Exact views have
rows only; hop views keep rows as far back as late events may come, so that edges at the head are
exact and ids are remembered. May import aggregates, rows, events, definition.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from headrace.aggregates import Accumulation, reader, statistic
from headrace.definition import LIFETIME, DistinctCount, View
from headrace.events import Event, microseconds
from headrace.rows import ABSENT_HASH, Rows
from headrace.sizes import MAX_ROWS_BYTES, OVERFLOW_TILES, OVERFLOW_TILES_BYTES, tile_bytes_of
from headrace.view_state import NEVER, Folded, Step, ViewState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

DELIVERED_AGAIN_US = 3_600_000_000
"""How much older than its last record the first one of a batch may be: until the batch is
acknowledged it can come again, and then needs the rows that it needed before."""

_SLACK = 1.25
_FEW = 1_000  # rows that are never too large
_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000


class ViewFold:
    """A view made ready to fold events and give features."""

    def __init__(self, view: View, share: int = 1) -> None:
        """Make a view ready that shares its entity's item with ``share - 1`` others."""
        self._share = share
        self.view = view
        self.features = view.features
        self.fields = list(
            dict.fromkeys(
                (aggregate.field, isinstance(aggregate, DistinctCount))
                for aggregate in view.aggregates
                if aggregate.field
            )
        )
        statistics = [self._statistic(aggregate) for aggregate in view.aggregates]
        self.cells = list(dict.fromkeys(statistics))
        self._readers = [
            (self.cells.index(each), reader(aggregate))
            for each, aggregate in zip(statistics, view.aggregates, strict=True)
        ]
        self._windows = [
            None if window == LIFETIME else microseconds(window) for window in view.windows
        ]
        self._delay = microseconds(view.delay)
        self._hop = microseconds(view.hop) if view.hop else 0
        self._lateness = microseconds(view.source.lateness)
        self.retention = microseconds(view.retention)
        self._nothing: list[Accumulation] = [None] * len(self.cells)
        self.lifetime = LIFETIME in view.windows
        self.counts_current = view.include_current or bool(view.delay)

    def _statistic(self, aggregate: Any) -> Any:
        key = (aggregate.field, isinstance(aggregate, DistinctCount))
        return statistic(aggregate, self.fields.index(key) if aggregate.field else -1)

    @property
    def layout(self) -> bytes:
        """Four bytes that change when the packed state of the view would be read wrongly."""
        return _digest(self.view.source.name, self.fields, self._hop, self.lifetime)

    @property
    def tile_layout(self) -> bytes:
        """The same for a state with tiles or base: there, statistics have places in a list."""
        kinds = [(each.kind, each.field, getattr(each, "n", 1)) for each in self.view.aggregates]
        return _digest(self.layout, kinds)

    def empty(self) -> ViewState:
        """State of an entity that this view has never seen."""
        return ViewState(Rows.empty([hashed for _, hashed in self.fields]), self._hop)

    # Folding

    def fold(self, state: ViewState, event: Event) -> Folded:
        """Put an event into the state at its event time, once."""
        if not self.wants(event):
            return Folded.PASSED
        if state.rows.find(event.digest) >= 0:
            return Folded.REPEATED
        return self._fold_unknown(state, event)

    def _fold_unknown(self, state: ViewState, event: Event) -> Folded:
        if event.late or event.time <= state.horizon:
            return Folded.LATE
        self.insert(state.rows, event)
        self._keep_within(state)
        self._evict(state, event.arrival)
        return Folded.NEW

    def wants(self, event: Event) -> bool:
        """Whether the view's filter wants the event; absent fields are never wanted."""
        if self.view.where is None:
            return True
        try:
            return bool(self.view.where(event.fields))
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
            return False

    def insert(self, rows: Rows, event: Event) -> None:
        """Add the event's row."""
        values = [
            _hash(getattr(event.fields, name)) if hashed else _number(getattr(event.fields, name))
            for name, hashed in self.fields
        ]
        rows.insert(event.time, event.digest, values)

    def _evict(self, state: ViewState, arrival: int) -> None:
        """Forget, or move to tiles and base, what no later event can need one by one.

        At every event, not at the end of a batch: where batches are cut must not show.
        """
        keep = self._lateness if state.hop and self._hop else self.retention
        grain = state.hop or _MINUTE_US  # seldom, and whole tiles at once
        cutoff = (arrival - DELIVERED_AGAIN_US - keep - 1) // grain * grain
        if state.rows.time(0) <= cutoff:
            self._spill(state, state.rows.upto(cutoff))
        if state.tiles:
            self._drop_tiles(state, arrival - DELIVERED_AGAIN_US - self.retention)

    def _keep_within(self, state: ViewState) -> None:
        """Bound the rows; at the newest instant all stay, so that no event at it is late."""
        if state.hop:
            if len(state.rows) > self.view.head * _SLACK:
                self._spill_to(state, self.view.head)
        elif len(state.rows) > _FEW and self._too_large(state.rows):
            state.hop = self._hop_of_overflow()
            self._spill_to(state, self.view.head)

    def _too_large(self, rows: Rows) -> bool:
        return len(rows) * rows.row_bytes > MAX_ROWS_BYTES // self._share

    def _hop_of_overflow(self) -> int:
        """As fine as the longest window deserves, as coarse as the item's size demands."""
        longest = max((w for w in self._windows if w), default=self.retention)
        tile_bytes = sum(tile_bytes_of(each) for each in self.view.aggregates)
        finest = self.retention * tile_bytes * self._share // OVERFLOW_TILES_BYTES
        return max(longest // OVERFLOW_TILES, finest, _SECOND_US)

    def _spill_to(self, state: ViewState, head: int) -> None:
        rows = state.rows
        newest = rows.upto(rows.time(len(rows) - 1) - 1)
        self._spill(state, min(len(rows) - head, newest))

    def _spill(self, state: ViewState, stop: int) -> None:
        """Move the ``stop`` oldest rows, and those at the same instant, out of the rows."""
        if stop <= 0:
            return
        rows = state.rows
        state.tails.clear()
        state.horizon = max(state.horizon, rows.time(stop - 1))
        stop = rows.upto(state.horizon)
        if state.hop:
            self._spill_to_tiles(state, stop)
        elif self.lifetime:
            state.base = self._merged(state.base, self._of(rows, 0, stop))
        rows.drop(stop)

    def _spill_to_tiles(self, state: ViewState, stop: int) -> None:
        start = 0
        while start < stop:
            k = _tile(state.rows.time(start), state.hop)
            end = min(state.rows.upto(k * state.hop), stop)
            found = self._of(state.rows, start, end)
            state.tiles[k] = self._merged(state.tiles.get(k), found)
            start = end

    def _drop_tiles(self, state: ViewState, cutoff: int) -> None:
        last = cutoff // state.hop - 1
        if next(iter(state.tiles)) > last:  # they are in order of k
            return
        for k in [k for k in state.tiles if k <= last]:
            tile = state.tiles.pop(k)
            state.tails.clear()
            if self.lifetime:
                state.base = self._merged(state.base, tile)
        if not state.tiles:
            state.hop = self._hop  # an exact view is exact again once its tiles have aged out

    def _of(self, rows: Rows, start: int, stop: int) -> list[Accumulation]:
        if start >= stop:
            return self._nothing
        return [cell.of(rows, start, stop) for cell in self.cells]

    def _merged(self, a: list[Accumulation] | None, b: list[Accumulation]) -> list[Accumulation]:
        if a is None:
            return b
        return [
            y if x is None else x if y is None else cell.merge(x, y)
            for cell, x, y in zip(self.cells, a, b, strict=True)
        ]

    def step(self, state: ViewState, event: Event, later: Collection[bytes] = ()) -> Step:
        """Fold an event and give the features as of it, with what had arrived before it.

        Args:
            state: The entity's state in this view; changed where the event is new.
            event: An event of the view's source.
            later: Digests of rows in the state whose events come after this one: there from an
                earlier delivery of the same batch.
        """
        wanted = self.wants(event)
        if later or (wanted and state.rows.find(event.digest) >= 0):
            first = self.step(self._without(state, [*later, event.digest]), event)
            return first._replace(folded=self.fold(state, event))
        before = self.look(state, event.time, features=not self.counts_current)
        folded = self._fold_unknown(state, event) if wanted else Folded.PASSED
        if not self.counts_current:
            return before._replace(folded=folded)
        if folded is Folded.LATE:
            state = self._copy(state)
            self.insert(state.rows, event)
        current = self.features_as_of(state, event.time)
        return Step(folded, current, before.newest, before.seen)

    def look(
        self,
        state: ViewState,
        as_of: int,
        later: Collection[bytes] = (),
        *,
        features: bool = True,
    ) -> Step:
        """What the state says as of an instant, without an event; ``later`` as in ``step``."""
        if later:
            state = self._without(state, later)
        return Step(
            Folded.PASSED,
            self.features_as_of(state, as_of) if features else [],
            self._newest(state, as_of),
            state.horizon != NEVER or (len(state.rows) > 0 and state.rows.time(0) <= as_of),
        )

    def _without(self, state: ViewState, digests: Iterable[bytes]) -> ViewState:
        found = self._copy(state)
        for digest in digests:
            index = found.rows.find(digest)
            if index >= 0:
                found.rows.remove(index)
        return found

    def _copy(self, state: ViewState) -> ViewState:
        tiles = dict(state.tiles)
        return ViewState(state.rows.copy(), state.hop, state.horizon, tiles, state.base)

    # Features

    def features_as_of(self, state: ViewState, as_of: int) -> list[float | None]:
        """The view's features as of an instant, from what is in the state now.

        Args:
            state: The entity's state in this view.
            as_of: Right edge before the delay, microseconds UTC, included.

        Returns:
            One value per name in ``features``; None where a window holds nothing.
        """
        right = as_of - self._delay
        rows = state.rows
        times, (unit, base, _) = rows.times, rows.ticks
        edge = self._snapped(right) if self._delay else right
        stop = bisect_right(times, (edge - base) // unit)
        values: list[float | None] = []
        before, of_rows = -1, self._nothing
        for window in self._windows:
            left = NEVER if window is None else self._snapped(right - window)
            start = 0 if window is None else bisect_right(times, (left - base) // unit, 0, stop)
            if start != before:  # else the rows hold no more than the shorter window's
                before, of_rows = start, self._of(rows, start, stop)
            found = of_rows
            if window is None and state.base is not None:
                found = self._merged(state.base, found)
            if state.tiles and left < state.horizon:
                tail = self._tail(state, left // state.hop, right)
                found = found if tail is None else self._merged(tail, found)
            for cell, read in self._readers:
                values += read(found[cell], as_of)
        return values

    def _tail(self, state: ViewState, first: int, right: int) -> list[Accumulation] | None:
        """Tiles after ``first`` whose events all lie at or before the right edge, merged."""
        whole = right >= state.horizon and not (self._hop and self._delay)
        last = 2**63 if whole else right // state.hop
        if (first, last) not in state.tails:
            found = None
            for k in sorted(state.tiles):
                if first < k <= last:
                    found = self._merged(found, state.tiles[k])
            state.tails[first, last] = found
        return state.tails[first, last]

    def _snapped(self, time: int) -> int:
        return time // self._hop * self._hop if self._hop else time

    def _newest(self, state: ViewState, as_of: int) -> int | None:
        """Event time of the newest event that features as of an instant use; None if none."""
        right = as_of - self._delay
        index = state.rows.upto(self._snapped(right) if self._delay else right)
        if index:
            return state.rows.time(index - 1)
        if state.horizon <= right:
            return None if state.horizon == NEVER else state.horizon
        return max((k * state.hop for k in state.tiles if k * state.hop <= right), default=None)


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=4).digest()


def _tile(time: int, hop: int) -> int:
    return -(-time // hop)


def _number(value: bool | float | None) -> float | None:
    return None if value is None else float(value)


def _hash(value: object) -> int:
    """64 bits of a field's value; 17 and '17' are the same, as they are as ids."""
    if value is None:
        return ABSENT_HASH
    if isinstance(value, bool):
        value = int(value)  # a flag may come as true or as 1
    found = int.from_bytes(blake2b(str(value).encode(), digest_size=8).digest(), "little")
    return min(found, ABSENT_HASH - 1)
