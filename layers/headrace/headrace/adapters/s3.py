"""Quarantine in S3: one object per refused record, with its bytes, reasons and position.

``S3KeptRecords`` reads them again for a redrive, and beside them the batches that Lambda's event
source mappings gave up, each an object under aws/lambda/<mapping>/<shard>/YYYY/MM/DD/.
Source: AWS Lambda Developer Guide, "Retain discarded batch records".
"""

from __future__ import annotations

import base64
from datetime import datetime
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.adapters.aws import AWS_ERRORS, error_code, in_parallel
from headrace.adapters.kinesis import decode_records
from headrace.errors import Fault, StoreUnavailable
from headrace.events import Record, time_to_us, us_to_text, us_to_time
from headrace.ports import Kept, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.ports import Quarantined, Selection

PREFIX = "quarantine/"
FAILED_PREFIX = "aws/lambda/"
REDRIVEN_PREFIX = "redriven/"
_SHARD = "shardId-"  # beside the shards of a mapping lie failed scheduled runs: not events
_UUID_LENGTH = 37  # with the dash before it; what precedes it is the second of giving up
_READ_AHEAD = 16
_GONE = ("NoSuchKey", "404")


class S3Quarantine:
    """Fulfils ``ports.Quarantine``; the key comes from the position, so a repeat overwrites."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def put(self, refused: Quarantined) -> None:
        """See the port."""
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=quarantine_key(refused),
                Body=quarantine_body(refused),
                ContentType="application/json",
            )
        except AWS_ERRORS as error:
            msg = f"record {refused.record.position} cannot be quarantined: {error_code(error)}"
            raise StoreUnavailable(msg) from error


def quarantine_key(refused: Quarantined) -> str:
    """``quarantine/<reason>/<day of arrival>/<position>.json``."""
    day = us_to_text(refused.record.arrival)[:10]
    return f"{PREFIX}{refused.faults[0].reason}/{day}/{refused.record.position}.json"


def quarantine_body(refused: Quarantined) -> bytes:
    """JSON: position, sequence, arrival, faults, and the record's bytes in base64."""
    record = refused.record
    return msgspec.json.encode(
        {
            "position": record.position,
            "sequence": record.sequence,
            "arrival": us_to_text(record.arrival),
            "faults": refused.faults,
            "data": base64.b64encode(record.data).decode(),
        }
    )


