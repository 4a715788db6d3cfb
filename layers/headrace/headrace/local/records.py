"""Kinesis as an event source mapping sees it: reading a shard, and the event that Lambda gets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import StreamUnavailable
from headrace.local.intrinsics import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_RECORDS_PER_READ = 10_000  # GetRecords takes no larger limit
_ENVELOPE_BYTES = 700  # of a record's entry in the event, apart from data and partition key


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record of a shard.

    Attributes:
        shard: Where it lies.
        sequence_number: Its place in the shard, as a decimal number.
        partition_key: What chose its shard.
        data: Its bytes.
        stored: When the stream took it, epoch seconds; its age is counted from here.
        arrived: What the function is told as its arrival time; the same, except in replays.
    """

    shard: str
    sequence_number: str
    partition_key: str
    data: bytes
    stored: float
    arrived: float

    @property
    def payload_bytes(self) -> int:
        """About what it takes of the 6 MB of an event."""
        return _ENVELOPE_BYTES + len(self.partition_key) + (len(self.data) + 2) // 3 * 4


# The arrival time to tell the function, epoch seconds; None leaves it at what the stream says.
Arrival: TypeAlias = Callable[[StreamRecord], float | None]


@dataclass(slots=True)
class ShardReader:
    """Reads one shard on from where it stopped; for one thread at a time.

    Attributes:
        start: TRIM_HORIZON or LATEST.
        behind: Whether there may be more to read, by what Kinesis said last.
    """

    kinesis: Any
    stream: str
    shard: str
    start: str
    arrival: Arrival | None = None
    behind: bool = True
    _iterator: str | None = None
    _last: str | None = None

    def open(self) -> None:
        """Take the place to read from; what LATEST means is settled here.

        Raises:
            StreamUnavailable: Kinesis did not answer.
        """
        place = {"ShardIteratorType": self.start}
        if self._last is not None:
            place = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": self._last,
            }
        try:
            answer = self.kinesis.get_shard_iterator(
                StreamName=self.stream, ShardId=self.shard, **place
            )
        except AWS_ERRORS as error:
            raise self._unavailable(error) from error
        self._iterator = answer["ShardIterator"]

    def read(self) -> list[StreamRecord]:
        """The next records in order, at most 10,000; none where there are none now.

        Raises:
            StreamUnavailable: Kinesis did not answer.
        """
        answer = self._get_records()
        records = [self._record(entry) for entry in answer["Records"]]
        self._iterator = answer.get("NextShardIterator")
        self.behind = answer.get("MillisBehindLatest", 0) > 0
        if records:
            self._last = records[-1].sequence_number
        return records

    def _get_records(self) -> dict[str, Any]:
        if self._iterator is None:
            self.open()
        try:
            return self._get_records_once()
        except AWS_ERRORS as error:
            if error_code(error) != "ExpiredIteratorException":
                raise self._unavailable(error) from error
        self.open()  # an iterator lives for five minutes
        try:
            return self._get_records_once()
        except AWS_ERRORS as error:
            raise self._unavailable(error) from error

    def _get_records_once(self) -> dict[str, Any]:
        return dict(
            self.kinesis.get_records(ShardIterator=self._iterator, Limit=MOST_RECORDS_PER_READ)
        )

    def _unavailable(self, error: Exception) -> StreamUnavailable:
        return StreamUnavailable(f"shard {self.shard} of {self.stream} cannot be read: {error}")

    def _record(self, entry: dict[str, Any]) -> StreamRecord:
        stored = entry["ApproximateArrivalTimestamp"].timestamp()
        record = StreamRecord(
            self.shard,
            entry["SequenceNumber"],
            entry["PartitionKey"],
            entry["Data"],
            stored,
            stored,
        )
        told = self.arrival(record) if self.arrival else None
        return record if told is None else replace(record, arrived=told)


def list_shards(kinesis: Any, stream: str) -> list[str]:
    """Every shard of a stream, parents before their children.

    Raises:
        StreamUnavailable: Kinesis did not answer.
    """
    asked: dict[str, str] = {"StreamName": stream}
    shards: list[str] = []
    while asked:
        try:
            answer = kinesis.list_shards(**asked)
        except AWS_ERRORS as error:
            msg = f"shards of {stream} cannot be listed: {error}"
            raise StreamUnavailable(msg) from error
        shards += [shard["ShardId"] for shard in answer["Shards"]]
        asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
    return sorted(shards)  # numbered in the order in which they were made


def stream_arn(stream: str) -> str:
    """ARN that local mode gives a stream."""
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"


def kinesis_event(stream: str, records: Sequence[StreamRecord]) -> dict[str, Any]:
    """What Lambda hands a function for a batch.

    Source: AWS Lambda Developer Guide, "Using Lambda with Kinesis", example event.
    """
    return {"Records": [_entry(stream, record) for record in records]}


def _entry(stream: str, record: StreamRecord) -> dict[str, Any]:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": record.sequence_number,
            "data": b64encode(record.data).decode("ascii"),
            "approximateArrivalTimestamp": record.arrived,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{record.shard}:{record.sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": f"arn:aws:iam::{ACCOUNT}:role/local",
        "awsRegion": REGION,
        "eventSourceARN": stream_arn(stream),
    }
