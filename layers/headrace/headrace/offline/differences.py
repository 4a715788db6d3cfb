"""Where two sets of features of the same events differ. May import nothing of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOSE = 1e-9
"""Relative difference up to which two values are the same: the contract on sums and means."""


class Difference(NamedTuple):
    """How one feature differs between two frames.

    Attributes:
        feature: Its name.
        rows: Events in which it differs.
        absent: Of these, the ones in which only one side has a value.
        largest: Largest difference of two values.
    """

    feature: str
    rows: int
    absent: int
    largest: float


def same(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Whether two values are both absent, or equal but for rounding."""
    near = (a - b).abs() <= CLOSE * pl.max_horizontal(a.abs(), b.abs())
    return (a.is_null() & b.is_null()) | near.fill_null(value=False)


def differences(
    one: pl.DataFrame, other: pl.DataFrame, key: str, columns: Sequence[str]
) -> list[Difference]:
    """Compare features of the events that both frames have.

    Args:
        one: With the key and the columns.
        other: The same.
        key: Column with the events' id.
        columns: The features.
    """
    both = one.select(key, *columns).join(other.select(key, *columns), on=key, suffix=_OTHER)
    return [_difference(both, name) for name in columns]


_OTHER = " of the other"


def _difference(both: pl.DataFrame, name: str) -> Difference:
    a, b = pl.col(name).cast(pl.Float64), pl.col(name + _OTHER).cast(pl.Float64)
    apart = both.select(a=a, b=b).filter(~same(pl.col("a"), pl.col("b")))
    gap = apart.select((pl.col("a") - pl.col("b")).abs().max()).item()
    absent = apart.filter(pl.col("a").is_null() | pl.col("b").is_null()).height
    return Difference(name, apart.height, absent, gap or 0.0)
