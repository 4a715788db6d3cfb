"""Which rows of a file surely pass every check of the decoder, column by column.

The others may pass or not: the decoder itself says. May import definition, events, field_checks.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.definition import Flag, Number
from headrace.events import microseconds, time_to_us
from headrace.field_checks import LARGEST_NUMBER, MAX_ID_LENGTH

if TYPE_CHECKING:
    import numpy.typing as npt

    from headrace.definition import Field, Source, Text

    Ints = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

_MAX_TEXT_BYTES = 8_192  # of all texts of a row that is taken as it is: far below the limit
_LAST_YEAR_US = time_to_us(datetime(9999, 1, 1, tzinfo=UTC))


def plain_times(source: Source, time: Ints, arrival: Ints) -> Mask:
    """Which event times (microseconds UTC) are not absurd."""
    earliest, ahead = time_to_us(source.not_before), microseconds(source.ahead)
    return (time >= earliest) & (time <= arrival + ahead) & (time < _LAST_YEAR_US)


def plain_rows(frame: pl.DataFrame, source: Source) -> Mask | bool:
    """Which rows need no decoder: every value of the right type and within its bounds."""
    if source.rules:
        return np.zeros(len(frame), dtype=np.bool_)
    checks = [_plain_id(frame.schema[name], name) for name in (source.id, *source.entities)]
    lengths = []
    for name, kind in source.fields.items():
        if name not in frame.columns:
            checks.append(pl.lit(value=not kind.required))
            continue
        checks.append(_plain_field(frame.schema[name], name, kind))
        if frame.schema[name] == pl.String:
            lengths.append(pl.col(name).str.len_bytes().fill_null(0))
    if lengths:
        checks.append(pl.sum_horizontal(lengths) <= _MAX_TEXT_BYTES)
    passed = frame.lazy().select(pl.all_horizontal(checks).alias("plain")).collect()
    plain = passed.get_column("plain").fill_null(value=False)
    return bool(plain[0]) if len(plain) == 1 else plain.to_numpy()


def _plain_id(dtype: pl.DataType, name: str) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.String:
        return column.is_not_null() & column.str.len_chars().is_between(1, MAX_ID_LENGTH)
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
        return column.is_not_null()
    return pl.lit(value=False)


def _plain_field(dtype: pl.DataType, name: str, kind: Field) -> pl.Expr:
    column = pl.col(name)
    absent = pl.lit(value=False) if kind.required else column.is_null()
    if isinstance(kind, Number):
        passes = _plain_number(dtype, column, kind)
    elif isinstance(kind, Flag):
        passes = _plain_flag(dtype, column)
    else:
        passes = _plain_text(dtype, column, kind)
    return absent | passes.fill_null(value=False)


def _plain_number(dtype: pl.DataType, column: pl.Expr, kind: Number) -> pl.Expr:
    if dtype == pl.Float64 or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)):
        low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
        high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
        number = column.cast(pl.Float64)
        return (number >= low) & (number <= high) & number.is_finite()
    return pl.lit(value=False)


def _plain_flag(dtype: pl.DataType, column: pl.Expr) -> pl.Expr:
    if dtype == pl.Boolean:
        return column.is_not_null()
    return column.is_between(0, 1) if dtype.is_integer() else pl.lit(value=False)


def _plain_text(dtype: pl.DataType, column: pl.Expr, kind: Text) -> pl.Expr:
    if dtype != pl.String:
        return pl.lit(value=False)
    return column.is_in(kind.one_of) if kind.one_of else column.str.len_chars() <= kind.max_length
