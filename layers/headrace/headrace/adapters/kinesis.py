"""Kinesis: records in, the first failure back, and events onto the stream."""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import StreamUnavailable
from headrace.events import Record

if TYPE_CHECKING:
    from headrace.outcome import Outcome

_US_PER_SECOND = 1_000_000


def decode_records(event: dict[str, Any]) -> list[Record]:
    """Records of a Lambda event from a Kinesis event source mapping, in order."""
    return [
        Record(
            a2b_base64(each["kinesis"]["data"]),
            round(each["kinesis"]["approximateArrivalTimestamp"] * _US_PER_SECOND),
            each["eventID"],
            each["kinesis"]["sequenceNumber"],
        )
        for each in event["Records"]
    ]


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
