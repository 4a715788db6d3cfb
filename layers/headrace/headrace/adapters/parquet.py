"""Rows of a table in Parquet: read and checked against the definition before any is stored.

Needs Polars, which only the loading of tables has on Lambda.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from headrace.errors import LoadRejected, Misconfigured, TooLarge
from headrace.field_checks import LARGEST_NUMBER, MAX_ID_LENGTH
from headrace.fields import Flag, Number
from headrace.table_rows import TableRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from headrace.fields import Field
    from headrace.tables import Table

LOADED_AT = "loaded_at"
ALWAYS = 2**62
"""Stands for a load that is as old as anything and never expires: history without load times."""

_TOLD = 5


class _Faults(NamedTuple):
    """Of one kind: how many, and the first of them in words."""

    number: int
    first: list[str]


@dataclass(frozen=True, slots=True)
class ParquetLoad:
    """Fulfils ``table_ports.Load``; ``frame`` has the columns id, the table's fields, loaded_at."""

    table: Table
    frame: pl.DataFrame
    loaded_at: int
    mark: str = ""

    def __len__(self) -> int:
        """See the port."""
        return self.frame.height

    def rows(self, start: int = 0) -> Iterator[tuple[str, TableRow]]:
        """See the port."""
        name = self.table.name
        for part in self.frame.slice(start).iter_slices():
            ids = part.get_column(self.table.id_column).to_list()
            values = part.select(self.table.fields.keys()).iter_rows()
            when = part.get_column(LOADED_AT).to_list() if LOADED_AT in part.columns else None
            times, newest = when or repeat(self.loaded_at), not when and self.loaded_at == ALWAYS
            for entity_id, at, found in zip(ids, times, values, strict=False):
                yield entity_id, TableRow(name, at, list(found), newest)


def read_file(path: Path, table: Table, loaded_at: int) -> ParquetLoad:
    """Read and check a Parquet file of one table.

    Args:
        path: With the id column, the table's fields, and perhaps ``loaded_at``. NaN is missing.
        table: Says the columns, types and bounds.
        loaded_at: When the rows count as loaded, microseconds UTC; a column goes first.

    Raises:
        LoadRejected: The file cannot be read, lacks columns, or has rows that break the
            table's types or bounds; the first ones are named.
    """
    return _checked(path.name, [path], table, loaded_at)


def read_bytes(
    name: str, files: Sequence[bytes], table: Table, loaded_at: int, most_cells: int
) -> ParquetLoad:
    """Read and check the parts of one load.

    Args:
        name: Of the load, for messages.
        files: Parquet, each with some of the rows.
        table: Says the columns, types and bounds.
        loaded_at: See ``read_file``.
        most_cells: Rows times columns at most: a small file can hold very many.

    Raises:
        LoadRejected: See ``read_file``.
        TooLarge: There are more cells.
    """
    parts = [io.BytesIO(each) for each in files]
    wide = len(table.fields) + 1
    cells = sum(wide * _height(name, part, table) for part in parts)
    if cells > most_cells:
        msg = f"{name}: rows times columns of table {table.name!r}"
        raise TooLarge(msg, cells, most_cells)
    return _checked(name, parts, table, loaded_at)


