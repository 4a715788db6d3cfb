"""Events of a file as records in order of arrival, the way a stream would have brought them.

May import adapters.parquet, events, definition and errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from headrace.adapters.parquet import utc
from headrace.errors import Misconfigured
from headrace.events import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.definition import Definition, Source

ARRIVAL_TIME = "arrival_time"
LABEL_TIME = "label_time"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_FIRST_SEQUENCE = 1


@dataclass(frozen=True, slots=True)
class Feed:
    """One source's events with their arrival times.

    Attributes:
        source: The source that the rows belong to.
        frame: Its id, time, entity and field columns; times are UTC.
        arrival: Name of the column with the arrival time.
    """

    source: Source
    frame: pl.DataFrame
    arrival: str


def read_feed(path: Path, source: Source) -> Feed:
    """Read a Parquet file of one source.

    Events arrive at ``arrival_time`` where the file has it, else at ``label_time``, else at
    their event time. Times without a zone are UTC.

    Raises:
        Misconfigured: The file cannot be read or lacks columns of the source.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: {error}; expected a Parquet file of {source.name!r}"
        raise Misconfigured(msg) from error
    return feed_of(frame, source, path.name)


def feed_of(frame: pl.DataFrame, source: Source, name: str = "frame") -> Feed:
    """A feed of a frame; see ``read_feed``."""
    needed = [source.id, source.time, *source.entities]
    lacking = [column for column in needed if column not in frame.columns]
    if lacking:
        msg = f"{name}: columns {', '.join(lacking)} are missing; source {source.name!r} has them"
        raise Misconfigured(msg)
    arrival = next((c for c in (ARRIVAL_TIME, LABEL_TIME) if c in frame.columns), source.time)
    columns = [*needed, *(field for field in source.fields if field in frame.columns)]
    if frame.get_column(arrival).null_count():
        msg = f"{name}: column {arrival!r} has empty values; expected an arrival time for each row"
        raise Misconfigured(msg)
    times = [utc(frame, column) for column in dict.fromkeys((source.time, arrival))]
    chosen = list(dict.fromkeys([*columns, arrival]))  # in this order in every process
    return Feed(source, frame.with_columns(times).select(chosen), arrival)


def arrivals(feeds: list[Feed]) -> pl.DataFrame:
    """Every event of all feeds in order of arrival: ``arrival`` (us), ``feed``, ``row``.

    At equal arrival the order is that of the feeds, then that of their rows.
    """
    parts = [
        feed.frame.select(
            arrival=pl.col(feed.arrival).dt.epoch("us"), feed=pl.lit(number, pl.UInt8)
        ).with_row_index("row")
        for number, feed in enumerate(feeds)
    ]
    return pl.concat(parts).sort("arrival", "feed", "row")


def records(feeds: list[Feed], order: pl.DataFrame, chunk: int) -> Iterator[list[Record]]:
    """Records in the given order of ``arrivals``, in lists of ``chunk``."""
    for start in range(0, len(order), chunk):
        part = order.slice(start, chunk).with_row_index("place", offset=start + _FIRST_SEQUENCE)
        encoded = [
            rows.with_columns(data=payloads(feed, rows.get_column("row")))
            for number, feed in enumerate(feeds)
            if len(rows := part.filter(pl.col("feed") == number))
        ]
        yield [
            Record(data.encode(), arrival, f"replay:{place}", str(place))
            for place, arrival, data in pl.concat(encoded)
            .sort("place")
            .select("place", "arrival", "data")
            .iter_rows()
        ]


def payloads(feed: Feed, rows: pl.Series) -> pl.Series:
    """The rows as JSON events."""
    chosen = feed.frame[rows]
    known = {feed.source.time, feed.source.id, *feed.source.entities, *feed.source.fields}
    event = pl.struct(
        pl.lit(feed.source.name).alias("source"),
        pl.col(feed.source.time).dt.strftime(_TIME_FORMAT),
        *(name for name in chosen.columns if name in known and name != feed.source.time),
    )
    return chosen.select(data=event.struct.json_encode()).get_column("data")


def partition_keys(definition: Definition, feeds: list[Feed], order: pl.DataFrame) -> list[str]:
    """The partition key of each event: its batch entity's id, as the endpoint puts it."""
    keys = []
    for feed in feeds:
        field = next(
            name for name, each in feed.source.entities.items() if each == definition.batch_entity
        )
        keys.append(feed.frame.get_column(field).cast(pl.String).to_list())
    return [keys[feed][row] for feed, row in order.select("feed", "row").iter_rows()]
