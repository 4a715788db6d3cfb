"""The fold: events into a view's state, and features out of it as of an instant.

A window of length w with delay d, as of t, covers (t - d - w, t - d] in event time. A view's
state is three stretches of time, newest first: rows (single events), tiles (accumulations over
((k - 1) * hop, k * hop]) and a base (everything older; lifetime windows only). Exact views have
rows only; hop views keep rows as far back as late events may come, so that edges at the head are
exact and ids are remembered. May import aggregates, rows, events, definition.
"""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.aggregates import Accumulation, reader, statistic
from headrace.definition import LIFETIME, DistinctCount, View
from headrace.events import Event, microseconds
from headrace.rows import ABSENT_HASH, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_ROWS_BYTES = 350_000
"""An exact view whose rows would take more goes on as a hop view."""

_TILES_OF_OVERFLOW = 96
_SLACK = 1.25
_NEVER = -(2**63)
_SECOND_US = 1_000_000


class Folded(Enum):
    """What became of an event in a view."""

    NEW = "new"  # it changed the state
    REPEATED = "repeated"  # its id is there already
    LATE = "late"  # older than what may still change the state
    PASSED = "passed"  # the view's filter does not want it


class Step(NamedTuple):
    """An event met a view.

    Attributes:
        folded: What became of it.
        features: One value per name in ``ViewFold.features``, as of the event.
        newest: Event time of the newest earlier event used, microseconds UTC; None without one.
        seen: Whether the view had any event before.
    """

    folded: Folded
    features: list[float | None]
    newest: int | None
    seen: bool


class ViewState:
    """What one view knows of one entity.

    Attributes:
        rows: Single events, sorted by (event time, id digest).
        horizon: Newest event time that has left the rows, microseconds UTC: what is not newer
            cannot be told from a repetition, and is late.
        tiles: k -> accumulations of the events in ((k - 1) * hop, k * hop] that left the rows.
        base: Accumulations of everything that left rows and tiles; None unless lifetime.
        hop: Microseconds; 0 as long as the view has no tiles.
    """

    __slots__ = ("base", "hop", "horizon", "rows", "tiles")

    def __init__(
        self,
        rows: Rows,
        hop: int,
        horizon: int = _NEVER,
        tiles: dict[int, list[Accumulation]] | None = None,
        base: list[Accumulation] | None = None,
    ) -> None:
        self.rows, self.hop, self.horizon = rows, hop, horizon
        self.tiles = {} if tiles is None else tiles
        self.base = base