def utc(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column of timestamps in UTC; those without a zone are UTC already.

    Raises:
        Misconfigured: It has no timestamps.
    """
    kind = frame.schema[column]
    if not isinstance(kind, pl.Datetime):
        msg = f"column {column!r} is {kind}; expected timestamps"
        raise Misconfigured(msg)
    moment = pl.col(column).cast(pl.Datetime("us", kind.time_zone))
    if kind.time_zone is None:
        return moment.dt.replace_time_zone("UTC")
    return moment.dt.convert_time_zone("UTC")


def single_load(load: ParquetLoad, mark: str = "") -> ParquetLoad:
    """The same rows as one load, of the time that they say.

    Raises:
        LoadRejected: They say several times.
    """
    times = [load.loaded_at]
    if LOADED_AT in load.frame.columns and len(load):
        times = load.frame.get_column(LOADED_AT).unique().to_list()
    if len(times) > 1:
        msg = f"table {load.table.name!r}: column {LOADED_AT} has {len(times)} times; expected one"
        raise LoadRejected(msg)
    return ParquetLoad(load.table, load.frame, times[0], mark)


def _height(name: str, part: io.BytesIO, table: Table) -> int:
    try:
        return int(pl.scan_parquet(part).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(name, table, error) from error
    finally:
        part.seek(0)


def _checked(
    name: str, parts: Sequence[Path | io.BytesIO], table: Table, loaded_at: int
) -> ParquetLoad:
    try:
        frames = [_read(part, name, table) for part in parts]
        frame = pl.concat(frames, how="vertical_relaxed")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(name, table, error) from error
    faults = list(_faults(frame, table))
    if faults:
        raise _faulty(name, table, faults)
    return ParquetLoad(table, _plain(frame, table), loaded_at)


def _read(part: Path | io.BytesIO, name: str, table: Table) -> pl.DataFrame:
    """The columns of one part that the table has."""
    there = pl.read_parquet_schema(part)
    if isinstance(part, io.BytesIO):
        part.seek(0)
    wanted = [table.id_column, *table.fields]
    lacking = [column for column in wanted if column not in there]
    if lacking:
        msg = f"{name}: columns {', '.join(lacking)} are missing; table {table.name!r} has them"
        raise LoadRejected(msg)
    return pl.read_parquet(part, columns=[*wanted, *([LOADED_AT] if LOADED_AT in there else [])])


def _unreadable(name: str, table: Table, error: Exception) -> LoadRejected:
    expected = f"expected a Parquet file of table {table.name!r}"
    return LoadRejected(f"{name}: {error}; {expected}", f"{name}: cannot be read; {expected}")


def _faulty(name: str, table: Table, faults: Sequence[_Faults]) -> LoadRejected:
    told = [text for each in faults for text in each.first][:_TOLD]
    count = sum(each.number for each in faults)
    more = f" and {count - len(told):,} more" if count > len(told) else ""
    summary = (
        f"{name}: faults ({count:,}) against table {table.name!r}; "
        "`headrace load-batch FILE --dry-run` names them"
    )
    return LoadRejected(f"{name}: {'; '.join(told)}{more}", summary)


def _plain(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Ids as text, values as numbers, times in microseconds."""
    fields = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in table.fields]
    columns = [pl.col(table.id_column).cast(pl.String), *fields]
    if LOADED_AT in frame.columns:
        columns.append(utc(frame, LOADED_AT).dt.epoch("us").alias(LOADED_AT))
    return frame.select(columns)


def _faults(frame: pl.DataFrame, table: Table) -> Iterator[_Faults]:
    ids = frame.get_column(table.id_column)
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        yield _column(f"column {table.id_column} is {ids.dtype}; expected integers or text")
        return
    yield from _id_faults(frame, ids, table)
    if LOADED_AT in frame.columns:
        yield from _time_faults(frame.get_column(LOADED_AT))
    for name, kind in table.fields.items():
        yield from _field_faults(frame.get_column(name), name, kind)


def _id_faults(frame: pl.DataFrame, ids: pl.Series, table: Table) -> Iterator[_Faults]:
    texts, column = ids.cast(pl.String), table.id_column
    lengths = texts.str.len_chars()
    wrong = texts.is_null() | (lengths == 0) | (lengths > MAX_ID_LENGTH)
    expected = f"expected an id of 1 to {MAX_ID_LENGTH} characters"
    yield from _rows(wrong, lambda row: f"row {row}: {column} is {texts[row]!r}; {expected}")
    key = [column, *([LOADED_AT] if LOADED_AT in frame.columns else [])]
    first = frame.select(first=pl.struct(key).is_first_distinct()).get_column("first")
    yield from _rows(
        ~first, lambda row: f"row {row}: {column} {texts[row]!r} is there before; expected it once"
    )


def _time_faults(times: pl.Series) -> Iterator[_Faults]:
    if not isinstance(times.dtype, pl.Datetime):
        yield _column(f"column {LOADED_AT} is {times.dtype}; expected timestamps")
        return
    yield from _rows(
        times.is_null(), lambda row: f"row {row}: {LOADED_AT} is missing; expected a timestamp"
    )


def _field_faults(values: pl.Series, name: str, kind: Field) -> Iterator[_Faults]:
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        yield _column(f"column {name} is {values.dtype}; expected numbers")
        return
    numbers = values.cast(pl.Float64)
    low, high, expected = _bounds(kind)
    outside = ~numbers.is_between(low, high) & ~numbers.is_nan()
    if isinstance(kind, Flag):
        outside |= ~numbers.is_in([0.0, 1.0])
    yield from _rows(
        outside.fill_null(value=False),
        lambda row: f"row {row}: {name} is {values[row]!r}; expected {expected}",
    )


def _column(text: str) -> _Faults:
    return _Faults(1, [text])


def _rows(wrong: pl.Series, message: Callable[[int], str]) -> Iterator[_Faults]:
    """Faults of single rows, the first of them in words."""
    rows = wrong.arg_true()
    if len(rows):
        yield _Faults(len(rows), [message(row) for row in rows.head(_TOLD).to_list()])


def _bounds(kind: Field) -> tuple[float, float, str]:
    if not isinstance(kind, Number):
        return 0.0, 1.0, "true or false, or 1 or 0"
    low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
    high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
    return low, high, f"a number from {low:g} to {high:g}"
