"""Failure destination of an event source mapping: which batch failed and why.

A bucket gets the records too; a queue or a topic gets only what leads to them on the stream.
Source: AWS Lambda Developer Guide, "Retain discarded batch records for a Kinesis Data Streams
event source in Lambda".
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS
from headrace.errors import StoreUnavailable
from headrace.local.records import kinesis_event, stream_arn

if TYPE_CHECKING:
    from headrace.local.records import StreamRecord
    from headrace.local.resources import StreamMapping

RETRIES_EXHAUSTED = "RetryAttemptsExhausted"
TOO_OLD = "RecordAgeExceeded"


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """Records of one shard that are given up.

    Attributes:
        records: At least one, in order.
        condition: RETRIES_EXHAUSTED or TOO_OLD.
        invocations: How often the function saw them.
        given_up: Epoch seconds.
        raised: Whether the function raised, the last time; else it reported failed records.
    """

    records: tuple[StreamRecord, ...]
    condition: str
    invocations: int
    given_up: float
    raised: bool = False


def keep_failed_batch(s3: Any, mapping: StreamMapping, failed: FailedBatch) -> str:
    """Write a batch to the mapping's failure bucket; its key.

    Raises:
        StoreUnavailable: S3 did not take it.

    Source: names of objects as in "S3 destination" of the guide's page:
    aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>.
    """
    at = datetime.fromtimestamp(failed.given_up, UTC)
    shard = failed.records[0].shard
    key = f"aws/lambda/{mapping.uuid}/{shard}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
    # The whole event, as a string; other destinations than S3 go without.
    event = json.dumps(kinesis_event(mapping.stream_name, failed.records))
    body = json.dumps(invocation_record(mapping, failed) | {"payload": event}).encode()
    try:
        s3.put_object(Bucket=mapping.failure_bucket, Key=key, Body=body)
    except AWS_ERRORS as error:
        msg = f"failed batch of {shard} cannot be kept in {mapping.failure_bucket}: {error}"
        raise StoreUnavailable(msg) from error
    return key


def send_failed_batch(client: Any, mapping: StreamMapping, failed: FailedBatch) -> str:
    """Send the metadata of a batch, without its records, to a queue or topic; the message's id.

    Args:
        client: Of SQS or SNS, as the mapping's failure destination asks for.
        mapping: The settings.
        failed: What is given up.

    Raises:
        StoreUnavailable: The destination did not take it.
    """
    arn, body = str(mapping.failure_destination), json.dumps(invocation_record(mapping, failed))
    try:
        if mapping.failure_service == "sns":
            return str(client.publish(TopicArn=arn, Message=body)["MessageId"])
        account, name = arn.split(":")[4:6]
        url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return str(client.send_message(QueueUrl=url, MessageBody=body)["MessageId"])
    except AWS_ERRORS as error:
        msg = f"failed batch of {failed.records[0].shard} cannot be sent to {arn}: {error}"
        raise StoreUnavailable(msg) from error


def invocation_record(mapping: StreamMapping, failed: FailedBatch) -> dict[str, Any]:
    """What every kind of failure destination is told of a batch.

    The part on the function's response is left out where the function was never invoked.
    """
    first, last = failed.records[0], failed.records[-1]
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": mapping.function_arn,
            "condition": failed.condition,
            "approximateInvokeCount": failed.invocations,
        },
        "version": "1.0",
        "timestamp": _iso(failed.given_up),
        "KinesisBatchInfo": {
            "shardId": first.shard,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _iso(first.arrived),
            "approximateArrivalOfLastRecord": _iso(last.arrived),
            "batchSize": len(failed.records),
            "streamArn": stream_arn(mapping.stream_name),
        },
    }
    if failed.invocations:
        error = {"functionError": "Unhandled"} if failed.raised else {}
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"} | error
    return record


def _iso(epoch_seconds: float) -> str:
    at = datetime.fromtimestamp(epoch_seconds, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
