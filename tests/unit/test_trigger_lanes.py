"""Concurrent batches of a shard, batching windows, duplicates and ages, under a virtual clock."""

from __future__ import annotations

from collections import defaultdict

import pytest

from headrace.errors import StreamUnavailable
from headrace.local.delivery import Chance, Delivery
from headrace.local.shards import lane_of
from tests.streams import NOW, US, Bench, letters, refused

KEYS = "pqrstuvw"
LANES = 4


def numbered(count: int) -> list[tuple[bytes, str]]:
    """Records 0, 1, ... with eight partition keys in turn."""
    return [(b"%03d" % number, KEYS[number % len(KEYS)]) for number in range(count)]


def parallel(**changed: object) -> Bench:
    bench = Bench([], **{"parallelization": LANES, **changed})
    bench.put(*numbered(64))
    return bench


def by_key(bench: Bench) -> dict[str, list[bytes]]:
    seen = defaultdict(list)
    for invocation in bench.invocations:
        for record in invocation.records[: invocation.acknowledged]:
            seen[record.partition_key].append(record.data)
    return seen


def in_order() -> dict[str, list[bytes]]:
    return {key: [data for data, its in numbered(64) if its == key] for key in KEYS}


def test_records_of_one_partition_key_stay_in_order_under_parallelization() -> None:
    bench = parallel()
    assert bench.trigger.drain().records == 64
    assert by_key(bench) == in_order()


def test_partition_key_always_goes_to_the_same_lane_and_all_lanes_are_used() -> None:
    bench = parallel()
    bench.trigger.drain()
    lanes = defaultdict(set)
    for invocation in bench.invocations:
        for record in invocation.records:
            lanes[record.partition_key].add(invocation.lane)
    assert {key: {lane_of(key, LANES)} for key in KEYS} == lanes
    assert len(set().union(*lanes.values())) > 1
    assert lane_of("anything", 1) == 0


def test_concurrent_batches_go_in_turn() -> None:
    bench = parallel(batch_size=2)
    bench.trigger.drain()
    used = {lane_of(key, LANES) for key in KEYS}
    first = [invocation.lane for invocation in bench.invocations[: len(used)]]
    assert sorted(first) == sorted(used)


def test_lane_that_retries_holds_up_no_other_lane() -> None:
    bench = parallel(max_retries=None, bisect=False, batch_size=2)
    bench.function.poison = {b"000"}
    stuck = lane_of(KEYS[0], LANES)
    bench.trigger.run_until(bench.clock.now() + 30 * US)
    done = [i for i in bench.invocations if i.acknowledged]
    through = {record.data for i in done for record in i.records}
    others = {data for data, key in numbered(64) if lane_of(key, LANES) != stuck}
    assert through == others
    # And nothing of its own lane overtakes it.
    assert all(b"000" in {r.data for r in i.records} for i in bench.invocations if i.lane == stuck)


def test_partial_failure_concerns_one_lane_only() -> None:
    bench = parallel(max_retries=0)
    bench.function.reported = {b"008"}
    delivery = bench.trigger.drain()
    stuck = lane_of(KEYS[0], LANES)
    assert all(lane_of(KEYS[int(data) % 8], LANES) == stuck for data in bench.s3.kept())
    assert delivery.failed == len(bench.s3.kept()) > 0
    assert delivery.records == 64 - delivery.failed


def test_order_of_concurrent_batches_follows_the_seed() -> None:
    def batches(seed: int) -> list[bytes]:
        bench = parallel(batch_size=2, chance=Chance(seed))
        bench.put(*((b"s%02d" % number, "z") for number in range(9)))
        bench.trigger.drain()
        assert {key: by_key(bench)[key] for key in KEYS} == in_order()
        return bench.delivered()

    assert batches(1) == batches(1)
    assert len({tuple(batches(seed)) for seed in range(5)}) == 5


def test_other_lanes_run_ahead_of_one_that_retries_only_so_far() -> None:
    bench = Bench([], parallelization=2, max_retries=None, bisect=False)
    stuck = next(key for key in KEYS if lane_of(key, 2) == 0)
    bench.put(*((b"%06d" % number, stuck) for number in range(30_000)))
    bench.function.poison = {b"000000"}
    bench.trigger.run_until(bench.clock.now() + 60 * US)
    assert sum(bench.kinesis.limits) <= 20_000


def test_window_begins_with_the_first_record_and_ends_after_its_seconds() -> None:
    bench = Bench([], window_seconds=5.0)
    trigger = bench.trigger
    trigger.run_until(bench.clock.now() + 3 * US)
    bench.put((b"a", "key"))
    trigger.run_until(bench.clock.now() + 4 * US)
    bench.put((b"b", "key"))
    assert bench.function.batches == []
    trigger.run_until(bench.clock.now() + 3 * US)
    assert bench.function.batches == [letters("ab")]
    assert 8 * US <= bench.invocations[0].ended - int(NOW.timestamp()) * US <= 9 * US


