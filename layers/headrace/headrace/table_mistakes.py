"""The mistakes that a definition's tables can have. May import definition and source_mistakes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from headrace.definition import Entity, Flag, Number, Table
from headrace.source_mistakes import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.definition import Definition


def table_shape_mistakes(definition: Definition) -> Iterator[str]:
    """What is no table at all, or has no fields to name features by."""
    for table in definition.tables:
        if not isinstance(table, Table):
            yield f"tables: {table!r}; expected Table(name=..., entity=..., fields={{...}})"
        elif not isinstance(table.fields, dict) or not table.fields:
            what = f"table {table.name!r}: fields are {table.fields!r}"
            yield f"{what}; expected at least one Number or Flag"


def table_mistakes(definition: Definition) -> Iterator[str]:
    """Every mistake in what are tables."""
    for table in definition.tables:
        yield from _of_table(f"table {table.name!r}", table, definition)
    names = [table.name for table in definition.tables]
    for name, times in Counter([*names, *(view.name for view in definition.views)]).items():
        if times > 1 and name in names:
            yield f"tables: {name!r} is there {times} times; tables and views have unique names"


def _of_table(place: str, table: Table, definition: Definition) -> Iterator[str]:
    if not NAME.match(table.name):
        yield f"{place}: expected lower case letters, digits and underscores as its name"
    if not isinstance(table.entity, Entity) or (
        table.entity not in definition.scored.entities.values()
    ):
        known = ", ".join(entity.name for entity in definition.scored.entities.values())
        yield f"{place}: entity is {table.entity!r}; expected one of the scored source's: {known}"
    if not isinstance(table.valid_for, timedelta) or table.valid_for <= timedelta(0):
        yield f"{place}: valid_for is {table.valid_for!r}; expected a duration of more than 0"
    for name, kind in table.fields.items():
        if not NAME.match(name) or not isinstance(kind, (Number, Flag)):
            yield f"{place}: field {name!r} is {kind!r}; expected a lower case Number or Flag"
