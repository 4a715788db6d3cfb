"""The fault kit does what it says, below botocore's own retries, and the adapters bear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from headrace.adapters.clock import FixedClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.errors import Misconfigured
from headrace.local.faults import Crashed, Faults, Injector, inject
from headrace.local.moto_server import serve_moto
from headrace.local.producer import put_records
from headrace.ports import StateWrite, StoredState
from tests.fakes import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator

ONCE = Config(retries={"total_max_attempts": 1, "mode": "standard"})
TWICE = Config(retries={"total_max_attempts": 2, "mode": "standard"})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve_moto() as url:
        yield url


def client(service: str, url: str, config: Config = ONCE) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=config,
    )


@pytest.fixture
def table(endpoint: str) -> str:
    dynamodb = client("dynamodb", endpoint)
    if "t" in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName="t")
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "entity", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "entity", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return "t"


def struck(endpoint: str, config: Config = ONCE, **rates: float) -> tuple[Any, Injector]:
    """A DynamoDB client that faults strike."""
    found, injector = client("dynamodb", endpoint, config), Injector(Faults(**rates), seed=1)
    injector.watch(found.meta.events)
    return found, injector


def item(key: str) -> dict[str, Any]:
    return {"entity": {"S": key}, "version": {"N": "1"}, "state": {"B": b"x"}}


def stored(endpoint: str) -> set[str]:
    return {
        each["entity"]["S"] for each in client("dynamodb", endpoint).scan(TableName="t")["Items"]
    }


def test_a_throttled_request_is_not_done(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, throttle=1.0)
    with pytest.raises(ClientError, match="ProvisionedThroughputExceededException"):
        found.put_item(TableName=table, Item=item("a"))
    assert stored(endpoint) == set()
    assert injector.counts["throttle"] == 1


def test_a_throttled_request_to_s3_is_told_to_slow_down(endpoint: str) -> None:
    found, injector = client("s3", endpoint), Injector(Faults(throttle=1.0))
    injector.watch(found.meta.events)
    with pytest.raises(ClientError, match="SlowDown"):
        found.list_buckets()


def test_a_skewed_clock_is_refused_for_its_signature(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, TWICE, skew=1.0)
    outcome = DynamoStates(found, table, FixedClock(NOON)).write([StateWrite("a", 0, b"x", None)])
    assert "InvalidSignatureException" in outcome.failed["a"]
    assert stored(endpoint) == set()
    assert injector.counts["skew"] == 1  # trying again at once would not help, and is not tried


def test_what_lost_its_response_is_done_and_botocore_repeats_it(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, TWICE, lost_response=1.0)
    states = DynamoStates(found, table, FixedClock(NOON))
    outcome = states.write([StateWrite("a", 0, b"mine", None)])
    assert injector.counts["lost_response"] == 2
    assert outcome.failed  # the second answer was lost too: nobody knows
    assert stored(endpoint) == {"a"}


def test_a_write_that_is_repeated_after_its_commit_loses_against_itself(
    endpoint: str, table: str
) -> None:
    found, _ = struck(endpoint, TWICE, lost_response=0.5)
    states = DynamoStates(found, table, FixedClock(NOON))
    for number in range(40):
        key = f"e{number}"
        outcome = states.write([StateWrite(key, 0, b"mine", None)])
        if key in outcome.lost:
            break
    assert key in outcome.lost
    plain = DynamoStates(client("dynamodb", endpoint), table, FixedClock(NOON))
    assert plain.read([key])[key] == StoredState(1, b"mine")


def test_unprocessed_keys_are_asked_for_again(endpoint: str, table: str) -> None:
    plain = DynamoStates(client("dynamodb", endpoint), table, FixedClock(NOON))
    keys = [f"k{n}" for n in range(30)]
    plain.write([StateWrite(key, 0, key.encode(), None) for key in keys])
    found, injector = struck(endpoint, unprocessed=0.7)
    read = DynamoStates(found, table, FixedClock(NOON)).read(keys)
    assert {key: state.data for key, state in read.items()} == {k: k.encode() for k in keys}
    assert injector.counts["unprocessed"] > 0


def test_unprocessed_items_are_written_again(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, unprocessed=0.7)
    scores = DynamoScores(found, table, FixedClock(NOON), 1)
    scores._put_chunk([item(f"s{n}") for n in range(25)])
    assert len(stored(endpoint)) == 25
    assert injector.counts["unprocessed"] > 0


def test_a_crash_ends_the_process_before_or_after_the_write(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, crash=1.0)
    for number in range(20):
        with pytest.raises(Crashed):
            found.put_item(TableName=table, Item=item(f"c{number}"))
    assert 0 < len(stored(endpoint)) < 20
    assert injector.counts["crash"] == 20


def test_reads_do_not_crash(endpoint: str, table: str) -> None:
    found, injector = struck(endpoint, crash=1.0)
    assert found.get_item(TableName=table, Key={"entity": {"S": "none"}}).get("Item") is None
    assert injector.counts["crash"] == 0


def test_records_that_kinesis_did_not_take_are_put_again(endpoint: str) -> None:
    kinesis = client("kinesis", endpoint)
    kinesis.create_stream(StreamName="events", ShardCount=1)
    injector = Injector(Faults(partial_put=0.6), seed=3)
    injector.watch(kinesis.meta.events)
    sent = [(str(n).encode(), "key") for n in range(40)]
    numbers = put_records(kinesis, "events", sent, FixedClock(NOON))
    assert injector.counts["partial_put"] > 0
    shard = kinesis.list_shards(StreamName="events")["Shards"][0]["ShardId"]
    start = kinesis.get_shard_iterator(
        StreamName="events", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )
    got = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
    by_number = {each["SequenceNumber"]: each["Data"] for each in got}
    assert len(got) == 40
    assert [by_number[number] for number in numbers] == [data for data, _ in sent]


def test_all_clients_that_boto3_makes_are_struck_for_as_long_as_told(
    endpoint: str, table: str
) -> None:
    with inject(Faults(throttle=1.0)) as injected:
        inside = client("dynamodb", endpoint)
        with pytest.raises(ClientError, match="ThroughputExceeded"):
            inside.put_item(TableName=table, Item=item("a"))
        with injected.paused():
            inside.put_item(TableName=table, Item=item("b"))
    client("dynamodb", endpoint).put_item(TableName=table, Item=item("c"))
    assert stored(endpoint) == {"b", "c"}


def test_faults_are_read_from_text() -> None:
    assert Faults.parse("throttle=0.02,crash=1") == Faults(throttle=0.02, crash=1.0)
    assert Faults.parse("") == Faults()


@pytest.mark.parametrize("text", ["throttle", "throttle=x", "throttle=2", "nonesuch=0.1", "=1"])
def test_faults_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"faults: got .* expected one of throttle, skew, lost"):
        Faults.parse(text)
