"""One suite for what is kept for a redrive: memory, and S3 as moto plays it."""

from __future__ import annotations

import json
import socket
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from headrace.adapters.memory import MemoryKept
from headrace.adapters.s3 import REDRIVEN_PREFIX, S3KeptRecords, quarantine_body
from headrace.errors import Fault, StoreUnavailable
from headrace.local.failures import RETRIES_EXHAUSTED, TOO_OLD, FailedBatch, keep_failed_batch
from headrace.local.moto_server import serve_moto
from headrace.local.records import StreamRecord
from headrace.local.resources import StreamMapping
from headrace.ports import FAILED_BATCH, Kept, Quarantined, Selection, Unreadable
from headrace.redrive import CONDITIONS
from tests.fakes import DAY, HOUR, MINUTE, NOON, SECOND, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.events import Record
    from headrace.ports import KeptRecords

BUCKET = "refused"
SHARD, OTHER_SHARD = "shardId-000000000000", "shardId-000000000001"
MAPPING = StreamMapping(
    uuid="9a1c", function="F", function_arn="arn:f", stream_name="events",
    starting_position="LATEST", batch_size=10, window_seconds=0, bisect=False,
    reports_item_failures=True, max_retries=0, max_record_age_seconds=None,
    failure_destination=f"arn:aws:s3:::{BUCKET}",
)  # fmt: skip
NOT_JSON = Fault("not_json", "", "event: not JSON; expected a JSON object")
MISSING = Fault("missing", "amount", "event '1': amount is missing; expected a number")


def client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=0.5, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve_moto() as url:
        client(url).create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture
def s3(endpoint: str) -> Any:
    """A client of an endpoint whose bucket is empty."""
    found = client(endpoint)
    for key in keys(found):
        found.delete_object(Bucket=BUCKET, Key=key)
    return found


def keys(s3: Any) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


class Given:
    """A place with kept records, and a way to put failed batches there as local AWS does."""

    def __init__(self, s3: Any = None) -> None:
        self.s3 = s3
        self.memory = MemoryKept()
        self.kept: KeptRecords = S3KeptRecords(s3, BUCKET) if s3 else self.memory
        self._names = count()

    def refuse(self, *given: Record, fault: Fault = NOT_JSON) -> None:
        for each in given:
            self.kept.put(Quarantined(each, (fault,)))

    def give_up(
        self, *given: Record, condition: str = RETRIES_EXHAUSTED, at: int = NOON + HOUR
    ) -> None:
        if self.s3 is None:
            name = f"batch {next(self._names)}"
            self.memory.kept[name] = Kept(name, condition, given)
            return
        rows = [
            StreamRecord(
                each.position.partition(":")[0], each.sequence, "k", each.data,
                each.arrival / SECOND, each.arrival / SECOND,
            )
            for each in given
        ]  # fmt: skip
        keep_failed_batch(self.s3, MAPPING, FailedBatch(tuple(rows), condition, 1, at / SECOND))

    def found(self, **choice: Any) -> list[Kept]:
        found = list(self.kept.select(Selection(**choice)))
        assert not any(isinstance(each, Unreadable) for each in found)
        return [each for each in found if isinstance(each, Kept)]

    def sequences(self, **choice: Any) -> list[list[str]]:
        return [[each.sequence for each in kept.records] for kept in self.found(**choice)]


@pytest.fixture(params=["memory", "moto"])
def given(request: pytest.FixtureRequest) -> Given:
    return Given() if request.param == "memory" else Given(request.getfixturevalue("s3"))


def one(sequence: int, arrival: int = NOON, data: bytes = b"\xff{") -> Record:
    return record(data, arrival, sequence)


def test_refused_record_comes_back_as_it_was(given: Given) -> None:
    refused = one(7, NOON + 1)
    given.kept.put(Quarantined(refused, (NOT_JSON, MISSING)))

    (kept,) = given.found()

    assert kept.records == (refused,)
    assert (kept.reason, kept.faults) == ("not_json", (NOT_JSON, MISSING))


def test_failed_batch_comes_back_with_the_records_that_the_function_saw(given: Given) -> None:
    batch = [one(n, NOON + n * 1_000, b"\x00%d" % n) for n in range(3)]
    given.give_up(*batch, condition=TOO_OLD)

    (kept,) = given.found()

    assert kept.records == tuple(batch)
    assert (kept.reason, kept.faults) == (TOO_OLD, ())


