"""Where a shard's reading begins, and how splits and merges are followed."""

from __future__ import annotations

from base64 import b64decode
from datetime import timedelta
from functools import partial
from typing import Any

import boto3
import pytest
from moto import mock_aws

from headrace.adapters.clock import FixedClock, SystemClock
from headrace.errors import StreamUnavailable
from headrace.local.delivery import Chance, Delivery
from headrace.local.triggers import StreamTrigger
from tests.streams import NOW, US, Bench, FakeKinesis, letters, mapping, refused


def test_trim_horizon_begins_with_the_oldest_record() -> None:
    bench = Bench(letters("ab"), starting_position="TRIM_HORIZON")
    bench.trigger.drain()
    assert bench.function.batches == [letters("ab")]


def test_latest_begins_after_what_the_stream_held_at_the_start() -> None:
    bench = Bench(letters("old"), starting_position="LATEST")
    trigger = bench.trigger
    bench.kinesis.shards[0] += letters("new")
    trigger.drain()
    assert bench.function.batches == [letters("new")]


def test_at_timestamp_begins_with_the_first_record_from_then_on() -> None:
    bench = Bench(
        letters("abc"), starting_position="AT_TIMESTAMP", starting_timestamp=NOW.timestamp() + 5
    )
    bench.kinesis.stored = {b"b": NOW + timedelta(seconds=5), b"c": NOW + timedelta(seconds=6)}
    bench.trigger.drain()
    assert bench.function.batches == [letters("bc")]
    assert bench.kinesis.asked[0]["Timestamp"] == NOW + timedelta(seconds=5)


def test_latest_whose_iterator_expired_unused_passes_over_nothing() -> None:
    bench = Bench(letters("old"), starting_position="LATEST")
    bench.kinesis.stored = {data: NOW - timedelta(hours=1) for data in letters("old")}
    trigger = bench.trigger
    bench.kinesis.shards[0] += letters("new")
    bench.kinesis.errors = [refused("ExpiredIteratorException")]
    trigger.drain()
    assert bench.function.batches == [letters("new")]


@pytest.mark.parametrize("ends", [True, False])
def test_children_begin_after_their_parent_is_drained(ends: bool) -> None:
    bench = Bench(letters("abcde"))
    bench.kinesis.ends = ends  # moto's closed shards have no end
    bench.kinesis.split(0, letters("uv"), letters("xy"))
    assert bench.trigger.drain().records == 9
    assert bench.delivered() == [b"abcd", b"e", b"uv", b"xy"]


@pytest.mark.parametrize("ends", [True, False])
def test_children_begin_after_a_parent_of_which_everything_was_filtered(ends: bool) -> None:
    bench = Bench(letters("ab"), filters=('{"partitionKey": ["in"]}',))
    bench.kinesis.ends = ends
    bench.kinesis.split(0, [])
    bench.put((b"c", "in"), shard=1)
    assert bench.trigger.drain() == Delivery(records=1, batches=1, filtered=2)


def test_child_of_a_merge_begins_after_both_parents() -> None:
    bench = Bench(letters("ab"), letters("cd"), chance=Chance(5))
    bench.kinesis.merge(0, 1, letters("xy"))
    bench.function.broken = 2
    bench.trigger.drain()
    order = [invocation.shard[-1] for invocation in bench.invocations]
    assert set(order[:-1]) == {"0", "1"}
    assert order[-1] == "2"
    assert bench.function.batches[-1] == letters("xy")


@pytest.mark.parametrize("seed", range(5))
def test_children_wait_for_a_parent_that_retries(seed: int) -> None:
    bench = Bench(letters("ab"), chance=Chance(seed), max_retries=None, bisect=False)
    bench.kinesis.split(0, letters("uv"), letters("xy"))
    bench.function.broken = 5
    bench.trigger.drain()
    assert bench.delivered()[:6] == [b"ab"] * 6
    assert sorted(bench.delivered()[6:]) == [b"uv", b"xy"]


def test_shards_are_found_while_the_trigger_runs() -> None:
    bench = Bench(letters("ab"))
    bench.trigger.run_until(bench.clock.now() + US)
    bench.kinesis.split(0, letters("uv"), letters("xy"))
    bench.trigger.run_until(bench.clock.now() + 5 * US)
    assert bench.delivered() == [b"ab", b"uv", b"xy"]
    bench.kinesis.split(1, [], letters("z"))
    bench.kinesis.shards[2] += letters("w")
    bench.trigger.run_until(bench.clock.now() + 5 * US)
    assert sorted(bench.delivered()[3:]) == [b"w", b"z"]


def test_shards_of_a_stream_whose_closed_shards_do_not_end_are_found_within_seconds() -> None:
    bench = Bench(letters("ab"))
    bench.kinesis.ends = False
    bench.trigger.run_until(bench.clock.now() + US)
    bench.kinesis.split(0, letters("uv"))
    bench.trigger.run_until(bench.clock.now() + 12 * US)
    assert bench.delivered() == [b"ab", b"uv"]


