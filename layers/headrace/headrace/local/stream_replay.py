"""Replay a file through the stream of local AWS: the real handlers, triggers and tables.

May import everything but the command line.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import polars as pl

from headrace import bootstrap
from headrace.adapters.aws import in_parallel
from headrace.adapters.memory import MemoryStates
from headrace.local.stack import LocalAws
from headrace.model import load_bundle
from headrace.offline.feed import arrivals, partition_keys, records
from headrace.offline.replay import Replay, ScoreColumns, Window, replay
from headrace.ports import Segment, StateWrite, StoredState
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from headrace.local.records import StreamRecord
    from headrace.offline.feed import Feed

CHUNK = 1_000
"""Records put before the stream is drained again."""

_US_PER_SECOND = 1_000_000


class Arrivals:
    """Arrival times of history, by the sequence number that its record got on the stream."""

    def __init__(self) -> None:
        self._by_sequence: dict[str, int] = {}

    def note(self, sequences: Sequence[str], times: Sequence[int]) -> None:
        """Note arrival times, microseconds UTC."""
        self._by_sequence.update(zip(sequences, times, strict=True))

    def __call__(self, record: StreamRecord) -> float | None:
        """Seconds since 1970; None for a record that arrived when it did."""
        found = self._by_sequence.get(record.sequence_number)
        return None if found is None else found / _US_PER_SECOND


def replay_through_stream(
    template: Path,
    model_dir: Path,
    feeds: list[Feed],
    window: Window,
    endpoint: str | None,
    progress: Callable[[int], None],
) -> Replay:
    """Replay feeds in order of arrival through Kinesis, Lambda handlers and DynamoDB.

    What arrived before ``window.start`` is folded in memory and its state written to the table.

    Raises:
        HeadraceError: Local AWS cannot play the template, or a dependency failed.
    """
    scorer = Scorer(load_bundle(model_dir))
    history = replay(scorer, feeds, Window(window.start, window.start), progress)
    order = arrivals(feeds).filter(pl.col("arrival").is_between(*window, closed="left"))
    keys = iter(partition_keys(scorer.definition, feeds, order))
    known = Arrivals()
    with LocalAws.start(template, endpoint=endpoint, model_dir=model_dir, arrival=known) as aws:
        seed(scorer, history.states)
        for chunk in records(feeds, order, CHUNK):
            sequences = aws.put([(record.data, next(keys)) for record in chunk])
            known.note(sequences, [record.arrival for record in chunk])
            aws.drain()
            progress(len(chunk))
        delivered = aws.delivered
        scores = _scores(scorer, feeds[0], order)
        states = _states(scorer)
    counts = Counter(records=delivered.records, retries=delivered.retries, failed=delivered.failed)
    return Replay(scores, states, [], max(history.newest, _newest(feeds, order)), counts)


def seed(scorer: Scorer, states: MemoryStates) -> None:
    """Write states to a table that has none of them.

    Raises:
        RuntimeError: An entity has a state there already.
    """
    codec = scorer.codec
    writes = [
        StateWrite(key, 0, stored.data, codec.expires(codec.decode(key, *stored)))
        for key, stored in states.items.items()
    ]
    outcome = bootstrap.state_store().write(writes)
    if outcome.lost or outcome.failed:
        number = len(outcome.lost) + len(outcome.failed)
        msg = f"{number} of {len(writes)} states could not be seeded; expected an empty table"
        raise RuntimeError(msg)


def _scores(scorer: Scorer, feed: Feed, order: pl.DataFrame) -> pl.DataFrame:
    rows = order.filter(pl.col("feed") == 0).get_column("row")
    ids = feed.frame[rows].get_column(feed.source.id).cast(pl.String).unique(maintain_order=True)
    found = in_parallel(bootstrap.score_store().get, ids.to_list())
    columns = ScoreColumns(scorer.definition)
    columns.put_new([record for record in found if record is not None])
    return columns.frame(feed)


def _states(scorer: Scorer) -> MemoryStates:
    states, store = MemoryStates(), bootstrap.state_store()
    for entity in scorer.codec.folds:
        cursor: str | None = None
        while True:
            page = store.scan(entity, Segment(0, 1), cursor)
            for key, version, data in page.items:
                states.items[key] = StoredState(version, data)
            cursor = page.cursor
            if cursor is None:
                break
    return states


def _newest(feeds: list[Feed], order: pl.DataFrame) -> int:
    times = [
        feed.frame[order.filter(pl.col("feed") == number).get_column("row")]
        .get_column(feed.source.time)
        .dt.epoch("us")
        .max()
        for number, feed in enumerate(feeds)
    ]
    return max((time for time in times if isinstance(time, int)), default=0)
