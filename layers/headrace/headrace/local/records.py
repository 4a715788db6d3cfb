"""Kinesis as an event source mapping sees it: reading a shard, and the event that Lambda gets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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


@dataclass(frozen=True, slots=True)
class ShardStart:
    """Where the reading of a shard begins.

    Attributes:
        kind: TRIM_HORIZON, LATEST or AT_TIMESTAMP.
        at: Epoch seconds: of the first record of AT_TIMESTAMP, and of when LATEST was settled.
    """

    kind: str
    at: float


@dataclass(slots=True)
class ShardReader:
    """Reads one shard on from where it stopped; for one thread at a time.

    Attributes:
        start: Where it begins.
        behind: Whether there may be more to read, by what Kinesis said last.
        closed: Whether the shard was split or merged: it takes no more records.
        ended: Whether Kinesis said that nothing comes after what was read.
        read_out: Whether nothing is left to read of a closed shard. Moto never says that one
            ended, and goes on putting records on it, so it is read on.
    """

    kinesis: Any
    stream: str
    shard: str
    start: ShardStart
    arrival: Arrival | None = None
    behind: bool = True
    closed: bool = False
    ended: bool = False
    read_out: bool = False
    _iterator: str | None = None
    _opened: bool = False
    _last: str | None = None

    def open(self) -> None:
        """Take the place to read from; what LATEST means is settled here.

        Raises:
            StreamUnavailable: Kinesis did not answer.
        """
        try:
            answer = self.kinesis.get_shard_iterator(
                StreamName=self.stream, ShardId=self.shard, **self._place()
            )
        except AWS_ERRORS as error:
            raise self._unavailable(error) from error
        self._iterator = answer["ShardIterator"]
        self._opened = True

    def _place(self) -> dict[str, Any]:
        if self._last is not None:
            return {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": self._last,
            }
        # Opened anew, LATEST would pass over what came since it was settled.
        if self.start.kind == "AT_TIMESTAMP" or (self.start.kind == "LATEST" and self._opened):
            at = datetime.fromtimestamp(self.start.at, UTC)
            return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at}
        return {"ShardIteratorType": self.start.kind}

    def read(self) -> list[StreamRecord]:
        """The next records in order, at most 10,000; none where there are none now.

        Raises:
            StreamUnavailable: Kinesis did not answer.
        """
        if self.ended:
            return []
        answer = self._get_records()
        records = [self._record(entry) for entry in answer["Records"]]
        self._iterator = answer.get("NextShardIterator")
        full = len(records) == MOST_RECORDS_PER_READ
        self.ended = self._iterator is None
        self.behind = not self.ended and (answer.get("MillisBehindLatest", 0) > 0 or full)
        self.read_out = self.ended or (self.closed and not self.behind)
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


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard as Kinesis lists it.

    Attributes:
        shard: Its id.
        parents: The one that it was split from, or the two that it was merged from.
        closed: Whether it was itself split or merged.
    """

    shard: str
    parents: tuple[str, ...]
    closed: bool


def list_shards(kinesis: Any, stream: str) -> list[ListedShard]:
    """Every shard of a stream, parents before their children.

    Raises:
        StreamUnavailable: Kinesis did not answer.
    """
    asked: dict[str, str] = {"StreamName": stream}
    shards: list[ListedShard] = []
    while asked:
        try:
            answer = kinesis.list_shards(**asked)
        except AWS_ERRORS as error:
            msg = f"shards of {stream} cannot be listed: {error}"
            raise StreamUnavailable(msg) from error
        shards += [_listed(shard) for shard in answer["Shards"]]
        asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
    # Numbered in the order in which they were made.
    return sorted(shards, key=lambda listed: listed.shard)


def _listed(shard: dict[str, Any]) -> ListedShard:
    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
    numbers = shard.get("SequenceNumberRange", {})
    return ListedShard(
        shard["ShardId"],
        tuple(parent for parent in parents if parent),
        numbers.get("EndingSequenceNumber") is not None,
    )


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