class S3KeptRecords(S3Quarantine):
    """Fulfils ``ports.KeptRecords``; what is put away lies under redriven/ with its former key.

    In memory are, of each reason, the keys of one day, and of each shard with kept records
    READ_AHEAD single records or the failed batches of one second.
    """

    def select(self, selection: Selection) -> Iterator[Kept | Unreadable]:
        """See the port: shards are in their order already, and are merged by arrival."""
        sources = [self._refused(folder, selection) for folder in self._folders(PREFIX)]
        for mapping in self._folders(FAILED_PREFIX):
            shards = self._folders(mapping + _SHARD)
            sources += [self._failed(shard, selection) for shard in shards]
        for each in merge(*sources, key=_arrival):
            if isinstance(each, Unreadable) or selection.takes(each):
                yield each

    def replace(self, kept: Kept, refused: Quarantined) -> None:
        """See the port: put first, then delete."""
        self.put(refused)
        if quarantine_key(refused) != kept.key:
            self._delete(kept.key)

    def put_away(self, kept: Kept) -> None:
        """See the port: copy first, then delete."""
        try:
            self._client.copy_object(
                Bucket=self._bucket,
                Key=REDRIVEN_PREFIX + kept.key,
                CopySource={"Bucket": self._bucket, "Key": kept.key},
            )
        except AWS_ERRORS as error:
            if error_code(error) in _GONE:
                return  # another redrive has put it away
            msg = f"{kept.key} cannot be put away: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        self._delete(kept.key)

    def _refused(self, folder: str, selection: Selection) -> Iterator[Kept | Unreadable]:
        """Records of one reason, day by day."""
        reason = folder.removeprefix(PREFIX).rstrip("/")
        if selection.reasons and reason not in selection.reasons:
            return
        first = us_to_text(selection.since)[:10]
        last = "9" if selection.until is None else us_to_text(selection.until)[:10]
        for day in self._folders(folder):
            if first <= day.removeprefix(folder).rstrip("/") <= last:
                keys = sorted(self._keys(day), key=_place)
                shards = [list(found) for _, found in groupby(keys, key=lambda k: _place(k)[0])]
                yield from merge(*map(self._read_all, shards), key=_arrival)

    def _failed(self, folder: str, selection: Selection) -> Iterator[Kept | Unreadable]:
        """Failed batches of one shard, in the order in which they were given up.

        That is their order of arrival, unless the mapping runs several batches of a shard at once.
        """
        start = f"{folder}{us_to_time(selection.since):%Y/%m/%d}"  # given up no sooner than arrived
        for _, keys in groupby(self._keys(folder, start), key=lambda key: key[:-_UUID_LENGTH]):
            yield from sorted(self._read_all(list(keys)), key=_arrival)

    def _folders(self, prefix: str) -> list[str]:
        pages = self._pages(Prefix=prefix, Delimiter="/")
        return [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]

    def _keys(self, prefix: str, start: str = "") -> Iterator[str]:
        for page in self._pages(Prefix=prefix, StartAfter=start):
            yield from (each["Key"] for each in page.get("Contents", []))

    def _pages(self, **request: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        try:
            yield from pages.paginate(Bucket=self._bucket, **request)
        except AWS_ERRORS as error:
            msg = f"kept records cannot be listed: {error_code(error)}"
            raise StoreUnavailable(msg) from error

    def _read_all(self, keys: Sequence[str]) -> Iterator[Kept | Unreadable]:
        for start in range(0, len(keys), _READ_AHEAD):
            found = in_parallel(self._read, keys[start : start + _READ_AHEAD])
            yield from (each for each in found if each is not None)

    def _read(self, key: str) -> Kept | Unreadable | None:
        """An object; None where another redrive has put it away since it was listed."""
        try:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except AWS_ERRORS as error:
            if error_code(error) in _GONE:
                return None
            msg = f"{key} cannot be read: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        try:
            return _refused_record(key, body) if key.startswith(PREFIX) else _batch(key, body)
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
            return Unreadable(key, f"{type(error).__name__}: {error}")

    def _delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except AWS_ERRORS as error:
            msg = f"{key} cannot be deleted after it was copied: {error_code(error)}"
            raise StoreUnavailable(msg) from error


class _RefusedRecord(msgspec.Struct):
    """What ``quarantine_body`` writes."""

    position: str
    sequence: str
    arrival: datetime
    faults: list[Fault]
    data: bytes


class _Request(msgspec.Struct):
    condition: str


class _InvocationRecord(msgspec.Struct):
    """What Lambda writes of a batch that it gives up; ``payload`` is the event as text."""

    requestContext: _Request  # noqa: N815 - AWS's name
    payload: str


def _refused_record(key: str, body: bytes) -> Kept:
    found = msgspec.json.decode(body, type=_RefusedRecord)
    if not found.faults:
        msg = "no faults; expected why the record was refused"
        raise ValueError(msg)
    record = Record(found.data, time_to_us(found.arrival), found.position, found.sequence)
    return Kept(key, key.split("/")[1], (record,), tuple(found.faults))


def _batch(key: str, body: bytes) -> Kept:
    found = msgspec.json.decode(body, type=_InvocationRecord)
    records = decode_records(msgspec.json.decode(found.payload))
    if not records:
        msg = "the payload has no records"
        raise ValueError(msg)
    return Kept(key, found.requestContext.condition, tuple(records))


def _arrival(each: Kept | Unreadable) -> int:
    return 0 if isinstance(each, Unreadable) else each.arrival


def _place(key: str) -> tuple[str, int, str]:
    """Shard and sequence number of a refused record's key, which is ...<shard>:<number>.json."""
    shard, _, sequence = key.rpartition("/")[2].removesuffix(".json").rpartition(":")
    return shard, int(sequence) if sequence.isdecimal() else 0, sequence
