"""Load a table's rows from Parquet: check them, and put them where they are looked up.

May import table_rows, ports and definition.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from headrace.definition import Flag, Number
from headrace.errors import Misconfigured
from headrace.events import microseconds, us_to_text
from headrace.field_checks import LARGEST_NUMBER, MAX_ID_LENGTH
from headrace.offline.feed import utc
from headrace.table_rows import TableRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.definition import Field
    from headrace.ports import Clock, TableStore
    from headrace.tables import Table

LOADED_AT = "loaded_at"
ALWAYS = 2**62
"""Stands for a load that is as old as anything and never expires: history without load times."""

CHUNK = 500
_SPARE_US = 86_400_000_000  # rows go a day after they are valid: clocks and queues differ
_US_PER_SECOND = 1_000_000
_TOLD = 5

Row = tuple[str, TableRow]


def read_rows(path: Path, table: Table, loaded_at: int) -> list[Row]:
    """Read and check a Parquet file of one table.

    Args:
        path: With the id column, the table's fields, and perhaps ``loaded_at``. NaN is missing.
        table: Says the columns, types and bounds.
        loaded_at: When the rows count as loaded, microseconds UTC; a column goes first.

    Returns:
        (entity id, row), in the order of the file.

    Raises:
        Misconfigured: The file cannot be read, lacks columns, or has rows that break the
            table's types or bounds; the first ones are named.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: {error}; expected a Parquet file of table {table.name!r}"
        raise Misconfigured(msg) from error
    lacking = [name for name in (table.id_column, *table.fields) if name not in frame.columns]
    if lacking:
        msg = (
            f"{path.name}: columns {', '.join(lacking)} are missing; table {table.name!r} has them"
        )
        raise Misconfigured(msg)
    faults = list(_faults(frame, table))
    if faults:
        more = f" and {len(faults) - _TOLD:,} more" if len(faults) > _TOLD else ""
        msg = f"{path.name}: {'; '.join(faults[:_TOLD])}{more}"
        raise Misconfigured(msg)
    return _rows(frame, table, loaded_at)


def load(
    rows: list[Row],
    table: Table,
    store: TableStore,
    clock: Clock,
    rate: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Put rows of one load in place of the former ones; repeating it ends the same.

    Args:
        rows: Of one load.
        table: Whose rows they are.
        store: Where they go.
        clock: Paces the load.
        rate: Rows per second at most.
        progress: Called with the number of rows done.

    Raises:
        Misconfigured: A newer load is there already.
        StoreUnavailable: The store did not take all; load again.
    """
    if not rows:
        return
    loaded_at = rows[0][1].loaded_at
    newest = store.newest_load(table.name)
    if loaded_at < newest:
        msg = (
            f"table {table.name!r}: this load is of {us_to_text(loaded_at)}; one of "
            f"{us_to_text(newest)} is there: expected a newer one"
        )
        raise Misconfigured(msg)
    expires = loaded_at + microseconds(table.valid_for) + _SPARE_US
    remaining = iter(rows)
    while part := dict(islice(remaining, CHUNK)):
        began = clock.now()
        store.put_rows(part, expires)
        progress(len(part))
        if rate:
            took = (clock.now() - began) / _US_PER_SECOND
            clock.sleep(max(0.0, len(part) / rate - took))
    store.note_load(table.name, loaded_at)


def _rows(frame: pl.DataFrame, table: Table, loaded_at: int) -> list[Row]:
    ids = frame.get_column(table.id_column).cast(pl.String).to_list()
    values = frame.select(pl.col(name).cast(pl.Float64).fill_nan(None) for name in table.fields)
    when = [loaded_at] * len(ids)
    if LOADED_AT in frame.columns:
        times = utc(frame, LOADED_AT).dt.epoch("us")
        when = frame.select(at=times).get_column("at").to_list()
    newest = loaded_at == ALWAYS and LOADED_AT not in frame.columns
    return [
        (entity_id, TableRow(table.name, at, list(found), newest))
        for entity_id, at, found in zip(ids, when, values.iter_rows(), strict=True)
    ]


def _faults(frame: pl.DataFrame, table: Table) -> Iterator[str]:
    ids = frame.get_column(table.id_column)
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        yield f"column {table.id_column} is {ids.dtype}; expected integers or text"
        return
    yield from _id_faults(frame, ids, table)
    for name, kind in table.fields.items():
        yield from _field_faults(frame.get_column(name), name, kind)


def _id_faults(frame: pl.DataFrame, ids: pl.Series, table: Table) -> Iterator[str]:
    texts = ids.cast(pl.String)
    lengths = texts.str.len_chars()
    wrong = texts.is_null() | (lengths == 0) | (lengths > MAX_ID_LENGTH)
    for number in wrong.arg_true().to_list():
        what = f"row {number}: {table.id_column} is {texts[number]!r}"
        yield f"{what}; expected an id of 1 to {MAX_ID_LENGTH} characters"
    key = [table.id_column, *([LOADED_AT] if LOADED_AT in frame.columns else [])]
    first = frame.select(first=pl.struct(key).is_first_distinct()).get_column("first")
    for number in (~first).arg_true().to_list():
        yield f"row {number}: {table.id_column} {texts[number]!r} is there before; expected it once"


def _field_faults(values: pl.Series, name: str, kind: Field) -> Iterator[str]:
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        yield f"column {name} is {values.dtype}; expected numbers"
        return
    numbers = values.cast(pl.Float64)
    low, high, expected = _bounds(kind)
    outside = ~numbers.is_between(low, high) & ~numbers.is_nan()
    if isinstance(kind, Flag):
        outside |= ~numbers.is_in([0.0, 1.0])
    for number in outside.fill_null(False).arg_true().to_list():
        yield f"row {number}: {name} is {values[number]!r}; expected {expected}"


def _bounds(kind: Field) -> tuple[float, float, str]:
    if not isinstance(kind, Number):
        return 0.0, 1.0, "true or false, or 1 or 0"
    low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
    high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
    return low, high, f"a number from {low:g} to {high:g}"
