"""Failure destination of an event source mapping: the batch and why it failed, kept in S3."""

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
    """

    records: tuple[StreamRecord, ...]
    condition: str
    invocations: int
    given_up: float


def keep_failed_batch(s3: Any, mapping: StreamMapping, failed: FailedBatch) -> str:
    """Write a batch to the mapping's failure bucket; its key.

    Raises:
        StoreUnavailable: S3 did not take it.

    Source: AWS Lambda Developer Guide, "Retain discarded batch records"; names of objects as in
    "S3 destination": aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>.
    """
    at = datetime.fromtimestamp(failed.given_up, UTC)
    shard = failed.records[0].shard
    key = f"aws/lambda/{mapping.uuid}/{shard}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
    body = json.dumps(_invocation_record(mapping, failed)).encode()
    try:
        s3.put_object(Bucket=mapping.failure_bucket, Key=key, Body=body)
    except AWS_ERRORS as error:
        msg = f"failed batch of {shard} cannot be kept in {mapping.failure_bucket}: {error}"
        raise StoreUnavailable(msg) from error
    return key


def _invocation_record(mapping: StreamMapping, failed: FailedBatch) -> dict[str, Any]:
    first, last = failed.records[0], failed.records[-1]
    return {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": mapping.function_arn,
            "condition": failed.condition,
            "approximateInvokeCount": failed.invocations,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
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
        # The whole event, as a string; other destinations than S3 go without.
        "payload": json.dumps(kinesis_event(mapping.stream_name, failed.records)),
    }


def _iso(epoch_seconds: float) -> str:
    at = datetime.fromtimestamp(epoch_seconds, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
