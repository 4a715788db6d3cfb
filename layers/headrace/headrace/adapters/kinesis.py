"""Kinesis: records in, the first failure back, and events onto the stream."""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import StreamUnavailable
from headrace.events import Record

if TYPE_CHECKING:
    from headrace.outcome import Outcome

_US_PER_SECOND = 1_000_000


def decode_records(event: dict[str, Any]) -> list[Record]:
    """Records of a Lambda event from a Kinesis event source mapping, in order."""
    records = event["Records"]
    bodies = [each["kinesis"] for each in records]
    return [
        Record(
            data,
            round(body["approximateArrivalTimestamp"] * _US_PER_SECOND),
            record["eventID"],
            body["sequenceNumber"],
        )
        for record, body, data in zip(
            records, bodies, _payloads([body["data"] for body in bodies]), strict=True
        )
    ]


def _payloads(texts: list[str]) -> list[bytes]:
    """Base64, decoded all at once; msgspec is quicker than binascii for each."""
    try:
        return msgspec.convert(texts, list[bytes])
    except msgspec.ValidationError:  # it takes no line breaks, which binascii passes over
        return [a2b_base64(text) for text in texts]


def failures(outcome: Outcome) -> dict[str, Any]:
    """A partial batch response: Lambda delivers again from the first failed record on.

    Source: AWS Lambda, "Configuring partial batch response with Kinesis Data Streams".
    """
    failed = [] if outcome.failed is None else [{"itemIdentifier": outcome.failed}]
    return {"batchItemFailures": failed}


class KinesisStream:
    """Fulfils ``ports.EventStream``."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    def put(self, data: bytes, partition_key: str) -> str:
        """See the port."""
        try:
            answer = self._client.put_record(
                StreamName=self._name, Data=data, PartitionKey=partition_key
            )
        except AWS_ERRORS as error:
            msg = f"event cannot be put on the stream: {error_code(error)}"
            raise StreamUnavailable(msg) from error
        return str(answer["SequenceNumber"])