class ViewFold:
    """A view made ready to fold events and give features."""

    def __init__(self, view: View) -> None:
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
        self.lifetime = LIFETIME in view.windows
        self.counts_current = view.include_current or bool(view.delay)

    def _statistic(self, aggregate: Any) -> Any:
        key = (aggregate.field, isinstance(aggregate, DistinctCount))
        return statistic(aggregate, self.fields.index(key) if aggregate.field else -1)

    @property
    def layout(self) -> bytes:
        """Four bytes that change when the packed state of the view would be read wrongly."""
        parts = (self.view.source.name, self.fields, self._hop, self.lifetime)
        kinds = [(each.kind, each.field, getattr(each, "n", 1)) for each in self.view.aggregates]
        text = repr((*parts, sorted(kinds) if self._hop or self.lifetime else []))
        return blake2b(text.encode(), digest_size=4).digest()

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

    def evict(self, state: ViewState, newest_arrival: int) -> None:
        """Forget, or move to tiles and base, what no later event can need one by one."""
        keep = self._lateness if state.hop and self._hop else self.retention
        if state.rows:
            self._spill(state, state.rows.upto(newest_arrival - keep - 1))
        if state.tiles:
            self._drop_tiles(state, newest_arrival - self.retention)

    def _keep_within(self, state: ViewState) -> None:
        """Bound the rows; at the newest instant all stay, so that no event at it is late."""
        if state.hop:
            if len(state.rows) > self.view.head * _SLACK:
                self._spill_to(state, self.view.head)
        elif len(state.rows) * state.rows.row_bytes > MAX_ROWS_BYTES:
            longest = max((w for w in self._windows if w), default=self.retention)
            state.hop = max(longest // _TILES_OF_OVERFLOW, _SECOND_US)
            self._spill_to(state, self.view.head)

    def _spill_to(self, state: ViewState, head: int) -> None:
        rows = state.rows
        newest = rows.upto(rows.time(len(rows) - 1) - 1)
        self._spill(state, min(len(rows) - head, newest))

    def _spill(self, state: ViewState, stop: int) -> None:
        """Move the ``stop`` oldest rows, and those at the same instant, out of the rows."""
        if stop <= 0:
            return
        rows = state.rows
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
        for k in [k for k in state.tiles if k * state.hop <= cutoff - state.hop]:
            tile = state.tiles.pop(k)
            if self.lifetime:
                state.base = self._merged(state.base, tile)
        if not state.tiles:
            state.hop = self._hop  # an exact view is exact again once its tiles have aged out

    def _of(self, rows: Rows, start: int, stop: int) -> list[Accumulation]:
        if start >= stop:
            return [None] * len(self.cells)
        return [cell.of(rows, start, stop) for cell in self.cells]

    def _merged(self, a: list[Accumulation] | None, b: list[Accumulation]) -> list[Accumulation]:
        if a is None:
            return b
        return [
            y if x is None else x if y is None else cell.merge(x, y)
            for cell, x, y in zip(self.cells, a, b, strict=True)
        ]

    def step(self, state: ViewState, event: Event, later: Callable[[], Iterable[bytes]]) -> Step:
        """Fold an event and give the features as of it, with what had arrived before it.

        Args:
            state: The entity's state in this view; changed where the event is new.
            event: An event of the view's source.
            later: Digests of events that came after it in the same batch; looked at only where
                the event is a repetition, whose rows may already be there.
        """
        wanted = self.wants(event)
        if wanted and state.rows.find(event.digest) >= 0:
            return self._step_repeated(state, event, later())
        before = self.look(state, event.time, features=not self.counts_current)
        folded = self._fold_unknown(state, event) if wanted else Folded.PASSED
        if not self.counts_current:
            return before._replace(folded=folded)
        if folded is Folded.LATE:
            state = self._copy(state)
            self.insert(state.rows, event)
        current = self.features_as_of(state, event.time)
        return Step(folded, current, before.newest, before.seen)

    def look(self, state: ViewState, as_of: int, *, features: bool = True) -> Step:
        """What the state says as of an instant, without an event."""
        return Step(
            Folded.PASSED,
            self.features_as_of(state, as_of) if features else [],
            self._newest(state, as_of),
            len(state.rows) > 0 or state.horizon != _NEVER,
        )

    def _step_repeated(self, state: ViewState, event: Event, later: Iterable[bytes]) -> Step:
        state = self._copy(state)
        _remove(state.rows, later)
        current = self.features_as_of(state, event.time)
        _remove(state.rows, [event.digest])
        before = self.look(state, event.time)._replace(folded=Folded.REPEATED)
        return before._replace(features=current) if self.counts_current else before

    def _copy(self, state: ViewState) -> ViewState:
        return ViewState(state.rows.copy(), state.hop, state.horizon, state.tiles, state.base)

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
        stop = rows.upto(self._snapped(right) if self._delay else right)
        values: list[float | None] = []
        for window in self._windows:
            if window is None:
                found = self._of(rows, 0, stop)
                if state.base is not None:
                    found = self._merged(state.base, found)
                left = _NEVER
            else:
                left = self._snapped(right - window)
                found = self._of(rows, rows.upto(left), stop)
            if state.tiles and left < state.horizon:
                for k in self._tiles_upto(state, left // state.hop, right):
                    found = self._merged(state.tiles[k], found)
            for cell, read in self._readers:
                values += read(found[cell], as_of)
        return values

    def _tiles_upto(self, state: ViewState, first: int, right: int) -> list[int]:
        """Tiles after ``first`` whose events all lie at or before the right edge."""
        whole = right >= state.horizon and not (self._hop and self._delay)
        last = 2**63 if whole else right // state.hop
        return [k for k in state.tiles if first < k <= last]

    def _snapped(self, time: int) -> int:
        return time // self._hop * self._hop if self._hop else time

    def _newest(self, state: ViewState, as_of: int) -> int | None:
        """Event time of the newest event that features as of an instant use; None if none."""
        index = state.rows.upto(as_of - self._delay)
        if index:
            return state.rows.time(index - 1)
        return None if state.horizon == _NEVER else state.horizon


def _remove(rows: Rows, digests: Iterable[bytes]) -> None:
    for digest in digests:
        index = rows.find(digest)
        if index >= 0:
            rows.remove(index)


def _tile(time: int, hop: int) -> int:
    return -(-time // hop)


def _number(value: bool | float | None) -> float | None:
    return None if value is None else float(value)


def _hash(value: object) -> int:
    """64 bits of a field's value; 17 and '17' are the same, as they are as ids."""
    if value is None:
        return ABSENT_HASH
    found = int.from_bytes(blake2b(str(value).encode(), digest_size=8).digest(), "little")
    return min(found, ABSENT_HASH - 1)