def test_conditions_are_those_that_local_aws_writes() -> None:
    assert set(CONDITIONS) == {RETRIES_EXHAUSTED, TOO_OLD}


def test_objects_come_in_order_of_arrival_over_days_reasons_shards_and_kinds(given: Given) -> None:
    places = [*range(1, 40)]
    for n in places[::-1]:
        fault = NOT_JSON if n % 3 else MISSING
        each = one(n, NOON + n * HOUR)
        if n % 5 == 0:
            given.give_up(each, at=NOON + n * HOUR + MINUTE)
        elif n % 2:
            given.refuse(each, fault=fault)
        else:
            given.refuse(
                type(each)(each.data, each.arrival, f"{OTHER_SHARD}:{n}", str(n)), fault=fault
            )

    assert given.sequences() == [[str(n)] for n in places]


def test_batches_given_up_in_one_second_come_in_order_of_arrival(given: Given) -> None:
    for n in (3, 1, 2):
        given.give_up(one(n, NOON + n))

    assert given.sequences() == [["1"], ["2"], ["3"]]


def test_more_records_than_are_read_at_once_come_in_order(given: Given) -> None:
    given.refuse(*(one(n, NOON + n) for n in range(50)))

    assert given.sequences() == [[str(n)] for n in range(50)]


def test_reasons_select_refused_records_and_failed_batches(given: Given) -> None:
    given.refuse(one(1))
    given.refuse(one(2, NOON + 2), fault=MISSING)
    given.give_up(one(3, NOON + 3_000))
    given.give_up(one(4, NOON + 4_000), condition=TOO_OLD)

    assert given.sequences(reasons=frozenset({"missing"})) == [["2"]]
    assert given.sequences(reasons=frozenset({FAILED_BATCH})) == [["3"], ["4"]]
    assert given.sequences(reasons=frozenset({TOO_OLD, "not_json"})) == [["1"], ["4"]]


def test_times_select_by_the_arrival_of_the_first_record(given: Given) -> None:
    given.refuse(one(1, NOON - DAY), one(2, NOON), one(3, NOON + DAY))
    given.give_up(one(4, NOON + SECOND), one(5, NOON + 2 * DAY), at=NOON + 3 * DAY)

    assert given.sequences(since=NOON) == [["2"], ["4", "5"], ["3"]]
    assert given.sequences(since=NOON, until=NOON + DAY) == [["2"], ["4", "5"]]
    assert given.sequences(until=NOON) == [["1"]]
    assert given.sequences(since=NOON + SECOND + 1, until=NOON + DAY) == []


def test_what_is_put_away_is_not_selected_again(given: Given) -> None:
    given.refuse(one(1), one(2))
    given.give_up(one(3))
    first, second, batch = given.found()

    given.kept.put_away(first)
    given.kept.put_away(batch)
    given.kept.put_away(first)  # as after a crash

    assert given.found() == [second]


def test_replaced_record_has_its_new_reason_and_is_there_once(given: Given) -> None:
    refused = one(1)
    given.refuse(refused)
    (kept,) = given.found()

    given.kept.replace(kept, Quarantined(refused, (MISSING,)))
    given.kept.replace(kept, Quarantined(refused, (MISSING,)))

    (left,) = given.found()
    assert (left.reason, left.faults, left.records) == ("missing", (MISSING,), (refused,))


def test_replacing_under_the_same_reason_keeps_the_record(given: Given) -> None:
    refused = one(1)
    given.refuse(refused)
    (kept,) = given.found()
    told = Fault("not_json", "", "told otherwise")

    given.kept.replace(kept, Quarantined(refused, (told,)))

    (left,) = given.found()
    assert left.faults == (told,)


# S3 alone


def test_what_is_put_away_keeps_its_bytes_under_its_former_key(s3: Any) -> None:
    given = Given(s3)
    given.refuse(one(1))
    (kept,) = given.found()
    body = s3.get_object(Bucket=BUCKET, Key=kept.key)["Body"].read()

    given.kept.put_away(kept)

    assert keys(s3) == [REDRIVEN_PREFIX + kept.key]
    assert s3.get_object(Bucket=BUCKET, Key=keys(s3)[0])["Body"].read() == body


def refuse_calls(s3: Any, operation: str) -> None:
    """Have S3 answer one operation with an error, without being reached."""

    def unavailable(**_: Any) -> AWSResponse:
        return AWSResponse("http://s3", 503, {}, NoBody())

    s3.meta.events.register(f"before-send.s3.{operation}", unavailable)


