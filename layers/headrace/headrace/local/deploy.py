"""Creates the data plane of a stack (streams, tables, buckets) at a local endpoint.

Deploying to AWS is sam's work: this refuses to.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from localstack_client.config import get_service_endpoint

from headrace.errors import Unavailable
from headrace.local import NotEmulated
from headrace.local.faults import spared
from headrace.local.intrinsics import REGION

if TYPE_CHECKING:
    from headrace.local.resources import Stack, Stream, Table

ACCESS_KEY = "local"
SECRET_KEY = "local"

_BOUNDED = Config(
    connect_timeout=2,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 4},
    s3={"addressing_style": "path"},
)


@cache
def _session() -> boto3.Session:
    """Not the functions' own: what is done to theirs stays there."""
    return boto3.Session(botocore_session=spared(BotocoreSession()))


def local_client(service: str, endpoint: str) -> Any:
    """A boto3 client for a local endpoint, with bounded waits and retries.

    Raises:
        NotEmulated: The endpoint is AWS itself.
    """
    host = urlsplit(endpoint).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
        msg = f"endpoint {endpoint!r}: that is AWS; expected a local endpoint (deploy with sam)"
        raise NotEmulated(msg)
    return _session().client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=_BOUNDED,
    )


def deploy(stack: Stack, endpoint: str) -> None:
    """Create what is missing of the stack's streams, tables and buckets, and wait until it is up.

    What exists is left as it is, so that a second call changes nothing.
    """
    kinesis = local_client("kinesis", endpoint)
    dynamodb = local_client("dynamodb", endpoint)
    s3 = local_client("s3", endpoint)
    for stream in stack.streams:
        _create_stream(kinesis, stream)
    for table in stack.tables:
        _create_table(dynamodb, table)
    for bucket in stack.buckets:
        _create_bucket(s3, bucket)


def _create_stream(kinesis: Any, stream: Stream) -> None:
    try:
        kinesis.create_stream(StreamName=stream.name, ShardCount=stream.shard_count)
    except kinesis.exceptions.ResourceInUseException:
        return
    kinesis.get_waiter("stream_exists").wait(
        StreamName=stream.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    if stream.retention_hours > _LEAST_RETENTION_HOURS:
        kinesis.increase_stream_retention_period(
            StreamName=stream.name, RetentionPeriodHours=stream.retention_hours
        )


_LEAST_RETENTION_HOURS = 24


def _create_table(dynamodb: Any, table: Table) -> None:
    try:
        dynamodb.create_table(
            TableName=table.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in table.attribute_types.items()
            ],
            KeySchema=[
                {"AttributeName": name, "KeyType": role} for name, role in table.key_roles.items()
            ],
        )
    except dynamodb.exceptions.ResourceInUseException:
        return
    dynamodb.get_waiter("table_exists").wait(
        TableName=table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    if table.ttl_attribute:
        dynamodb.update_time_to_live(
            TableName=table.name,
            TimeToLiveSpecification={"AttributeName": table.ttl_attribute, "Enabled": True},
        )


def _create_bucket(s3: Any, bucket: str) -> None:
    # In us-east-1 creating a bucket that one owns already succeeds, so there is nothing to catch.
    s3.create_bucket(Bucket=bucket)


def endpoint_url(endpoint: str) -> str:
    """URL of an endpoint that may be called ``localstack``.

    Raises:
        Unavailable: Nothing says where localstack is.
    """
    if endpoint != "localstack":
        return endpoint
    url = get_service_endpoint("kinesis")
    if not url:
        msg = "localstack-client knows no endpoint for kinesis; give --endpoint a URL"
        raise Unavailable(msg)
    return str(url)
