"""What a failure destination is told of the records that a mapping gives up."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import boto3
import pytest
from moto import mock_aws

from headrace.errors import StoreUnavailable
from headrace.local import NotEmulated
from headrace.local.delivery import Delivery
from tests.streams import NOW, Bench, letters, refused

QUEUE = "arn:aws:sqs:us-east-1:123456789012:failed"
TOPIC = "arn:aws:sns:us-east-1:123456789012:failed"
INFO = {
    "shardId": "shardId-000000000000",
    "startSequenceNumber": "0",
    "endSequenceNumber": "1",
    "approximateArrivalOfFirstRecord": "2026-01-01T00:00:00.000Z",
    "approximateArrivalOfLastRecord": "2026-01-01T00:00:00.000Z",
    "batchSize": 2,
    "streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/events",
}


class FakeMessages:
    """A queue and a topic."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.errors: list[Exception] = []

    def get_queue_url(self, **asked: str) -> dict[str, str]:
        assert asked == {"QueueName": "failed", "QueueOwnerAWSAccountId": "123456789012"}
        return {"QueueUrl": "https://queue"}

    def send_message(self, **asked: str) -> dict[str, str]:
        assert asked["QueueUrl"] == "https://queue"
        return self._take(asked["MessageBody"])

    def publish(self, **asked: str) -> dict[str, str]:
        assert asked["TopicArn"] == TOPIC
        return self._take(asked["Message"])

    def _take(self, body: str) -> dict[str, str]:
        if self.errors:
            raise self.errors.pop()
        self.sent.append(json.loads(body))
        return {"MessageId": "1"}


def failing(**changed: Any) -> Bench:
    bench = Bench(letters("ab"), **{"bisect": False, "max_retries": 1, **changed})
    bench.function.poison = {b"a"}
    return bench


def test_bucket_gets_metadata_and_the_whole_event() -> None:
    bench = failing()
    assert bench.trigger.drain() == Delivery(batches=1, retries=1, failed=2)
    ((key, kept),) = bench.s3.objects.items()
    assert key.startswith("aws/lambda/a-mapping/shardId-000000000000/2026/01/01/2026-01-01T00.00.")
    assert kept["KinesisBatchInfo"] == INFO
    records = json.loads(kept["payload"])["Records"]  # a string, not an object
    assert [b64decode(record["kinesis"]["data"]) for record in records] == letters("ab")


@pytest.mark.parametrize("arn", [QUEUE, TOPIC])
def test_queue_and_topic_get_metadata_only(arn: str) -> None:
    messages = FakeMessages()
    bench = failing(failure_destination=arn, messages=messages)
    assert bench.trigger.drain().failed == 2
    (sent,) = messages.sent
    assert set(sent) == {
        "requestContext",
        "responseContext",
        "version",
        "timestamp",
        "KinesisBatchInfo",
    }
    assert sent["KinesisBatchInfo"] == INFO
    assert bench.s3.objects == {}


def test_queue_takes_it_through_boto3() -> None:
    with mock_aws():
        sqs = boto3.client("sqs", region_name="us-east-1")
        url = sqs.create_queue(QueueName="failed")["QueueUrl"]
        failing(failure_destination=QUEUE, messages=sqs).trigger.drain()
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"])["KinesisBatchInfo"] == INFO


def test_topic_takes_it_through_boto3() -> None:
    with mock_aws():
        sns = boto3.client("sns", region_name="us-east-1")
        sqs = boto3.client("sqs", region_name="us-east-1")
        url = sqs.create_queue(QueueName="listens")["QueueUrl"]
        listens = "arn:aws:sqs:us-east-1:123456789012:listens"
        sns.create_topic(Name="failed")
        sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=listens)
        failing(failure_destination=TOPIC, messages=sns).trigger.drain()
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(json.loads(message["Body"])["Message"])["KinesisBatchInfo"] == INFO


def test_function_that_raised_is_told_from_one_that_reported_a_failure() -> None:
    raised = failing()
    raised.trigger.drain()
    (kept,) = raised.s3.objects.values()
    assert kept["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert kept["requestContext"]["approximateInvokeCount"] == 2
    assert kept["requestContext"]["functionArn"] == "arn:function"
    assert kept["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    reported = Bench(letters("ab"), max_retries=1)
    reported.function.reported = {b"a"}
    reported.trigger.drain()
    (kept,) = reported.s3.objects.values()
    assert kept["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}


def test_records_too_old_to_be_seen_have_no_response() -> None:
    bench = Bench(letters("ab"), max_record_age_seconds=60)
    trigger = bench.trigger
    bench.clock.sleep(61)
    trigger.drain()
    (kept,) = bench.s3.objects.values()
    assert kept["requestContext"]["condition"] == "RecordAgeExceeded"
    assert kept["requestContext"]["approximateInvokeCount"] == 0
    assert kept["timestamp"] == "2026-01-01T00:01:01.000Z"
    assert "responseContext" not in kept
    assert bench.function.batches == []


def test_without_a_destination_what_failed_is_dropped_and_counted() -> None:
    bench = failing(failure_destination=None)
    assert bench.trigger.drain().failed == 2
    assert bench.s3.objects == {}


def test_queue_that_refuses_is_tried_again_and_the_function_is_not() -> None:
    messages = FakeMessages()
    messages.errors = [refused("OverLimit")]
    bench = failing(failure_destination=QUEUE, messages=messages)
    with pytest.raises(StoreUnavailable, match=r"cannot be sent to arn:aws:sqs.*OverLimit"):
        bench.trigger.drain()
    bench.trigger.drain()
    assert len(messages.sent) == 1
    assert bench.delivered() == [b"ab", b"ab"]


def test_queue_without_a_client_is_refused_with_the_mend() -> None:
    with pytest.raises(NotEmulated, match=r"a-mapping: .*arn:aws:sqs.*client of sqs as `messages`"):
        _ = failing(failure_destination=QUEUE).trigger


def test_poison_record_of_a_large_batch_is_alone_in_the_failure_destination() -> None:
    bench = Bench([b"%03d" % number for number in range(500)], batch_size=500, max_retries=0)
    bench.function.poison = {b"123"}
    delivery = bench.trigger.drain()
    assert (delivery.records, delivery.failed) == (499, 1)
    assert bench.s3.kept() == [b"123"]
    assert NOW.timestamp() == bench.clock.now() / 1_000_000  # a split does not wait
