"""What a load run counts and puts on the stream; the run itself is `make bench ONLY=load`."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from headrace.local.delivery import Invocation
from headrace.local.records import StreamRecord
from headrace.model import load_bundle
from headrace.scoring import Scorer
from tests.load.rig import Logs, OneShard
from tests.load.traffic import Producer, history, live_events
from tests.load.watch import Watch
from tests.streams import FakeKinesis, letters

ROOT = Path(__file__).resolve().parents[2]


def invocation(shard: str, count: int, acknowledged: int, age: float) -> Invocation:
    stored = 1_000.0
    records = tuple(
        StreamRecord(shard, str(number), "key", b"{}", stored, stored) for number in range(count)
    )
    ended = round((stored + age) * 1_000_000)
    return Invocation(shard, 0, records, 0, False, acknowledged, ended)


def rows_of(watch: Watch, put: int) -> None:
    """Let the watch make one row at least."""
    stop, told = threading.Event(), threading.Event()
    tell = watch.tell

    def noticed(line: str) -> None:
        tell(line)
        if watch.rows:
            told.set()

    watch.tell = noticed
    producer = Producer(None, "stream", iter(()), put=put)
    thread = threading.Thread(target=watch.run, args=(producer, Logs(), stop))
    thread.start()
    assert told.wait(10)
    stop.set()
    thread.join()


def test_row_has_the_oldest_shard_and_counts_what_was_not_acknowledged() -> None:
    watch = Watch(0.01, lambda line: None)
    watch.note(invocation("one", count=3, acknowledged=3, age=0.5))
    watch.note(invocation("other", count=4, acknowledged=1, age=2.0))
    rows_of(watch, put=10)
    row = watch.rows[0]
    assert (row.age_seconds, row.shards, row.invocations, row.failed) == (2.0, 2, 2, 1)
    assert (row.waiting, len(watch.records)) == (6, 7)


def test_row_without_an_invocation_has_no_age() -> None:
    watch = Watch(0.01, lambda line: None)
    rows_of(watch, put=0)
    assert watch.rows[0].age_seconds is None


def test_poller_sees_one_shard() -> None:
    kinesis = FakeKinesis(letters("ab"))
    assert OneShard(kinesis, "shardId-000000000000").list_shards(StreamName="s")["Shards"]
    assert not OneShard(kinesis, "another").list_shards(StreamName="s")["Shards"]


def test_logs_count_lost_races_of_batches_only() -> None:
    logs = Logs()
    logs.write('{"message":"batch","Conflicts":3,"Repeated":1}\n')
    logs.write('{"message":"other"}\n')
    logs.write("START RequestId\n")
    assert (logs.conflicts, logs.repeated) == (3, 1)


@pytest.fixture(scope="module")
def sent() -> list[tuple[bytes, str]]:
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    past = history(scorer, customers=20, days=8)
    return list(islice(live_events(past, seed=1), 600))


def test_events_go_to_their_customer_and_some_come_twice(sent: list[tuple[bytes, str]]) -> None:
    events: list[dict[str, Any]] = [json.loads(data) for data, _ in sent]
    assert all(str(e["customer_id"]) == key for e, (_, key) in zip(events, sent, strict=True))
    assert {event["source"] for event in events} == {"transactions", "labels"}
    assert 0 < len(sent) - len({data for data, _ in sent}) < 60
