"""Make history as untidy as a stream: late, out of order, and twice. May import feed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from headrace.events import microseconds
from headrace.offline.feed import Feed


@dataclass(frozen=True, slots=True)
class Disorder:
    """How untidy a replay is.

    Attributes:
        delay: Each event arrives later by up to this, evenly spread, but within its source's
            lateness: beyond it, what is late stays out of state, and a replay of it is another.
        duplicates: Share of the events that arrive again, up to as much later.
        seed: The same seed gives the same order.
    """

    delay: timedelta = timedelta(0)
    duplicates: float = 0.0
    seed: int = 0


def disordered(
    feeds: list[Feed], order: pl.DataFrame, disorder: Disorder, start: int
) -> pl.DataFrame:
    """Arrivals with delays and repetitions.

    Args:
        feeds: What is replayed.
        order: As ``feed.arrivals`` gives it.
        disorder: How untidy.
        start: Microseconds UTC; what arrived before it stays as it was.
    """
    before, after = (
        order.filter(pl.col("arrival") < start),
        order.filter(pl.col("arrival") >= start),
    )
    if not len(after):
        return order
    random = np.random.default_rng(disorder.seed)
    latest = _latest(feeds, after)
    moved = _later(after, latest, disorder, random)
    again = random.random(len(after)) < disorder.duplicates
    repeated = _later(moved.filter(again), latest.filter(again), disorder, random)
    untidy = pl.concat([moved, repeated]).sort("arrival", maintain_order=True)
    return pl.concat([before, untidy])


def _later(
    order: pl.DataFrame, latest: pl.Series, disorder: Disorder, random: np.random.Generator
) -> pl.DataFrame:
    longest = max(1, microseconds(disorder.delay))
    delays = pl.Series(random.integers(0, longest, len(order)))
    arrival = order.get_column("arrival")
    return order.with_columns(
        arrival=pl.select(pl.max_horizontal(arrival, pl.min_horizontal(arrival + delays, latest)))
        .to_series()
    )  # fmt: skip


def _latest(feeds: list[Feed], order: pl.DataFrame) -> pl.Series:
    """Microseconds UTC at which each event is only just not late."""
    parts = [
        feed.frame.select(
            latest=pl.col(feed.source.time).dt.epoch("us") + microseconds(feed.source.lateness),
            feed=pl.lit(number, pl.UInt8),
        ).with_row_index("row")
        for number, feed in enumerate(feeds)
    ]
    known = pl.concat(parts)
    return order.join(known, on=["feed", "row"], how="left", maintain_order="left").get_column(
        "latest"
    )
