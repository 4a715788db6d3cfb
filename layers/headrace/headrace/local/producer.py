"""Puts records on the stream, as a producer on AWS should: in batches, refused ones again."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS
from headrace.errors import StreamUnavailable, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.ports import Clock

MOST_RECORDS = 500  # PutRecords takes no more, and no more than 5 MB
MOST_BYTES = 5_000_000
MOST_RECORD_BYTES = 1_048_576  # data and partition key
_WHAT = "bytes of a record's data and partition key"
_TRIES = 8
_FIRST_WAIT_SECONDS = 0.05

Record = tuple[bytes, str]


def put_records(kinesis: Any, stream: str, records: Iterable[Record], clock: Clock) -> list[str]:
    """Put (data, partition key) pairs on a stream; their sequence numbers, in the same order.

    A record that Kinesis refused goes again with the others that it refused; it may then lie
    behind a later one.

    Raises:
        StreamUnavailable: Kinesis did not take all of them within bounded retries.
        TooLarge: A record is larger than Kinesis takes.
    """
    return [
        number
        for batch in _batches(records)
        for number in _put_batch(kinesis, stream, batch, clock)
    ]


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    total = 0
    for data, key in records:
        size = len(data) + len(key.encode())
        if size > MOST_RECORD_BYTES:
            raise TooLarge(_WHAT, size, MOST_RECORD_BYTES)
        if len(batch) == MOST_RECORDS or total + size > MOST_BYTES:
            yield batch
            batch, total = [], 0
        batch.append((data, key))
        total += size
    if batch:
        yield batch


def _put_batch(kinesis: Any, stream: str, batch: list[Record], clock: Clock) -> list[str]:
    numbers: dict[int, str] = {}
    left = list(range(len(batch)))
    for attempt in count():
        entries = [{"Data": batch[at][0], "PartitionKey": batch[at][1]} for at in left]
        try:
            answer = kinesis.put_records(StreamName=stream, Records=entries)
        except AWS_ERRORS as error:
            msg = f"{len(left)} records cannot be put on {stream}: {error}"
            raise StreamUnavailable(msg) from error
        results = list(zip(left, answer["Records"], strict=True))
        numbers |= {at: one["SequenceNumber"] for at, one in results if "ErrorCode" not in one}
        left = [at for at, one in results if "ErrorCode" in one]
        if not left:
            break
        if attempt == _TRIES - 1:
            refused = sorted({one["ErrorCode"] for _, one in results if "ErrorCode" in one})
            msg = f"{stream} refused {len(left)} records {_TRIES} times: {', '.join(refused)}"
            raise StreamUnavailable(msg)
        clock.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
    return [numbers[at] for at in range(len(batch))]
