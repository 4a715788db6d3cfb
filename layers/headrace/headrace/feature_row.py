"""From views and event to the columns that the model sees: request features, then imputation.

Stream, request and batch all go through here. May import definition, events, imputation, state.
"""

from __future__ import annotations

from math import isfinite, nan
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.definition import INDICATOR
from headrace.imputation import Absent, Cause, Imputed, Imputer, refuses
from headrace.table_rows import NO_TABLES, LookedUp, TableReader
from headrace.view_state import Folded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.definition import Definition
    from headrace.events import Event
    from headrace.state import StateCodec
    from headrace.view_state import Step


class EntityPart(msgspec.Struct):
    """What one entity's state says as of an event.

    Attributes:
        features: Values of the entity's views, in their order; None where absent.
        new: A view took the event for the first time.
        repeated: A view knew the event already.
        late: A view found the event too old to fold.
        seen: Whether a view had any event before.
        newest: Event time of the newest earlier event used, microseconds UTC.
        cut: Places in ``features`` of views with a window that reaches back too far.
        degraded: Views that have given up exact rows for tiles.
        looked_up: What the rows of the entity's tables say.
    """

    features: list[float | None] = []
    new: bool = False
    repeated: bool = False
    late: bool = False
    seen: bool = False
    newest: int | None = None
    cut: frozenset[int] = frozenset()
    degraded: tuple[str, ...] = ()
    looked_up: LookedUp = NO_TABLES

    def add(self, step: Step) -> None:
        """Add what one more view says."""
        if step.cut:
            self.cut |= {*range(len(self.features), len(self.features) + len(step.features))}
        self.features += step.features
        self.seen = self.seen or step.seen
        if step.newest is not None and (self.newest is None or step.newest > self.newest):
            self.newest = step.newest

    def note(self, folded: Folded) -> None:
        """Note what became of the event in a view that reads its source."""
        if folded is Folded.NEW:
            self.new = True
        elif folded is Folded.REPEATED:
            self.repeated = True
        elif folded is Folded.LATE:
            self.late = True


class FeatureRow(msgspec.Struct, gc=False):
    """Every column after imputation, what was imputed, and what nothing may stand in for.

    Attributes:
        columns: Every column and indicator as the model sees it; None where it sees NaN.
        imputed: Column -> what stands in for it, for those that were absent.
        lacking: Columns that are required and absent: the model must not score the row.
    """

    columns: dict[str, float | None]
    imputed: dict[str, Imputed]
    lacking: tuple[str, ...] = ()


