"""An event meets an entity: it changes the state, and the state says what features there are.

The compiled fold does it where it can, else Python, with the same outcome. May import state,
outcome, feature_row and table_rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.feature_row import EntityPart
from headrace.table_rows import TableReader
from headrace.view_state import Folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.definition import Definition
    from headrace.events import Event
    from headrace.outcome import Work
    from headrace.state import EntityState, StateCodec


class EntityFold:
    """Folds events into the entities of one definition."""

    def __init__(self, definition: Definition, codec: StateCodec) -> None:
        self._scored, self._codec = definition.scored, codec
        self._tables = TableReader(definition) if definition.tables else None

    def fold(self, state: EntityState, works: Sequence[Work]) -> None:
        """Fold the works that touch one entity, in their order, and note what it says of each."""
        for work in works:
            event = work.event
            part = self._fold_compiled(state, event) or self._fold_in_python(state, event)
            work.parts[state.entity] = part
            if self._tables and event.source is self._scored:
                part.looked_up = self._tables.look_up(state.entity, state.rows, event.arrival)
            if not event.late:
                state.note_arrival(event.arrival)

    def look(self, state: EntityState, as_of: int) -> EntityPart:
        """What a state says as of an instant (microseconds UTC), without an event.

        Raises:
            StateError: It was written under another layout of a view.
        """
        if state.compiled is not None:
            return EntityPart(*state.compiled.look(as_of))
        part = EntityPart()
        for fold in self._codec.folds[state.entity]:
            part.add(fold.look(self._codec.view(state, fold), as_of))
        return part

    def _fold_compiled(self, state: EntityState, event: Event) -> EntityPart | None:
        """What the compiled fold makes of an event; None where it is left to Python."""
        if state.compiled is None or event.late:
            return None
        number = self._codec.sources[event.source.name]
        found = state.compiled.step(number, event.time, event.digest, event.arrival, event.fields)
        if found is None:
            return None
        part = EntityPart(*found)
        if part.new:
            state.changed.add(event.source.name)
        if number == self._codec.scored:
            state.note_scored(event.id, event.time)
        return part

    def _fold_in_python(self, state: EntityState, event: Event) -> EntityPart:
        part, later = EntityPart(), state.recent.after(event.digest)
        scored = event.source is self._scored
        if scored:
            self._step(state, event, part, later)
        else:
            self._fold(state, event, part, known=later is not None)
        met = part.new or (scored and (event.late or not (part.late or part.repeated)))
        if met and later is None:
            state.recent.note(event.digest, event.arrival)
        return part

    def _fold(self, state: EntityState, event: Event, part: EntityPart, *, known: bool) -> None:
        """An event that is not scored only changes state."""
        for fold in self._codec.folds[state.entity]:
            if fold.view.source is event.source:
                folded = fold.fold(self._codec.view(state, fold), event, known=known)
                part.note(folded)
                if folded is Folded.NEW:
                    state.changed.add(fold.view.name)

    def _step(
        self, state: EntityState, event: Event, part: EntityPart, later: list[bytes] | None
    ) -> None:
        """An event that is scored changes state and has features."""
        for fold in self._codec.folds[state.entity]:
            view = self._codec.view(state, fold)
            if fold.view.source is event.source:
                step = fold.step(view, event, later)
                part.note(step.folded)
                if step.folded is Folded.NEW:
                    state.changed.add(fold.view.name)
            else:
                step = fold.look(view, event.time, later)
            part.add(step)
            if view.hop and fold.view.hop is None:
                part.degraded = (*part.degraded, fold.view.name)
        if not (event.late or part.late or part.repeated):
            state.note_scored(event.id, event.time)
