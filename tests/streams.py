"""Fakes around a stream trigger: Kinesis with shards that split and merge, S3, a function."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from headrace.adapters.clock import FixedClock
from headrace.local.resources import StreamMapping
from headrace.local.runtime import FunctionFailed
from headrace.local.triggers import Invocation, StreamTrigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
US = 1_000_000
BUCKET = "failures"
BROKEN = ("function", "ValueError", "broken")


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "an operation")


class FakeKinesis:
    """Shards as lists of data; an iterator is a shard and a place in it.

    Attributes:
        shards: What each shard holds.
        keys: Partition keys of data that has another than "a key".
        stored: When data was put, where it was not at the start.
        parents: Of the shards that come from a split or a merge, by number.
        closed: Numbers of the shards that were split or merged.
        ends: Whether a closed shard has an end; moto's has none.
        errors: Raised by the next reads, the last one first.
        listing_errors: Raised by the next listings of shards.
        limits: Of all reads.
        asked: Places that iterators were asked for.
    """

    def __init__(self, *shards: list[bytes]) -> None:
        self.shards = [list(shard) for shard in shards]
        self.keys: dict[bytes, str] = {}
        self.stored: dict[bytes, datetime] = {}
        self.parents: dict[int, list[int]] = {}
        self.closed: set[int] = set()
        self.ends = True
        self.errors: list[ClientError] = []
        self.listing_errors: list[ClientError] = []
        self.limits: list[int] = []
        self.asked: list[dict[str, Any]] = []

    def split(self, shard: int, *children: list[bytes]) -> None:
        """Close a shard; its children take what comes from now on."""
        self.closed.add(shard)
        for child in children:
            self.parents[len(self.shards)] = [shard]
            self.shards.append(list(child))

    def merge(self, one: int, other: int, child: list[bytes]) -> None:
        """Close two shards for one."""
        self.closed |= {one, other}
        self.parents[len(self.shards)] = [one, other]
        self.shards.append(list(child))

    def list_shards(self, **asked: str) -> dict[str, Any]:
        if self.listing_errors:
            raise self.listing_errors.pop()
        at = int(asked.get("NextToken", 0))
        more = {"NextToken": str(at + 1)} if at + 1 < len(self.shards) else {}
        numbers = {"StartingSequenceNumber": "0"}
        if at in self.closed:
            numbers["EndingSequenceNumber"] = str(len(self.shards[at]))
        parents = [f"shardId-{parent:012}" for parent in self.parents.get(at, [])]
        names = ("ParentShardId", "AdjacentParentShardId")
        shard = {"ShardId": f"shardId-{at:012}", "SequenceNumberRange": numbers}
        return {"Shards": [shard | dict(zip(names, parents, strict=False))], **more}

    def get_shard_iterator(self, **asked: Any) -> dict[str, str]:
        self.asked.append(asked)
        shard = int(asked["ShardId"].removeprefix("shardId-"))
        records, kind = self.shards[shard], asked["ShardIteratorType"]
        place = {"TRIM_HORIZON": 0, "LATEST": len(records)}.get(kind)
        if kind == "AT_TIMESTAMP":
            at = (self.stored.get(data, NOW) >= asked["Timestamp"] for data in records)
            place = next((number for number, after in enumerate(at) if after), len(records))
        if kind == "AFTER_SEQUENCE_NUMBER":
            place = int(asked["StartingSequenceNumber"]) + 1
        return {"ShardIterator": f"{shard}/{place}"}

    def get_records(self, **asked: Any) -> dict[str, Any]:
        if self.errors:
            raise self.errors.pop()
        self.limits.append(asked["Limit"])
        shard, at = (int(part) for part in asked["ShardIterator"].split("/"))
        some = self.shards[shard][at : at + asked["Limit"]]
        end = at + len(some)
        behind = end < len(self.shards[shard])
        over = self.ends and shard in self.closed and not behind
        return {
            "Records": [
                {
                    "SequenceNumber": str(at + place),
                    "PartitionKey": self.keys.get(data, "a key"),
                    "Data": data,
                    "ApproximateArrivalTimestamp": self.stored.get(data, NOW),
                }
                for place, data in enumerate(some)
            ],
            **({} if over else {"NextShardIterator": f"{shard}/{end}"}),
            "MillisBehindLatest": 1000 * behind,
        }


class FakeS3:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.errors: list[ClientError] = []

    def put_object(self, **asked: Any) -> None:
        if self.errors:
            raise self.errors.pop()
        assert asked["Bucket"] == BUCKET
        self.objects[asked["Key"]] = json.loads(asked["Body"])

    def kept(self) -> list[bytes]:
        """Data of all records of all kept batches."""
        return [
            b64decode(record["kinesis"]["data"])
            for batch in self.objects.values()
            for record in json.loads(batch["payload"])["Records"]
        ]


class FakeFunction:
    """Acknowledges everything, except as told: poison raises, or is reported as failed."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.events: list[dict[str, Any]] = []
        self.poison: set[bytes] = set()
        self.reported: set[bytes] = set()
        self.broken = 0

    def __call__(self, event: dict[str, Any]) -> Any:
        self.events.append(event)
        records = [(b64decode(r["kinesis"]["data"]), r) for r in event["Records"]]
        self.batches.append([data for data, _ in records])
        if self.broken:
            self.broken -= 1
            raise FunctionFailed(*BROKEN)
        if self.poison & {data for data, _ in records}:
            raise FunctionFailed(*BROKEN)
        failed = [r["kinesis"]["sequenceNumber"] for data, r in records if data in self.reported]
        return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def mapping(**changed: Any) -> StreamMapping:
    settings: dict[str, Any] = {
        "uuid": "a-mapping",
        "function": "Function",
        "function_arn": "arn:function",
        "stream_name": "events",
        "starting_position": "TRIM_HORIZON",
        "batch_size": 4,
        "window_seconds": 0.0,
        "bisect": True,
        "reports_item_failures": True,
        "max_retries": 2,
        "max_record_age_seconds": None,
        "failure_destination": f"arn:aws:s3:::{BUCKET}",
    }
    return StreamMapping(**settings | changed)


class Bench:
    """A trigger between fakes, on a clock that stands still unless somebody waits."""

    def __init__(self, *shards: list[bytes], **changed: Any) -> None:
        self.kinesis = FakeKinesis(*shards)
        self.s3, self.function = FakeS3(), FakeFunction()
        self.clock = FixedClock(int(NOW.timestamp()) * US)
        self.invocations: list[Invocation] = []
        self.changed = changed

    @cached_property
    def trigger(self) -> StreamTrigger:
        """Made when first asked for, so that the stream can be got ready before."""
        options = {"arrival", "messages", "chance"} & self.changed.keys()
        return StreamTrigger(
            mapping(**{name: self.changed[name] for name in self.changed.keys() - options}),
            self.function,
            kinesis=self.kinesis,
            s3=self.s3,
            clock=self.clock,
            observe=self.invocations.append,
            **{name: self.changed[name] for name in options},
        )

    def put(self, *records: tuple[bytes, str], shard: int = 0) -> None:
        """Put records, each with its partition key."""
        for data, key in records:
            self.kinesis.keys[data] = key
            self.kinesis.shards[shard].append(data)

    def delivered(self) -> list[bytes]:
        """All batches, each as one text."""
        return [b"".join(batch) for batch in self.function.batches]


def letters(text: str) -> list[bytes]:
    """Records of one letter each."""
    return [letter.encode() for letter in text]
