"""Rows of tables: what is stored of them, and what they say of an entity as of an instant.

May import imputation, events and definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headrace.events import microseconds
from headrace.imputation import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.definition import Definition
    from headrace.tables import Table

_US_PER_SECOND = 1_000_000


class TableRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of a table.

    Attributes:
        table: The table's name.
        loaded_at: When it was loaded, microseconds UTC.
        values: One per field of the table, in its order; None where the row has none.
        newest: Whether the store has no older rows: then it counts for events before it too.
    """

    table: str
    loaded_at: int
    values: list[float | None]
    newest: bool = False


class LookedUp(NamedTuple):
    """What an entity's rows say as of an instant.

    Attributes:
        values: For each of ``TableReader.names``, the value, and why it is absent where it is None.
        ages: Table -> seconds from the load of its row to that instant, expired rows too.
    """

    values: Sequence[tuple[float | None, Cause]]
    ages: dict[str, float]


NO_TABLES = LookedUp((), {})


def row_key(table: str, entity_id: str) -> str:
    """Key of an entity's row, such as ``profile#42``."""
    return f"{table}#{entity_id}"


class TableReader:
    """The tables of one definition, made ready to give features."""

    def __init__(self, definition: Definition) -> None:
        self._tables: dict[str, list[Table]] = {}
        for table in definition.tables:
            self._tables.setdefault(table.entity.name, []).append(table)

    def names(self, entity: str) -> tuple[str, ...]:
        """The features that an entity's tables give."""
        return tuple(name for table in self._tables.get(entity, ()) for name in table.features)

    def look_up(self, entity: str, rows: Sequence[TableRow], as_of: int) -> LookedUp:
        """What an entity's rows say as of an instant.

        Args:
            entity: Its name.
            rows: Of the entity, any tables, any loads.
            as_of: Arrival of the event, or time of the run, microseconds UTC: what was loaded
                later is not seen, unless older rows are not kept.
        """
        found, ages = list[tuple[float | None, Cause]](), dict[str, float]()
        for table in self._tables.get(entity, ()):
            row = _newest(rows, table.name, as_of)
            age = 0 if row is None else max(0, as_of - row.loaded_at)
            if row is None:
                found += [(None, Cause.NEVER_SEEN)] * len(table.fields)
            elif age > microseconds(table.valid_for):
                found += [(None, Cause.EXPIRED)] * len(table.fields)
            elif len(row.values) != len(table.fields):
                found += [(None, Cause.LOOKUP_FAILED)] * len(table.fields)
                continue
            else:
                found += [(value, Cause.NOT_IN_TABLE) for value in row.values]
            if row is not None:
                ages[table.name] = age / _US_PER_SECOND
        return LookedUp(found, ages)


def _newest(rows: Iterable[TableRow], table: str, as_of: int) -> TableRow | None:
    seen = [r for r in rows if r.table == table and (r.newest or r.loaded_at <= as_of)]
    return max(seen, key=lambda row: row.loaded_at, default=None)