def test_shards_are_found_between_drains() -> None:
    bench = Bench(letters("ab"))
    bench.trigger.drain()
    bench.kinesis.split(0, letters("uv"))
    bench.trigger.drain()
    assert bench.delivered() == [b"ab", b"uv"]


def test_shards_are_found_within_a_drain() -> None:
    bench = Bench(letters("ab"))
    function = bench.function

    def splits(event: dict[str, object]) -> object:
        if not function.batches:
            bench.kinesis.split(0, letters("uv"))
        return function(event)

    bench.function = splits  # type: ignore[assignment]
    bench.trigger.drain()
    assert function.batches == [letters("ab"), letters("uv")]


def test_child_found_later_is_read_from_its_beginning_though_the_mapping_starts_at_latest() -> None:
    bench = Bench(letters("old"), starting_position="LATEST")
    trigger = bench.trigger
    bench.kinesis.split(0, letters("new"))
    trigger.drain()
    assert bench.function.batches == [letters("new")]


def test_child_that_is_there_at_the_start_is_read_from_latest_on() -> None:
    bench = Bench(letters("old"), starting_position="LATEST")
    bench.kinesis.split(0, letters("too"))
    trigger = bench.trigger
    bench.kinesis.shards[1] += letters("new")
    trigger.drain()
    assert bench.function.batches == [letters("new")]


def test_child_keeps_to_the_timestamp() -> None:
    bench = Bench(
        letters("a"), starting_position="AT_TIMESTAMP", starting_timestamp=NOW.timestamp() + 5
    )
    trigger = bench.trigger
    bench.kinesis.split(0, letters("bc"))
    bench.kinesis.stored = {b"c": NOW + timedelta(seconds=5)}
    trigger.drain()
    assert bench.function.batches == [letters("c")]


def test_parent_that_was_trimmed_holds_nobody_up() -> None:
    kinesis = FakeKinesis([], letters("ab"))
    kinesis.parents[1] = [7]  # no longer listed
    bench = Bench()
    bench.kinesis = kinesis
    assert bench.trigger.drain() == Delivery(records=2, batches=1)


def test_shards_that_cannot_be_listed_stop_a_drain_and_not_a_run() -> None:
    bench = Bench(letters("ab"))
    trigger = bench.trigger
    bench.kinesis.listing_errors = [refused("LimitExceededException")]
    with pytest.raises(StreamUnavailable, match="LimitExceeded"):
        trigger.drain()
    bench.kinesis.listing_errors = [refused("LimitExceededException")]
    trigger.run_until(bench.clock.now() + 12 * US)
    assert bench.kinesis.listing_errors == []
    assert bench.function.batches == [letters("ab")]


def test_nothing_is_lost_around_a_split_or_merge_on_moto() -> None:
    # Moto's closed shards go on taking records and never end, and a merge moves what they hold to
    # the child; so lineage and order are shown on the fake above, and here only completeness.
    with mock_aws():
        kinesis = boto3.client("kinesis", region_name="us-east-1")
        kinesis.create_stream(StreamName="events", ShardCount=2)
        seen: list[bytes] = []

        def note(event: dict[str, Any]) -> None:
            seen.extend(b64decode(record["kinesis"]["data"]) for record in event["Records"])

        trigger = StreamTrigger(mapping(), note, kinesis=kinesis, s3=None, clock=FixedClock())
        one, other = (f"shardId-{number:012}" for number in range(2))
        put = partial(kinesis.put_record, StreamName="events", PartitionKey="k")
        put(Data=b"a", ExplicitHashKey="0")
        trigger.drain()
        kinesis.merge_shards(StreamName="events", ShardToMerge=one, AdjacentShardToMerge=other)
        kinesis.split_shard(
            StreamName="events", ShardToSplit="shardId-000000000002", NewStartingHashKey="17"
        )
        put(Data=b"b", ExplicitHashKey="0")
        put(Data=b"c", ExplicitHashKey=str(2**127))
        trigger.drain()
        assert set(seen) == {b"a", b"b", b"c"}
        assert len(trigger._shards) == 5


def test_at_timestamp_on_moto_begins_there() -> None:
    with mock_aws():
        kinesis = boto3.client("kinesis", region_name="us-east-1")
        kinesis.create_stream(StreamName="events", ShardCount=1)
        kinesis.put_record(StreamName="events", Data=b"a", PartitionKey="k")
        after = SystemClock().now() / US + 0.001
        while SystemClock().now() / US < after + 0.001:
            pass
        kinesis.put_record(StreamName="events", Data=b"b", PartitionKey="k")
        settings = mapping(starting_position="AT_TIMESTAMP", starting_timestamp=after)
        trigger = StreamTrigger(
            settings, lambda event: None, kinesis=kinesis, s3=None, clock=FixedClock()
        )
        assert trigger.drain() == Delivery(records=1, batches=1)