def test_window_ends_for_each_lane_by_itself() -> None:
    bench = Bench([], window_seconds=5.0, parallelization=LANES)
    one = next(key for key in KEYS if lane_of(key, LANES) == lane_of(KEYS[0], LANES))
    other = next(key for key in KEYS if lane_of(key, LANES) != lane_of(KEYS[0], LANES))
    bench.put((b"a", one))
    bench.trigger.run_until(bench.clock.now() + 3 * US)
    bench.put((b"b", other))
    bench.trigger.run_until(bench.clock.now() + 10 * US)
    assert bench.function.batches == [letters("a"), letters("b")]
    waited = [invocation.ended - int(NOW.timestamp()) * US for invocation in bench.invocations]
    assert 5 * US <= waited[0] < 7 * US <= waited[1]


def test_without_a_window_records_are_delivered_as_soon_as_they_are_read() -> None:
    bench = Bench(letters("a"))
    bench.trigger.run_until(bench.clock.now() + 1)
    assert bench.function.batches == [letters("a")]


def test_virtual_clock_gives_the_same_run_twice() -> None:
    def run() -> tuple[list[bytes], list[int]]:
        bench = parallel(chance=Chance(7, duplicates=0.3), window_seconds=2.0)
        bench.function.broken = 3
        bench.trigger.run_until(bench.clock.now() + 60 * US)
        return bench.delivered(), [invocation.ended for invocation in bench.invocations]

    assert run() == run()


def test_duplicates_come_again_though_acknowledged_and_are_counted_apart() -> None:
    bench = Bench(letters("abcdefgh"), chance=Chance(1, duplicates=1.0))
    delivery = bench.trigger.drain()
    assert bench.delivered() == [b"abcd", b"abcd", b"efgh", b"efgh"]
    assert delivery == Delivery(records=8, batches=2, repeats=2)
    assert [invocation.repeated for invocation in bench.invocations] == [False, True] * 2


def test_acknowledged_part_of_a_batch_may_come_again_too() -> None:
    bench = Bench(letters("abcd"), chance=Chance(1, duplicates=1.0))
    failed_once, function = iter([{b"c"}]), bench.function

    def heals(event: dict[str, object]) -> object:
        function.reported = next(failed_once, set())
        return function(event)

    bench.function = heals  # type: ignore[assignment]
    delivery = bench.trigger.drain()
    batches = [b"".join(r.data for r in i.records) for i in bench.invocations]
    assert batches == [b"abcd", b"ab", b"cd", b"cd"]
    assert delivery == Delivery(records=4, batches=1, retries=1, repeats=2)


def test_duplicate_that_fails_is_retried_as_any_batch() -> None:
    bench = Bench(letters("a"), chance=Chance(1, duplicates=1.0), max_retries=1)
    answers = iter([None, {"batchItemFailures": [{"itemIdentifier": "0"}]}, None])
    bench.function = lambda event: next(answers)  # type: ignore[assignment]
    assert bench.trigger.drain() == Delivery(records=1, batches=1, repeats=2)
    assert next(answers, "all given") == "all given"


def test_share_of_duplicates_is_about_what_was_asked() -> None:
    bench = Bench([b"x"] * 2_000, batch_size=1, chance=Chance(3, duplicates=0.1))
    assert bench.trigger.drain().repeats == pytest.approx(200, abs=60)


def test_iterator_age_is_that_of_the_last_record_when_the_invocation_ends() -> None:
    bench = Bench(letters("ab"))
    function = bench.function

    def slow(event: dict[str, object]) -> object:
        bench.clock.sleep(3)
        return function(event)

    bench.function = slow  # type: ignore[assignment]
    bench.clock.sleep(2)
    delivery = bench.trigger.drain()
    assert delivery.iterator_age_seconds == 5.0
    assert [invocation.iterator_age_seconds for invocation in bench.invocations] == [5.0]


def test_iterator_age_of_a_drain_is_of_that_drain() -> None:
    bench = Bench(letters("a"))
    bench.clock.sleep(100)
    assert bench.trigger.drain().iterator_age_seconds == 100.0
    assert bench.trigger.drain().iterator_age_seconds == 0.0
    assert bench.trigger.delivered.iterator_age_seconds == 100.0


def test_iterator_age_grows_while_a_batch_is_retried() -> None:
    bench = Bench(letters("a"), max_retries=None)
    bench.function.broken = 3
    bench.trigger.drain()
    ages = [invocation.iterator_age_seconds for invocation in bench.invocations]
    assert ages == pytest.approx([0.0, 0.1, 0.3, 0.7])


def test_shard_that_cannot_be_read_holds_up_no_other_shard() -> None:
    bench = Bench(letters("a"), letters("b"))
    bench.kinesis.errors = [refused("InternalFailure")]
    bench.trigger.run_until(bench.clock.now() + 1)
    assert bench.function.batches == [letters("b")]
    bench.trigger.run_until(bench.clock.now() + 2 * US)
    assert bench.function.batches == [letters("b"), letters("a")]
    bench.kinesis.errors = [refused("InternalFailure")]
    with pytest.raises(StreamUnavailable):
        bench.trigger.drain()
