"""Replay a file through the stream of local AWS: the real handlers, triggers and tables.

May import everything but the command line.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

import polars as pl

from headrace import bootstrap
from headrace.adapters.aws import in_parallel
from headrace.adapters.memory import MemoryStates
from headrace.adapters.s3 import S3KeptRecords
from headrace.errors import Unavailable
from headrace.local.faults import inject
from headrace.local.stack import LocalAws
from headrace.local.trial import Trial as Trial  # those who replay find it here
from headrace.model import load_bundle
from headrace.offline.disorder import disordered
from headrace.offline.feed import arrivals, partition_keys, records
from headrace.offline.replay import Replay, ScoreColumns, Window, replay
from headrace.ports import Kept, Quarantined, Segment, Selection, StateWrite, StoredState
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from headrace.events import Record
    from headrace.local.records import StreamRecord
    from headrace.offline.feed import Feed
    from headrace.ports import StateStore

CHUNK = 1_000
"""Records put before the stream is drained again."""

_US_PER_SECOND = 1_000_000
_TIDY = Trial()


class Arrivals:
    """Arrival times of history, by the bytes of its records: those of an earlier try count too."""

    def __init__(self) -> None:
        self._by_data: dict[bytes, int] = {}

    def note(self, chunk: Sequence[Record]) -> None:
        """Note when records arrived; one that comes twice, when it came first."""
        for record in chunk:
            self._by_data.setdefault(_digest(record.data), record.arrival)

    def __call__(self, record: StreamRecord) -> float | None:
        """Seconds since 1970; None for a record that arrived when it did."""
        found = self._by_data.get(_digest(record.data))
        return None if found is None else found / _US_PER_SECOND


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def replay_through_stream(
    template: Path,
    model_dir: Path,
    feeds: list[Feed],
    window: Window,
    endpoint: str | None,
    progress: Callable[[int], None],
    trial: Trial = _TIDY,
) -> Replay:
    """Replay feeds in order of arrival through Kinesis, Lambda handlers and DynamoDB.

    What arrived before ``window.start`` is folded in memory and its state written to the table.

    Raises:
        HeadraceError: Local AWS cannot play the template, or a dependency failed.
    """
    scorer = Scorer(load_bundle(model_dir))
    history = replay(scorer, feeds, Window(window.start, window.start), progress)
    tidy = arrivals(feeds).filter(pl.col("arrival").is_between(*window, closed="left"))
    order = disordered(feeds, tidy, trial.disorder, window.start)
    keys = iter(partition_keys(scorer.definition, feeds, order))
    known = Arrivals()
    for chunk in records(feeds, order, CHUNK):
        known.note(chunk)
    with (
        inject(trial.faults, trial.seed) as injected,
        LocalAws.start(
            template,
            endpoint=endpoint,
            parameters={"BatchSize": str(trial.batch_size)} if trial.batch_size else None,
            model_dir=model_dir,
            arrival=known,
            logs=trial.logs,
        ) as aws,
    ):
        injected.watch(aws.client("kinesis").meta.events)
        with injected.paused():
            seed(scorer, history.states, resume=trial.resume)
        for chunk in records(feeds, order, CHUNK):
            aws.put([(record.data, next(keys)) for record in chunk])
            aws.drain()
            progress(len(chunk))
        delivered = aws.delivered
        with injected.paused():
            scores = _scores(scorer, feeds[0], tidy)
            states = stored_states(scorer, bootstrap.state_store())
            refused = _refused(S3KeptRecords(aws.client("s3"), aws.stack.buckets[0]))
    counts = Counter(records=delivered.records, retries=delivered.retries, failed=delivered.failed)
    counts.update(["quarantined"] * len(refused))
    counts.update(f"quarantined {each.faults[0].reason}" for each in refused)
    counts.update({f"fault {name}": n for name, n in injected.counts.items() if n})
    return Replay(scores, states, refused, max(history.newest, _newest(feeds, order)), counts)


def seed(
    scorer: Scorer, states: MemoryStates, store: StateStore | None = None, *, resume: bool = False
) -> None:
    """Write states to a table that has none of them; the functions' own where none is given.

    Raises:
        Unavailable: A state could not be written, or another one is there and not for resuming.
    """
    codec, store = scorer.codec, store or bootstrap.state_store()
    writes = [
        StateWrite(key, 0, stored.data, codec.expires(codec.decode(key, *stored)))
        for key, stored in states.items.items()
    ]
    outcome = store.write(writes)
    if outcome.failed:
        msg = f"{len(outcome.failed)} of {len(writes)} states could not be seeded"
        raise Unavailable(msg)
    others = set() if resume else _others(store, writes, outcome.lost)
    if others:
        msg = (
            f"{len(others)} of {len(writes)} states are in the table already; expected an "
            "empty one (or --resume, after an interrupted replay of the same file)"
        )
        raise Unavailable(msg)


def _others(store: StateStore, writes: list[StateWrite], lost: Collection[str]) -> set[str]:
    """Of lost writes, those whose item is another: a repeated request loses against itself."""
    found = store.read(sorted(lost)) if lost else {}
    wanted = {each.key: each.data for each in writes}
    return {key for key in lost if key not in found or found[key].data != wanted[key]}


def _scores(scorer: Scorer, feed: Feed, order: pl.DataFrame) -> pl.DataFrame:
    rows = order.filter(pl.col("feed") == 0).get_column("row")
    ids = feed.frame[rows].get_column(feed.source.id).cast(pl.String).unique(maintain_order=True)
    found = in_parallel(bootstrap.score_store().get, ids.to_list())
    columns = ScoreColumns(scorer.definition)
    columns.put_new([record for record in found if record is not None])
    return columns.frame(feed)


def stored_states(scorer: Scorer, store: StateStore) -> MemoryStates:
    """Every entity's state that a table has."""
    states = MemoryStates()
    for entity in scorer.codec.folds:
        cursor: str | None = None
        while True:
            page = store.scan(entity, Segment(0, 1), cursor)
            for item in page.items:
                states.items[item.key] = StoredState(item.version, item.data)
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


def _refused(kept: S3KeptRecords) -> list[Quarantined]:
    """The records that the functions put into quarantine; batches that were given up are none."""
    found = kept.select(Selection())
    refused = [each for each in found if isinstance(each, Kept) and each.faults]
    return [Quarantined(each.records[0], each.faults) for each in refused]