class Assembler:
    """Makes feature rows for one definition."""

    def __init__(self, definition: Definition, codec: StateCodec, imputer: Imputer) -> None:
        self._imputer = imputer
        self._names = {
            entity.name: tuple(name for fold in codec.folds[entity.name] for name in fold.features)
            for entity in definition.scored.entities.values()
        }
        self._all_names = tuple([name for names in self._names.values() for name in names])
        self._has_tables = bool(definition.tables)
        tables = TableReader(definition)
        self._table_names = {entity: tables.names(entity) for entity in self._names}
        self._functions = [(f.__name__, f) for f in definition.request_features]
        known = {*definition.stored_features, *definition.request_feature_names}
        self._fields = [name for name in definition.columns if name not in known]
        self._alike = {name: imputer.alike(name) for name in definition.columns}
        self._not_computable = dict.fromkeys(definition.columns, Cause.NOT_COMPUTABLE)
        self._indicators = {name.removesuffix(INDICATOR): name for name in definition.indicators}
        self._all_there = dict.fromkeys(definition.indicators, 0.0)
        self.inputs = tuple(definition.inputs)
        self._of_inputs = itemgetter(*self.inputs)

    def of_event(self, event: Event, parts: Mapping[str, EntityPart]) -> FeatureRow:
        """The row of an event of the scored source, with a part for each of its entities."""
        causes = self._not_computable.copy()
        if self._has_tables:
            found = self._of_views_and_tables(parts, causes)
        else:
            values: list[float | None] = []
            for entity in self._names:
                values += parts[entity].features
            found = dict(zip(self._all_names, values, strict=True))
        for name, function in self._functions:
            found[name] = computed(function, event.fields, found)
        for name in self._fields:
            value = getattr(event.fields, name)
            found[name] = None if value is None else float(value)
            if value is None:
                invalid = name in event.invalid
                causes[name] = Cause.INVALID if invalid else Cause.NOT_IN_EVENT
        absent = [name for name, value in found.items() if value is None]
        if not absent:
            found.update(self._all_there)
            return FeatureRow(found, {})
        for entity, names in self._names.items():
            _note_causes(causes, names, parts[entity], late=event.late)
        return self._imputed(absent, found, causes, event.fields)

    def of_entity(self, entity: str, part: EntityPart) -> FeatureRow:
        """The row of one entity without an event; what an event would bring is imputed."""
        found: dict[str, float | None] = dict.fromkeys(
            [
                *(name for names in self._names.values() for name in names),
                *(name for names in self._table_names.values() for name in names),
            ]
        )
        causes = dict.fromkeys(self._alike, Cause.NO_EVENT)
        found.update(zip(self._names[entity], part.features, strict=True))
        _note_causes(causes, self._names[entity], part, late=False)
        self._add_rows(entity, part, found, causes)
        found.update(dict.fromkeys([name for name, _ in self._functions] + self._fields))
        absent = [name for name, value in found.items() if value is None]
        return self._imputed(absent, found, causes)

    def input_row(self, row: FeatureRow) -> Sequence[float]:
        """The model's inputs, in order."""
        found = self._of_inputs(row.columns)
        if len(self.inputs) == 1:
            found = (found,)
        if row.imputed and any([each.value is None for each in row.imputed.values()]):
            return [nan if value is None else value for value in found]
        return found  # type: ignore[no-any-return]  # none is None

    def _of_views_and_tables(
        self, parts: Mapping[str, EntityPart], causes: dict[str, Cause]
    ) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for entity, names in self._names.items():
            part = parts[entity]
            found.update(zip(names, part.features, strict=True))
            if part.looked_up.values:
                self._add_rows(entity, part, found, causes)
        return found

    def _add_rows(
        self,
        entity: str,
        part: EntityPart,
        found: dict[str, float | None],
        causes: dict[str, Cause],
    ) -> None:
        names = self._table_names[entity]
        for name, (value, cause) in zip(names, part.looked_up.values, strict=True):
            found[name], causes[name] = value, cause

    def _imputed(
        self,
        absent: Sequence[str],
        found: Mapping[str, float | None],
        causes: Mapping[str, Cause],
        fields: Any = None,
    ) -> FeatureRow:
        """The row with its absent columns imputed, each for its cause."""
        imputed: dict[str, Imputed] = {}
        for name in absent:
            cause = causes[name]
            imputed[name] = self._alike[name].get(cause) or self._imputer.impute(
                name, Absent(cause, found, fields)
            )
        row: dict[str, float | None] = {**found}
        for name, each in imputed.items():
            row[name] = each.value
        row.update(self._all_there)
        for column, name in self._indicators.items():
            if column in imputed:
                row[name] = 1.0
        lacking = [n for n, each in imputed.items() if each.value is None and refuses(each)]
        return FeatureRow(row, imputed, tuple(lacking))


def _note_causes(
    causes: dict[str, Cause], names: tuple[str, ...], part: EntityPart, *, late: bool
) -> None:
    """Note why a part's values are absent; of those that are there too, which nobody asks for."""
    if None not in part.features:
        return
    cause = Cause.WINDOW_EMPTY if part.seen else Cause.NEVER_SEEN
    if late or part.late:
        cause = Cause.LATE
    causes.update(dict.fromkeys(names, cause))
    if cause is Cause.WINDOW_EMPTY:
        causes.update({names[number]: Cause.NOT_KEPT for number in part.cut})


def computed(
    function: Callable[[Any, Mapping[str, float | None]], float | None],
    fields: Any,
    found: Mapping[str, float | None],
) -> float | None:
    """A request feature's value; None where it gives none, raises, or is not finite."""
    try:
        value = function(fields, found)
        number = None if value is None else float(value)
    except Exception:  # noqa: BLE001 - the user's own code: whatever it raises, no batch may stop
        return None
    return number if number is not None and isfinite(number) else None