class NoBody:
    """An empty answer."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter(())


@pytest.mark.parametrize(
    ("operation", "left"), [("CopyObject", "only the object"), ("DeleteObject", "both")]
)
def test_putting_away_that_fails_half_way_leaves_a_copy_and_can_be_repeated(
    s3: Any, endpoint: str, operation: str, left: str
) -> None:
    given = Given(s3)
    given.give_up(one(1))
    (kept,) = given.found()
    failing = client(endpoint)
    refuse_calls(failing, operation)

    with pytest.raises(StoreUnavailable, match="503"):
        S3KeptRecords(failing, BUCKET).put_away(kept)

    copy = REDRIVEN_PREFIX + kept.key
    assert keys(s3) == ([kept.key] if left == "only the object" else [kept.key, copy])
    given.kept.put_away(kept)
    assert keys(s3) == [copy]


def test_replacing_that_fails_half_way_leaves_both(s3: Any, endpoint: str) -> None:
    given = Given(s3)
    given.refuse(one(1))
    (kept,) = given.found()
    failing = client(endpoint)
    refuse_calls(failing, "DeleteObject")

    with pytest.raises(StoreUnavailable, match="cannot be deleted after it was copied"):
        S3KeptRecords(failing, BUCKET).replace(kept, Quarantined(kept.records[0], (MISSING,)))

    assert sorted(each.reason for each in given.found()) == ["missing", "not_json"]


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
def test_bucket_that_does_not_answer_is_unavailable(s3: Any, endpoint: str, operation: str) -> None:
    Given(s3).refuse(one(1))
    failing = client(endpoint)
    refuse_calls(failing, operation)

    with pytest.raises(StoreUnavailable, match="503"):
        list(S3KeptRecords(failing, BUCKET).select(Selection()))


def test_bucket_out_of_reach_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
        list(S3KeptRecords(client(nowhere), BUCKET).select(Selection()))


def test_object_that_another_redrive_has_put_away_is_passed_over(s3: Any) -> None:
    given = Given(s3)
    given.refuse(one(1), one(2))
    first, second = given.found()

    def put_away_meanwhile(**_: Any) -> None:
        S3KeptRecords(client(s3.meta.endpoint_url), BUCKET).put_away(first)

    s3.meta.events.register_first("before-call.s3.GetObject", put_away_meanwhile)
    assert list(given.kept.select(Selection())) == [second]


BATCH_KEY = f"aws/lambda/9a1c/{SHARD}/2025/05/01/2025-05-01T13.00.00-{'0' * 36}"


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("quarantine/missing/2025-05-01/shardId-000000000000:1.json", b"{"),
        ("quarantine/missing/2025-05-01/notes.txt", b'{"position": "1"}'),
        (
            "quarantine/missing/2025-05-01/shardId-000000000000:2.json",
            quarantine_body(Quarantined(one(2), ())),
        ),
        (BATCH_KEY, b"[]"),
        (BATCH_KEY, b'{"requestContext": {"condition": "C"}}'),
        (BATCH_KEY, b'{"requestContext": {"condition": "C"}, "payload": "{}"}'),
        (BATCH_KEY, b'{"requestContext": {"condition": "C"}, "payload": "{\\"Records\\": []}"}'),
        (BATCH_KEY, json.dumps({"requestContext": {"condition": "C"}, "payload": "[1"}).encode()),
    ],
)
def test_object_that_holds_no_records_is_told_and_hides_no_other(
    s3: Any, key: str, body: bytes
) -> None:
    given = Given(s3)
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    given.refuse(one(9, NOON + DAY), fault=MISSING)

    strange, kept = given.kept.select(Selection())

    assert isinstance(strange, Unreadable)
    assert (strange.key, bool(strange.why)) == (key, True)
    assert isinstance(kept, Kept)


def test_failed_scheduled_runs_and_what_was_redriven_are_left_alone(s3: Any) -> None:
    for key in (
        f"aws/lambda/async/score-batch/2025/05/01/2025-05-01T13.00.00-{'0' * 36}",
        "redriven/quarantine/missing/2025-05-01/shardId-000000000000:1.json",
        "elsewhere",
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")

    assert list(S3KeptRecords(s3, BUCKET).select(Selection())) == []
