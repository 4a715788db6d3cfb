"""One entity's state: all of its views, packed into one binary value.

Views are unpacked when they are first needed, and only those that changed are packed again.
Where the compiled fold takes an entity, its views stay with it until Python needs one.
May import compiled_fold, windows, rows, events, definition, errors.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from headrace import compiled_fold
from headrace.errors import StateError
from headrace.events import microseconds, shown_key
from headrace.recent import Recent
from headrace.rows import DIGEST_BYTES, MICROSECONDS, SECONDS, Column, Rows, Ticks
from headrace.sizes import MAX_BYTES, MAX_ROWS_BYTES, hop_bytes_of
from headrace.view_state import ViewState
from headrace.windows import ViewFold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.definition import Definition
    from headrace.table_rows import TableRow

FORMAT = 1
_MICROSECONDS_PER_SECOND = 1_000_000


class _PackedView(msgspec.Struct, array_like=True):
    layout: bytes
    horizon: int
    hop: int
    unit: int
    base: int
    times: bytes
    digests: bytearray
    columns: list[tuple[str, int, bytes]]
    tiles: list[tuple[int, list[Any]]] = []
    lifetime: list[Any] | None = None


class _PackedEntity(msgspec.Struct, array_like=True):
    format: int
    newest_arrival: int
    last_id: str
    last_time: int
    recent_arrivals: bytes
    recent_digests: bytearray
    views: dict[str, bytes]


_decode_entity = msgspec.msgpack.Decoder(_PackedEntity).decode
_decode_view = msgspec.msgpack.Decoder(_PackedView).decode
_encode = msgspec.msgpack.Encoder().encode


class EntityState(msgspec.Struct, eq=False):
    """What is known of one entity.

    Attributes:
        key: Such as ``customer#42``.
        entity: The entity's name, such as ``customer``.
        version: Version of the stored item; 0 where there is none.
        newest_arrival: Arrival time of the newest event folded, microseconds UTC.
        last_id: Id of the scored event with the newest event time; "" without one.
        last_time: Its event time, microseconds UTC.
        rows: Of tables; looked up, and not part of what is packed.
        compiled: The compiled fold's, which holds recent and packed; None where Python does.
        views: View -> as unpacked.
        changed: What has changed it: views, or the source whose event the compiled fold took.
        noted: Whether a scored event was noted.
    """

    key: str
    entity: str
    version: int = 0
    newest_arrival: int = 0
    last_id: str = ""
    last_time: int = 0
    rows: Sequence[TableRow] = ()
    compiled: Any = None
    views: dict[str, ViewState] = {}
    changed: set[str] = set()
    noted: bool = False
    _recent: Any = None  # where Python holds them
    _packed: Any = None

    @property
    def recent(self) -> Recent:
        """What was folded lately, in that order."""
        self.leave()
        found: Recent = self._recent
        return found

    @recent.setter
    def recent(self, recent: Recent) -> None:
        self.leave()
        self._recent = recent

    @property
    def packed(self) -> dict[str, bytes]:
        """View -> as it is stored."""
        self.leave()
        found: dict[str, bytes] = self._packed
        return found

    def hold(self, recent: Recent, packed: dict[str, bytes]) -> None:
        """Hold these in Python."""
        self._recent, self._packed = recent, packed

    def leave(self) -> None:
        """Take over from the compiled fold what it holds."""
        compiled = self.compiled
        if compiled is not None:
            self.compiled = None
            self.hold(Recent(*compiled.met()), compiled.views())

    def note_arrival(self, arrival: int) -> None:
        """Remember the newest arrival, by which old rows are given up."""
        if arrival > self.newest_arrival:
            self.newest_arrival = arrival

    def note_scored(self, event_id: str, time: int) -> None:
        """Remember the newest scored event, whose score is the entity's last one."""
        if (time, event_id) > (self.last_time, self.last_id):
            self.last_id, self.last_time = event_id, time
            self.noted = True


