"""What local mode relies on of Kinesis, on moto and kinesis-mock; where one lies, it says so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headrace.adapters.clock import SystemClock
from headrace.errors import StreamUnavailable, TooLarge
from headrace.local.moto_server import serve_moto
from headrace.local.producer import MOST_RECORD_BYTES, put_records
from headrace.local.records import ListedShard, ShardReader, ShardStart, list_shards
from tests.aws import await_active, aws_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.local.records import StreamRecord

pytestmark = pytest.mark.slow
ENGINES = ["moto", "kinesis-mock"]
_LAST = 2**128 - 1


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with serve_moto() as url:
        yield url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kinesis(engine: str, request: pytest.FixtureRequest) -> Any:
    url = request.getfixturevalue("moto_url" if engine == "moto" else "kinesis_mock")
    return aws_client("kinesis", url, retries={"total_max_attempts": 2, "mode": "standard"})


@pytest.fixture
def stream(kinesis: Any, request: pytest.FixtureRequest) -> str:
    """An active stream of one shard."""
    name = f"s{abs(hash(request.node.name))}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    await_active(kinesis, name)
    return name


def reader(kinesis: Any, name: str, shard: str | None = None) -> ShardReader:
    found = ShardReader(
        kinesis, name, shard or list_shards(kinesis, name)[0].shard, ShardStart("TRIM_HORIZON", 0.0)
    )
    found.open()
    return found


def read_until(found: ShardReader, enough: Callable[[list[StreamRecord]], bool]) -> list[bytes]:
    """Data of the records, read until there are enough of them."""
    records: list[StreamRecord] = []
    for _ in range(100):
        records += found.read()
        if enough(records):
            break
        time.sleep(0.02)
    return [record.data for record in records]


def test_records_of_a_shard_come_in_the_order_in_which_they_were_put(
    kinesis: Any, stream: str
) -> None:
    sent = [(f"{n}".encode(), f"key-{n % 3}") for n in range(700)]
    numbers = put_records(kinesis, stream, sent, SystemClock())
    found = read_until(reader(kinesis, stream), lambda records: len(records) >= 700)
    assert found == [data for data, _ in sent]
    assert sorted(map(int, numbers)) == list(map(int, numbers))


def test_a_reader_goes_on_where_it_stopped(kinesis: Any, stream: str) -> None:
    found = reader(kinesis, stream)
    assert found.read() == []
    put_records(kinesis, stream, [(b"1", "k"), (b"2", "k")], SystemClock())
    assert read_until(found, lambda records: len(records) >= 2) == [b"1", b"2"]
    put_records(kinesis, stream, [(b"3", "k")], SystemClock())
    assert read_until(found, bool) == [b"3"]


def test_a_reader_that_lost_its_iterator_opens_after_its_last_record(
    kinesis: Any, stream: str
) -> None:
    put_records(kinesis, stream, [(b"1", "k"), (b"2", "k")], SystemClock())
    found = reader(kinesis, stream)
    assert len(read_until(found, lambda records: len(records) >= 2)) == 2
    put_records(kinesis, stream, [(b"3", "k")], SystemClock())
    found.open()
    assert read_until(found, bool) == [b"3"]


def test_a_stream_that_is_not_there_is_told(kinesis: Any) -> None:
    with pytest.raises(StreamUnavailable, match="shards of nonesuch cannot be listed"):
        list_shards(kinesis, "nonesuch")
    with pytest.raises(StreamUnavailable, match="cannot be put on nonesuch"):
        put_records(kinesis, "nonesuch", [(b"1", "k")], SystemClock())


def test_a_record_of_one_mebibyte_goes_and_a_larger_one_is_refused_before_it_is_sent(
    kinesis: Any, stream: str
) -> None:
    whole = b"x" * (MOST_RECORD_BYTES - 1)
    assert len(put_records(kinesis, stream, [(whole, "k")], SystemClock())) == 1
    with pytest.raises(TooLarge, match="1,048,577"):
        put_records(kinesis, stream, [(whole + b"x", "k")], SystemClock())


def test_moto_takes_records_that_aws_refuses(kinesis: Any, stream: str, engine: str) -> None:
    """Which is why the producer looks at the size itself."""
    much = b"x" * (MOST_RECORD_BYTES + 100_000)
    try:
        kinesis.put_record(StreamName=stream, Data=much, PartitionKey="k")
        refused = False
    except ClientError:
        refused = True
    assert refused is (engine == "kinesis-mock")


def split(kinesis: Any, name: str) -> tuple[str, list[str]]:
    """Split a stream's only shard; (parent, children)."""
    parent = list_shards(kinesis, name)[0].shard
    middle = str(_LAST // 2 + 1)
    kinesis.split_shard(StreamName=name, ShardToSplit=parent, NewStartingHashKey=middle)
    await_active(kinesis, name)
    return parent, [each.shard for each in list_shards(kinesis, name) if each.parents]


def test_a_split_names_its_parent_and_comes_before_its_children(kinesis: Any, stream: str) -> None:
    parent, children = split(kinesis, stream)
    assert len(children) == 2
    assert list_shards(kinesis, stream) == [
        ListedShard(parent, (), closed=True),
        *(ListedShard(child, (parent,), closed=False) for child in children),
    ]


def test_only_kinesis_mock_puts_new_records_into_the_children(
    kinesis: Any, stream: str, engine: str
) -> None:
    """As AWS does; moto goes on filling the closed parent, and its children stay empty."""
    put_records(kinesis, stream, [(b"old", "k")], SystemClock())
    parent, children = split(kinesis, stream)
    put_records(kinesis, stream, [(f"{n}".encode(), f"key-{n}") for n in range(40)], SystemClock())
    new = [f"{n}".encode() for n in range(40)]
    kept = read_until(reader(kinesis, stream, parent), bool)
    taken = [
        read_until(reader(kinesis, stream, child), lambda records: len(records) > 9)
        for child in children
    ]
    if engine == "kinesis-mock":
        assert kept == [b"old"]
        assert sorted(taken[0] + taken[1]) == sorted(new)
    else:
        assert (kept, taken) == ([b"old", *new], [[], []])


def test_only_kinesis_mock_ends_a_closed_shard(kinesis: Any, stream: str, engine: str) -> None:
    """AWS gives no further iterator once a closed shard is read to its end; moto does for ever."""
    put_records(kinesis, stream, [(b"old", "k")], SystemClock())
    parent, _ = split(kinesis, stream)
    answer = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=parent, ShardIteratorType="TRIM_HORIZON"
    )
    iterator, rounds = answer["ShardIterator"], 0
    while iterator and rounds < 20:
        iterator = kinesis.get_records(ShardIterator=iterator).get("NextShardIterator")
        rounds += 1
    assert (iterator is None) is (engine == "kinesis-mock")
