"""What the Kinesis event source mapping and EventBridge do, as the local mode plays them."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.adapters.clock import FixedClock, SystemClock
from headrace.errors import StoreUnavailable, StreamUnavailable, TooLarge
from headrace.local import NotEmulated
from headrace.local.producer import MOST_RECORD_BYTES, put_records
from headrace.local.records import StreamRecord
from headrace.local.resources import Schedule
from headrace.local.runtime import MOST_PAYLOAD_BYTES
from headrace.local.schedule import next_run, scheduled_event
from headrace.local.triggers import Delivery, StreamTrigger
from tests.streams import NOW, US, Bench, letters, mapping, refused


def test_drain_cuts_full_batches_and_then_what_is_left() -> None:
    bench = Bench(letters("abcdefghij"))
    assert bench.trigger.drain() == Delivery(records=10, batches=3)
    assert [b"".join(batch) for batch in bench.function.batches] == [b"abcd", b"efgh", b"ij"]
    assert bench.trigger.drain() == Delivery()


def test_second_drain_delivers_only_what_came_since() -> None:
    bench = Bench(letters("ab"))
    bench.trigger.drain()
    bench.kinesis.shards[0] += letters("cd")
    assert bench.trigger.drain() == Delivery(records=2, batches=1)
    assert bench.function.batches[-1] == letters("cd")


def test_records_are_read_ten_thousand_at_a_time() -> None:
    bench = Bench([b"x"] * 25_000, batch_size=10_000)
    assert bench.trigger.drain().batches == 3
    assert set(bench.kinesis.limits) == {10_000}
    assert len(bench.kinesis.limits) <= 4


def test_batch_never_mixes_shards_and_each_shard_keeps_its_order() -> None:
    bench = Bench(letters("abcdef"), letters("uvwxyz"))
    bench.trigger.drain()
    batches = [b"".join(batch) for batch in bench.function.batches]
    assert batches == [b"abcd", b"ef", b"uvwx", b"yz"]
    assert bench.function.events[2]["Records"][0]["eventID"] == "shardId-000000000001:0"


def test_event_looks_as_lambda_sends_it() -> None:
    bench = Bench([b"\x00\xff"])
    bench.trigger.drain()
    assert bench.function.events == [
        {
            "Records": [
                {
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": "a key",
                        "sequenceNumber": "0",
                        "data": "AP8=",
                        "approximateArrivalTimestamp": NOW.timestamp(),
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": "shardId-000000000000:0",
                    "eventName": "aws:kinesis:record",
                    "invokeIdentityArn": "arn:aws:iam::123456789012:role/local",
                    "awsRegion": "us-east-1",
                    "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/events",
                }
            ]
        }
    ]


def test_partial_failure_is_retried_from_the_first_failed_record() -> None:
    bench = Bench(letters("abcd"), max_retries=1)
    bench.function.reported = {b"d", b"b"}
    delivery = bench.trigger.drain()
    assert bench.function.batches == [letters("abcd"), letters("bcd")]
    assert delivery == Delivery(records=1, batches=1, retries=1, failed=3)
    assert bench.s3.kept() == letters("bcd")


def test_partial_failure_that_heals_loses_nothing() -> None:
    bench = Bench(letters("abcdef"))
    heal_at = 2

    def heals(event: dict[str, Any]) -> Any:
        bench.function.reported = {b"c"} if len(bench.function.events) < heal_at else set()
        return bench.function(event)

    trigger = StreamTrigger(mapping(), heals, kinesis=bench.kinesis, s3=bench.s3, clock=bench.clock)
    delivery = trigger.drain()
    assert bench.function.batches == [letters("abcd"), letters("cd"), letters("cd"), letters("ef")]
    assert delivery == Delivery(records=6, batches=2, retries=2)
    assert bench.s3.objects == {}


def test_bisect_isolates_a_poison_record_and_the_failure_destination_keeps_its_bytes() -> None:
    bench = Bench([b"a", b"b", b"\xff\x00", b"d", b"e"], batch_size=5)
    bench.function.poison = {b"\xff\x00"}
    delivery = bench.trigger.drain()
    assert (delivery.records, delivery.failed) == (4, 1)
    assert bench.s3.kept() == [b"\xff\x00"]
    (key,) = bench.s3.objects
    assert key.startswith("aws/lambda/a-mapping/shardId-000000000000/2026/01/01/2026-01-01T00.00.")
    info = bench.s3.objects[key]["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == ("2", "2")


def test_halves_are_delivered_in_order() -> None:
    bench = Bench(letters("abcdefgh"), batch_size=8)
    bench.function.poison = {b"c"}
    bench.trigger.drain()
    good = [batch for batch in bench.function.batches if b"c" not in batch]
    assert b"".join(b"".join(batch) for batch in good) == b"abdefgh"


def test_without_bisect_the_whole_batch_is_given_up() -> None:
    bench = Bench(letters("abcd"), bisect=False)
    bench.function.poison = {b"b"}
    assert bench.trigger.drain() == Delivery(batches=1, retries=2, failed=4)
    assert bench.s3.kept() == letters("abcd")


def test_retries_are_bounded_and_a_split_uses_none() -> None:
    bench = Bench(letters("ab"), max_retries=3)
    bench.function.poison = {b"a"}
    bench.trigger.drain()
    assert bench.function.batches.count(letters("a")) == 1 + 3
    (kept,) = bench.s3.objects.values()
    assert kept["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert kept["requestContext"]["approximateInvokeCount"] == 5


def test_function_that_heals_gets_its_batch_again_after_a_growing_wait() -> None:
    bench = Bench(letters("abcd"), bisect=False, max_retries=None)
    bench.function.broken = 3
    started = bench.clock.now()
    assert bench.trigger.drain() == Delivery(records=4, batches=1, retries=3)
    assert bench.clock.now() - started == round((0.1 + 0.2 + 0.4) * US)


@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": "no such number"}]},
        {"batchItemFailures": [{"bad key": "0"}]},
        {"batchItemFailures": ["0"]},
        {"batchItemFailures": 1},
        "not an object",
    ],
)
def test_answer_that_lambda_cannot_read_fails_the_whole_batch(answer: object) -> None:
    bench = Bench(letters("ab"), bisect=False, max_retries=0)
    trigger = StreamTrigger(
        mapping(bisect=False, max_retries=0),
        lambda _: answer,
        kinesis=bench.kinesis,
        s3=bench.s3,
        clock=bench.clock,
    )
    assert trigger.drain() == Delivery(batches=1, failed=2)


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}])
def test_empty_answer_acknowledges_the_whole_batch(answer: object) -> None:
    bench = Bench(letters("ab"))
    trigger = StreamTrigger(
        mapping(), lambda _: answer, kinesis=bench.kinesis, s3=bench.s3, clock=bench.clock
    )
    assert trigger.drain() == Delivery(records=2, batches=1)


def test_record_past_the_age_limit_goes_to_the_failure_destination_unseen() -> None:
    bench = Bench(letters("ab"), max_record_age_seconds=60)
    bench.clock.sleep(61)
    assert bench.trigger.drain() == Delivery(failed=2)
    assert bench.function.batches == []
    assert bench.s3.kept() == letters("ab")


def test_record_that_grows_too_old_between_retries_is_given_up_and_younger_ones_go_on() -> None:
    bench = Bench(letters("ab"), max_record_age_seconds=60, max_retries=None)
    bench.kinesis.stored[b"b"] = NOW + timedelta(minutes=10)
    bench.function.broken = 3
    bench.clock.sleep(59.9)
    assert bench.trigger.drain() == Delivery(records=1, batches=1, retries=3, failed=1)
    assert bench.delivered() == [b"ab", b"a", b"a", b"b"]
    (kept,) = bench.s3.objects.values()
    assert kept["requestContext"]["condition"] == "RecordAgeExceeded"
    assert bench.s3.kept() == [b"a"]


def test_batch_that_cannot_be_kept_is_not_lost() -> None:
    bench = Bench(letters("a"), max_retries=0)
    bench.function.poison = {b"a"}
    bench.s3.errors = [refused("SlowDown")]
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        bench.trigger.drain()
    bench.trigger.drain()
    assert bench.s3.kept() == [b"a"]
    assert bench.delivered() == [b"a"]  # what is given up is not delivered once more


def test_records_acknowledged_before_a_destination_fails_are_not_delivered_again() -> None:
    bench = Bench(letters("ab"), max_retries=0)
    bench.function.reported = {b"b"}
    bench.s3.errors = [refused("SlowDown")]
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        bench.trigger.drain()
    bench.trigger.drain()
    assert bench.delivered() == [b"ab"]
    assert bench.trigger.delivered == Delivery(records=1, batches=1, failed=1)


def test_batch_is_cut_before_it_outgrows_six_megabytes() -> None:
    bench = Bench([b"x" * 1_000_000] * 10, batch_size=10)
    bench.trigger.drain()
    assert [len(batch) for batch in bench.function.batches] == [4, 4, 2]
    assert max(len(json.dumps(event)) for event in bench.function.events) < MOST_PAYLOAD_BYTES


def test_expired_iterator_is_renewed_after_the_last_record_read() -> None:
    bench = Bench(letters("ab"))
    bench.trigger.drain()
    bench.kinesis.shards[0] += letters("c")
    bench.kinesis.errors = [refused("ExpiredIteratorException")]
    bench.trigger.drain()
    assert bench.function.batches == [letters("ab"), letters("c")]


def test_stream_that_does_not_answer_stops_the_drain_and_nothing_is_skipped() -> None:
    bench = Bench(letters("ab"))
    bench.kinesis.errors = [refused("InternalFailure")]
    with pytest.raises(StreamUnavailable, match="InternalFailure"):
        bench.trigger.drain()
    assert bench.trigger.drain() == Delivery(records=2, batches=1)


def test_replay_tells_the_function_another_arrival_time_and_ages_by_the_real_one() -> None:
    def told(record: StreamRecord) -> float | None:
        return 17.25 if record.data == b"a" else None

    bench = Bench(letters("ab"), arrival=told, max_record_age_seconds=60)
    assert bench.trigger.drain().records == 2
    arrivals = [
        record["kinesis"]["approximateArrivalTimestamp"]
        for record in bench.function.events[0]["Records"]
    ]
    assert arrivals == [17.25, NOW.timestamp()]


def test_running_trigger_waits_for_the_window_unless_the_batch_is_full() -> None:
    bench = Bench(letters("ab"), window_seconds=2.0)
    step = bench.trigger._round
    assert step() == 1.0  # comes again to read in a second
    assert bench.function.batches == []
    bench.kinesis.shards[0] += letters("cde")
    assert step() == 0.0
    assert bench.function.batches == [letters("abcd")]
    step()
    bench.clock.sleep(2)
    step()
    assert bench.function.batches == [letters("abcd"), letters("e")]


def test_running_trigger_outlives_a_stream_that_does_not_answer() -> None:
    bench = Bench(letters("ab"))
    bench.kinesis.errors = [refused("InternalFailure")]
    stop, done = threading.Event(), threading.Event()

    def acknowledged(event: dict[str, Any]) -> None:
        done.set()

    trigger = StreamTrigger(
        mapping(), acknowledged, kinesis=bench.kinesis, s3=bench.s3, clock=SystemClock()
    )
    thread = threading.Thread(target=trigger.run, args=(stop,))
    thread.start()
    assert done.wait(5)
    stop.set()
    thread.join()
    assert trigger.delivered == Delivery(records=2, batches=1)


class Producing:
    """Kinesis that refuses records as told: a set of data for each call."""

    def __init__(self, *refusals: set[bytes]) -> None:
        self.refusals = list(refusals)
        self.calls: list[list[bytes]] = []

    def put_records(self, **asked: Any) -> dict[str, Any]:
        refusal = self.refusals.pop(0) if self.refusals else set()
        sent = [record["Data"] for record in asked["Records"]]
        self.calls.append(sent)
        return {
            "Records": [
                {"ErrorCode": "ProvisionedThroughputExceededException"}
                if data in refusal
                else {"SequenceNumber": f"{data.decode()}@{len(self.calls)}"}
                for data in sent
            ]
        }


def test_refused_records_go_again_alone_and_numbers_keep_the_order_of_the_records() -> None:
    kinesis = Producing({b"a", b"c"}, {b"c"})
    pairs = [(data, "key") for data in letters("abcd")]
    assert put_records(kinesis, "events", pairs, FixedClock()) == ["a@2", "b@1", "c@3", "d@1"]
    assert kinesis.calls == [letters("abcd"), letters("ac"), letters("c")]


def test_stream_that_refuses_for_good_is_told_so() -> None:
    kinesis = Producing(*[{b"a"}] * 100)
    with pytest.raises(StreamUnavailable, match="ProvisionedThroughputExceeded"):
        put_records(kinesis, "events", [(b"a", "key")], FixedClock())


def test_records_are_put_by_five_hundred_and_by_five_megabytes() -> None:
    kinesis = Producing()
    put_records(kinesis, "events", [(b"a", "key")] * 1001, FixedClock())
    put_records(kinesis, "events", [(b"a" * 1_000_000, "key")] * 6, FixedClock())
    assert [len(call) for call in kinesis.calls] == [500, 500, 1, 4, 2]


def test_record_over_a_megabyte_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TooLarge):
        put_records(Producing(), "events", [(b"a" * MOST_RECORD_BYTES, "key")], FixedClock())


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("rate(1 minute)", "2026-01-01 00:00:30", "2026-01-01 00:01:30"),
        ("rate(12 hours)", "2026-01-01", "2026-01-01 12:00"),
        ("rate(1 day)", "2026-02-28", "2026-03-01"),
        ("cron(0 10 * * ? *)", "2026-01-01 10:00", "2026-01-02 10:00"),
        ("cron(15 12 * * ? *)", "2026-01-01 12:14:59", "2026-01-01 12:15"),
        ("cron(0 18 ? * MON-FRI *)", "2026-01-02 18:00", "2026-01-05 18:00"),
        ("cron(0 8 1 * ? *)", "2026-01-01 08:00", "2026-02-01 08:00"),
        ("cron(0/15 * * * ? *)", "2026-01-01 00:15", "2026-01-01 00:30"),
        ("cron(0/5 8-17 ? * MON-FRI *)", "2026-01-02 17:55", "2026-01-05 08:00"),
        ("cron(0 0 L * ? *)", "2028-02-01", "2028-02-29"),
        ("cron(0 9 ? * 2#1 *)", "2026-01-06", "2026-02-02 09:00"),
        ("cron(0 9 ? * 6L *)", "2026-01-01", "2026-01-30 09:00"),
        ("cron(0 9 ? * L *)", "2026-01-01", "2026-01-03 09:00"),
        ("cron(0 9 3W * ? *)", "2026-01-01", "2026-01-02 09:00"),
        ("cron(0 9 1W * ? *)", "2026-02-01", "2026-02-02 09:00"),
        ("cron(0 0 29 2 ? *)", "2026-01-01", "2028-02-29"),
        ("cron(0 0 1 JAN,JUL ? 2027/2)", "2026-01-01", "2027-01-01"),
    ],
)
def test_schedule_fires_next_at(expression: str, after: str, expected: str) -> None:
    assert next_run(expression, day(after)) == day(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 days)",
        "rate(2 day)",
        "rate(0 minutes)",
        "rate(1 second)",
        "0 10 * * *",
        "cron(0 10 * * *)",
        "cron(0 10 * * * *)",
        "cron(0 10 ? * ? *)",
        "cron(60 10 * * ? *)",
        "cron(0 10 ? * 8 *)",
        "cron(0 10 ? * 2#6 *)",
        "cron(0 0 30 2 ? *)",
        "cron(0 0 1 1 ? 2020)",
    ],
)
def test_schedule_that_eventbridge_refuses_or_never_fires_is_refused(expression: str) -> None:
    with pytest.raises(NotEmulated, match="schedule"):
        next_run(expression, NOW)


def test_scheduled_event_carries_the_time_of_the_run_in_utc() -> None:
    at = datetime.fromisoformat("2026-01-01T01:00:00+02:00")
    event = scheduled_event(Schedule("arn:rule", "rate(1 day)", "Function", True), at)
    assert event["time"] == "2025-12-31T23:00:00Z"
    assert (event["source"], event["detail-type"]) == ("aws.events", "Scheduled Event")
    assert event["resources"] == ["arn:rule"]
    assert event["detail"] == {}


def test_rate_counts_from_the_last_run() -> None:
    first = next_run("rate(7 minutes)", NOW)
    assert next_run("rate(7 minutes)", first) - NOW == timedelta(minutes=14)