class StateCodec:
    """Packs and unpacks the states of one definition's entities.

    Args:
        definition: What is folded.
        plan: Says which entities the compiled fold takes; ``in_python`` leaves none to it.
    """

    def __init__(
        self, definition: Definition, plan: compiled_fold.Planner = compiled_fold.plan_of
    ) -> None:
        shares = _shares(definition)
        folds = [ViewFold(view, shares[view.entity.name]) for view in definition.views]
        names = {view.entity.name for view in definition.views}
        names |= {entity.name for entity in definition.scored.entities.values()}
        self.folds: dict[str, list[ViewFold]] = {
            name: [fold for fold in folds if fold.view.entity.name == name] for name in names
        }
        least = microseconds(max(definition.fresh_for, definition.batch_valid_for))
        self._retention = {name: _retention(found, least) for name, found in self.folds.items()}
        self._layouts = {fold.view.name: (fold.layout, fold.tile_layout) for fold in folds}
        self.sources = {source.name: n for n, source in enumerate(definition.sources)}
        self.scored = self.sources[definition.scored.name]
        self._plans = {
            name: plan(found, self.sources, definition.scored.name)
            for name, found in self.folds.items()
        }

    def empty(self, key: str, rows: Sequence[TableRow] = ()) -> EntityState:
        """State of an entity that has none stored."""
        state = EntityState(key, key.partition("#")[0], rows=rows)
        plan = self._plans.get(state.entity)
        if plan is None:
            state.hold(Recent(), {})
        else:
            state.compiled = compiled_fold.empty(plan)
        return state

    def decode(
        self, key: str, version: int, data: bytes, rows: Sequence[TableRow] = ()
    ) -> EntityState:
        """Unpack a stored state (its views when they are needed); without one it is empty.

        Raises:
            StateError: The bytes are not a state of this format.
        """
        if not version:
            return self.empty(key, rows)
        entity = key.partition("#")[0]
        plan = self._plans.get(entity)
        opened = None if plan is None else compiled_fold.opened(plan, data)
        if opened is not None:
            compiled, newest, last_id, last_time = opened
            return EntityState(key, entity, version, newest, last_id, last_time, rows, compiled)
        try:
            stored = _decode_entity(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"state of {shown_key(key)}: {error}; expected what Headrace wrote"
            raise StateError(msg) from error
        if stored.format != FORMAT:
            msg = (
                f"state of {shown_key(key)}: format is {stored.format}; this version reads {FORMAT}"
            )
            raise StateError(msg)
        known = stored.newest_arrival, stored.last_id, stored.last_time
        state = EntityState(key, entity, version, *known, rows)
        state.hold(Recent(stored.recent_arrivals, stored.recent_digests), stored.views)
        return state

    def view(self, state: EntityState, fold: ViewFold) -> ViewState:
        """The entity's state in one view.

        Raises:
            StateError: It was written under another layout of the view.
        """
        name = fold.view.name
        found = state.views.get(name)
        if found is None:
            data = state.packed.get(name)
            found = fold.empty() if data is None else self._unpack(state.key, name, data)
            state.views[name] = found
        return found

    def encode(self, state: EntityState) -> bytes:
        """Pack a state; views that did not change keep their bytes."""
        if state.compiled is not None:
            packed: bytes = state.compiled.pack(
                state.newest_arrival, state.last_id, state.last_time
            )
            return packed
        views = {}  # of the definition: one that has gone or was renamed leaves with the next write
        for fold in self.folds[state.entity]:
            name = fold.view.name
            if name in state.packed:
                views[name] = state.packed[name]
            if name in state.changed and name in state.views:
                view = state.views[name]
                layout = self._layouts[name][bool(view.tiles or view.base)]
                views[name] = _encode(_packed(layout, view))
        recent = state.recent
        recent.trim()
        return _encode(
            _PackedEntity(
                FORMAT,
                state.newest_arrival,
                state.last_id,
                state.last_time,
                recent.arrivals.tobytes(),
                recent.digests,
                views,
            )
        )

    def expires(self, state: EntityState) -> int | None:
        """Unix second after which nothing in the state can matter; None for lifetime windows."""
        longest = self._retention[state.entity]
        if longest is None:
            return None
        return (state.newest_arrival + longest) // _MICROSECONDS_PER_SECOND + 1

    def _unpack(self, key: str, name: str, data: bytes) -> ViewState:
        try:
            packed = _decode_view(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"state of {shown_key(key)}: view {name!r}: {error}; expected what Headrace wrote"
            raise StateError(msg) from error
        if packed.layout != self._layouts[name][bool(packed.tiles or packed.lifetime)]:
            msg = (
                f"state of {shown_key(key)}: view {name!r} was written with other fields, hop, "
                "source or filter; give the changed view a new name, or rebuild state with "
                "`headrace replay`"
            )
            raise StateError(msg)
        try:
            rows = _unpacked(packed)
        except (ValueError, TypeError, KeyError) as error:
            msg = f"state of {shown_key(key)}: view {name!r}: {error}; expected what Headrace wrote"
            raise StateError(msg) from error
        return ViewState(rows, packed.hop, packed.horizon, dict(packed.tiles), packed.lifetime)


def _shares(definition: Definition) -> dict[str, float]:
    """Entity -> into how many parts its exact views divide ``MAX_ROWS_BYTES``."""
    exact = Counter(view.entity.name for view in definition.views if view.hop is None)
    taken = Counter({name: 0 for name in exact})
    for view in definition.views:
        if view.hop is not None:
            taken[view.entity.name] += hop_bytes_of(view)
    return {
        name: max(1, exact[name]) * MAX_ROWS_BYTES / min(MAX_ROWS_BYTES, MAX_BYTES - hops)
        for name, hops in taken.items()
    }


def _retention(folds: Sequence[ViewFold], least: int) -> int | None:
    """How long views, look-ups or batch runs need anything, microseconds; None for ever."""
    if any(fold.lifetime for fold in folds):
        return None
    return max(least, *(fold.retention for fold in folds)) if folds else least


def _unpacked(packed: _PackedView) -> Rows:
    columns = [Column(code, scale, array(code, part)) for code, scale, part in packed.columns]
    ticks = _ticks(packed.unit, packed.base)
    rows = Rows(ticks, array(ticks.code, packed.times), packed.digests, columns)
    lengths = {len(rows), len(rows.digests) / DIGEST_BYTES, *(len(c.data) for c in columns)}
    if len(lengths) > 1:
        msg = f"times, ids and columns have {sorted(lengths)} rows"
        raise ValueError(msg)
    return rows


def _packed(layout: bytes, view: ViewState) -> _PackedView:
    rows = view.rows
    columns = [(c.code, c.scale, c.data.tobytes()) for c in rows.columns]
    return _PackedView(
        layout,
        view.horizon,
        view.hop,
        rows.ticks.unit,
        rows.ticks.base,
        rows.times.tobytes(),
        rows.digests,
        columns,
        sorted(view.tiles.items()),
        view.base,
    )


def _ticks(unit: int, base: int) -> Ticks:
    if unit == SECONDS.unit:
        return SECONDS
    return MICROSECONDS if unit == MICROSECONDS.unit else Ticks(unit, base, "I")
