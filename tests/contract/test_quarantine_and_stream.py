"""One suite for the quarantine and the stream: memory, and S3 and Kinesis as moto plays them."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from headrace.adapters.kinesis import KinesisStream
from headrace.adapters.memory import MemoryQuarantine, MemoryStream
from headrace.adapters.s3 import PREFIX, S3Quarantine, quarantine_body, quarantine_key
from headrace.errors import Fault, StoreUnavailable, StreamUnavailable
from headrace.local.moto_server import serve_moto
from headrace.ports import Quarantined
from tests.fakes import NOON, FailingQuarantine, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.ports import EventStream, Quarantine

BUCKET, STREAM = "refused", "events"
FAULTS = (
    Fault("not_json", "", "event: not JSON; expected a JSON object"),
    Fault("missing", "amount", "event '1': amount is missing; expected a number"),
)
KINDS = ["memory", "fake", "moto"]


def aws(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=0.5, retries={"total_max_attempts": 2, "mode": "standard"}),
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve_moto() as url:
        aws("s3", url).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        aws("kinesis", url).create_stream(StreamName=STREAM, ShardCount=1)
        yield url


@pytest.fixture(scope="module")
def nowhere() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


Kept = tuple["Quarantine", "Callable[[], list[bytes]]"]


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest) -> Kept:
    """An empty quarantine, and the bodies of what it keeps."""
    if request.param != "moto":
        memory = MemoryQuarantine() if request.param == "memory" else FailingQuarantine()
        return memory, lambda: [quarantine_body(each) for each in memory.refused.values()]
    s3 = aws("s3", request.getfixturevalue("endpoint"))

    def keys() -> list[str]:
        return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    for key in keys():
        s3.delete_object(Bucket=BUCKET, Key=key)
    return S3Quarantine(s3, BUCKET), lambda: [
        s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys()
    ]


def refused(data: bytes = b"{\xff\x00", sequence: int = 7) -> Quarantined:
    return Quarantined(record(data, NOON, sequence), FAULTS)


def test_refused_record_keeps_bytes_reasons_and_position(kept: Kept) -> None:
    quarantine, bodies = kept
    quarantine.put(refused())
    (body,) = bodies()
    found = json.loads(body)
    assert base64.b64decode(found["data"]) == b"{\xff\x00"
    assert [fault["reason"] for fault in found["faults"]] == ["not_json", "missing"]
    assert found["faults"][1]["field"] == "amount"
    assert (found["position"], found["sequence"]) == ("shardId-000000000000:7", "7")
    assert found["arrival"] == "2025-05-01T12:00:00Z"


def test_refusing_a_record_again_changes_nothing(kept: Kept) -> None:
    quarantine, bodies = kept
    quarantine.put(refused())
    quarantine.put(refused())
    quarantine.put(refused(b"other", 8))
    assert len(bodies()) == 2


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_records_of_any_size_are_kept(kept: Kept, size: int) -> None:
    quarantine, bodies = kept
    quarantine.put(refused(b"\xff" * size))
    assert len(base64.b64decode(json.loads(bodies()[0])["data"])) == size


def test_key_tells_reason_day_and_position() -> None:
    expected = "quarantine/not_json/2025-05-01/shardId-000000000000:7.json"
    assert quarantine_key(refused()) == expected
    assert expected.startswith(PREFIX)


def test_quarantine_out_of_reach_is_unavailable(nowhere: str) -> None:
    with pytest.raises(StoreUnavailable, match="shardId-000000000000:7 cannot be quarantined"):
        S3Quarantine(aws("s3", nowhere), BUCKET).put(refused())


def test_bucket_that_is_not_there_is_unavailable(endpoint: str) -> None:
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        S3Quarantine(aws("s3", endpoint), "nonesuch").put(refused())


Put = tuple["EventStream", "Callable[[], list[tuple[bytes, str]]]"]


@pytest.fixture(params=["memory", "moto"])
def put(request: pytest.FixtureRequest) -> Put:
    """A stream, and the newest events with their partition keys."""
    if request.param == "memory":
        memory = MemoryStream()
        return memory, lambda: memory.events
    kinesis = aws("kinesis", request.getfixturevalue("endpoint"))
    shard = kinesis.list_shards(StreamName=STREAM)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(
        StreamName=STREAM, ShardId=shard, ShardIteratorType="LATEST"
    )["ShardIterator"]

    def events() -> list[tuple[bytes, str]]:
        found = kinesis.get_records(ShardIterator=iterator)["Records"]
        return [(each["Data"], each["PartitionKey"]) for each in found]

    return KinesisStream(kinesis, STREAM), events


def test_events_are_put_in_order_with_their_partition_keys(put: Put) -> None:
    stream, events = put
    numbers = [stream.put(data, key) for data, key in ((b"a\xff", "1"), (b"b", "é"))]
    assert len(set(numbers)) == 2
    assert all(isinstance(number, str) and number for number in numbers)
    assert events() == [(b"a\xff", "1"), (b"b", "é")]


def test_stream_out_of_reach_is_unavailable(nowhere: str) -> None:
    with pytest.raises(StreamUnavailable, match="EndpointConnectionError"):
        KinesisStream(aws("kinesis", nowhere), STREAM).put(b"a", "1")


def test_stream_that_is_not_there_is_unavailable(endpoint: str) -> None:
    with pytest.raises(StreamUnavailable, match="ResourceNotFoundException"):
        KinesisStream(aws("kinesis", endpoint), "nonesuch").put(b"a", "1")
