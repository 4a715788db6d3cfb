"""The fold: events into a view's state, and features out of it as of an instant.

A window of length w with delay d, as of t, covers (t - d - w, t - d] in event time. A view's
state is three stretches of time, newest first: rows (single events), tiles (accumulations over
((k - 1) * hop, k * hop]) and a base (everything older; lifetime windows only). Exact views have
rows only; hop views keep rows as far back as late events may come, so that edges at the head are
exact and ids are remembered. May import aggregates, rows, events, definition.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from headrace.definition import LIFETIME, View
from headrace.events import Event, microseconds
from headrace.loading import function_digest
from headrace.rows import ABSENT_HASH, Rows
from headrace.sizes import (
    HEAD_SLACK,
    MAX_ROWS_BYTES,
    OVERFLOW_TILES,
    OVERFLOW_TILES_BYTES,
    row_bytes_of,
    tile_bytes_of,
)
from headrace.view_reader import ViewReader
from headrace.view_state import NEVER, Folded, Step, ViewState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

DELIVERED_AGAIN_US = 3_600_000_000
"""How much older than its last record the first one of a batch may be: until the batch is
acknowledged it can come again, and then needs the rows that it needed before."""

_FEW = 1_000  # rows that are never too large
_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000


class ViewFold:
    """A view made ready to fold events and give features."""

    def __init__(self, view: View, share: float = 1) -> None:
        """Make a view ready whose rows may take that part of ``MAX_ROWS_BYTES``."""
        self._share = share
        half = MAX_ROWS_BYTES / share / 2
        self._head = view.head if view.hop else min(view.head, int(half / row_bytes_of(view)) + 1)
        self.view = view
        self.features = view.features
        self.reader = ViewReader(view)
        self.fields = list(self.reader.fields)
        self._revision = len(self.fields) if view.source.revised_by else -1
        if view.source.revised_by:
            self.fields.append((view.source.revised_by, False))
        self.conversions = [(name, _hash if hashed else _number) for name, hashed in self.fields]
        self._hop = microseconds(view.hop) if view.hop else 0
        self._lateness = microseconds(view.source.lateness)
        self.retention = microseconds(view.retention)
        self.lifetime = LIFETIME in view.windows
        self.counts_current = view.include_current or bool(view.delay)

    @property
    def layout(self) -> bytes:
        """Four bytes that change when the packed state of the view would be read wrongly."""
        where = self.view.where
        filtered = () if where is None else (function_digest(where),)
        return _digest(self.view.source.name, self.fields, self._hop, self.lifetime, *filtered)

    @property
    def tile_layout(self) -> bytes:
        """The same for a state with tiles or base: there, statistics have places in a list."""
        kinds = [(each.kind, each.field, getattr(each, "n", 1)) for each in self.view.aggregates]
        return _digest(self.layout, kinds)

    @property
    def most_row_bytes(self) -> float:
        """How many bytes the rows of one entity may take before an exact view gets tiles."""
        return MAX_ROWS_BYTES / self._share

    def empty(self) -> ViewState:
        """State of an entity that this view has never seen."""
        return ViewState(Rows.empty([hashed for _, hashed in self.fields]), self._hop)

    # Folding

    def fold(self, state: ViewState, event: Event, *, known: bool = False) -> Folded:
        """Put an event into the state at its event time, once.

        Args:
            state: Changed where the event is new to it, or revises what it holds.
            event: An event of the view's source.
            known: Whether the entity folded it lately: if its row is gone, it is in a tile.
        """
        if not self.wants(event):
            return Folded.PASSED
        index = state.rows.find(event.digest)
        if index >= 0:
            return self._revise(state.rows, index, event)
        return self._fold_unknown(state, event, known=known)

    def _revise(self, rows: Rows, index: int, event: Event) -> Folded:
        """Replace a row by a newer revision of its event."""
        if self._revision < 0 or not self.is_newer(rows, index, self._values(event)):
            return Folded.REPEATED
        if event.late:
            return Folded.LATE
        rows.remove(index)
        self.insert(rows, event)
        return Folded.NEW

    def _fold_unknown(self, state: ViewState, event: Event, *, known: bool) -> Folded:
        if event.late:
            return Folded.LATE
        if event.time <= state.horizon:
            return Folded.REPEATED if known else Folded.LATE
        self.insert(state.rows, event)
        self._keep_within(state)
        self._evict(state, event.arrival)
        return Folded.NEW

    def absorb(self, state: ViewState, other: ViewState) -> None:
        """Take over the rows that another state of the same entity has and this one lacks.

        What left either state's rows is older than what may still change it, and stays out.

        Args:
            state: Changed. Whatever it has in tiles and base is all there was.
            other: Exact, or nothing has left its rows.
        """
        rows = other.rows
        for number in range(rows.upto(state.horizon), len(rows)):
            digest, values = rows.digest(number), rows.values(number)
            index = state.rows.find(digest)
            if index >= 0:
                if not self.is_newer(state.rows, index, values):
                    continue
                state.rows.remove(index)
            state.rows.insert(rows.time(number), digest, values)
        if other.horizon > state.horizon:
            state.rows.drop(state.rows.upto(other.horizon))
            state.horizon = other.horizon
        self._keep_within(state)

    def is_newer(self, rows: Rows, index: int, values: list[float | None]) -> bool:
        """Whether values are a newer revision of a row; without revisions the first stays."""
        if self._revision < 0:
            return False
        before, after = rows.columns[self._revision].values()[index], values[self._revision]
        return after is not None and (before is None or after > before)

    def wants(self, event: Event) -> bool:
        """Whether the view's filter wants the event; absent fields are never wanted."""
        if self.view.where is None:
            return True
        try:
            return bool(self.view.where(event.fields))
        except Exception:  # noqa: BLE001 - the user's own code: whatever it raises, no batch may stop
            return False

    def insert(self, rows: Rows, event: Event) -> None:
        """Add the event's row."""
        rows.insert(event.time, event.digest, self._values(event))

    def _values(self, event: Event) -> list[float | None]:
        fields = event.fields
        return [convert(getattr(fields, name)) for name, convert in self.conversions]

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
            if len(state.rows) > self._head * HEAD_SLACK:
                self._spill_to(state, self._head)
        elif len(state.rows) > _FEW and self._too_large(state.rows):
            state.hop = self._hop_of_overflow()
            self._spill_to(state, self._head)

    def _too_large(self, rows: Rows) -> bool:
        return len(rows) * rows.row_bytes > self.most_row_bytes

    def _hop_of_overflow(self) -> int:
        """As fine as the longest window deserves, as coarse as the item's size demands."""
        finite = [window for window in self.view.windows if window != LIFETIME]
        longest = microseconds(max(finite)) if finite else self.retention
        tile_bytes = sum(tile_bytes_of(each) for each in self.view.aggregates)
        finest = int(self.retention * tile_bytes * self._share / OVERFLOW_TILES_BYTES)
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
            state.base = self.reader.merged(state.base, self.reader.accumulated(rows, 0, stop))
        rows.drop(stop)

    def _spill_to_tiles(self, state: ViewState, stop: int) -> None:
        start = 0
        while start < stop:
            k = _tile(state.rows.time(start), state.hop)
            end = min(state.rows.upto(k * state.hop), stop)
            found = self.reader.accumulated(state.rows, start, end)
            state.tiles[k] = self.reader.merged(state.tiles.get(k), found)
            start = end

    def _drop_tiles(self, state: ViewState, cutoff: int) -> None:
        last = cutoff // state.hop - 1
        if next(iter(state.tiles)) > last:  # they are in order of k
            return
        for k in [k for k in state.tiles if k <= last]:
            tile = state.tiles.pop(k)
            state.tails.clear()
            if self.lifetime:
                state.base = self.reader.merged(state.base, tile)
        if not state.tiles:
            state.hop = self._hop  # an exact view is exact again once its tiles have aged out

    def step(self, state: ViewState, event: Event, later: Collection[bytes] | None = None) -> Step:
        """Fold an event and give the features as of it, with what had been folded before it.

        Args:
            state: The entity's state in this view; changed where the event is new.
            event: An event of the view's source.
            later: Where the entity folded it lately, the digests of what it folded after it.
        """
        wanted, known = self.wants(event), later is not None
        if later or (wanted and state.rows.find(event.digest) >= 0):
            then = self._without(state, [*(later or ()), event.digest])
            first = self._step(then, event, wanted=wanted, known=known)
            return first._replace(folded=self.fold(state, event, known=known))
        return self._step(state, event, wanted=wanted, known=known)

    def _step(self, state: ViewState, event: Event, *, wanted: bool, known: bool) -> Step:
        """The same, for a state that does not hold the event as a row."""
        as_of = event.time
        if not self.counts_current:
            before = self.look(state, as_of)
            folded = self._fold_unknown(state, event, known=known) if wanted else Folded.PASSED
            return before._replace(folded=folded)
        newest, seen = self.reader.newest(state, as_of), self.reader.has_seen(state, as_of)
        folded = self._fold_unknown(state, event, known=known) if wanted else Folded.PASSED
        if folded is Folded.LATE:
            state = self._copy(state)
            self.insert(state.rows, event)
        features, cut = self.reader.features_as_of(state, as_of), False
        if state.horizon != NEVER:
            cut = self.reader.reaches_too_far(state, as_of)
        return Step(folded, features, newest, seen, cut)

    def look(self, state: ViewState, as_of: int, later: Collection[bytes] | None = None) -> Step:
        """What the state says as of an instant, without an event; ``later`` as in ``step``."""
        if later:
            state = self._without(state, later)
        return Step(
            Folded.PASSED,
            self.reader.features_as_of(state, as_of),
            self.reader.newest(state, as_of),
            self.reader.has_seen(state, as_of),
            self.reader.reaches_too_far(state, as_of),
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
