"""Clients of an engine, and the empty tables and streams that tests start from."""

from __future__ import annotations

import time
from typing import Any

import boto3
from botocore.config import Config

STATES, SCORES = "states", "scores"
_READY_SECONDS = 30.0


def aws_client(service: str, endpoint: str, **config: Any) -> Any:
    """A client of one AWS service at an engine's endpoint, with botocore's own configuration."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(**config),
    )


def empty_table(client: Any, name: str, key: str) -> str:
    """An empty table of this name, with capacity on demand as the template has it."""
    if name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


def empty_stores(client: Any) -> None:
    """Empty tables for states and scores, as the template keys them."""
    empty_table(client, STATES, "entity")
    empty_table(client, SCORES, "id")


def await_active(kinesis: Any, stream: str) -> None:
    """Wait until a stream has settled after it was made, split or merged."""
    deadline = time.monotonic() + _READY_SECONDS
    while _status(kinesis, stream) != "ACTIVE":
        if time.monotonic() > deadline:
            msg = f"stream {stream}: not active after {_READY_SECONDS:.0f} s"
            raise TimeoutError(msg)
        time.sleep(0.01)


def _status(kinesis: Any, stream: str) -> str:
    told = kinesis.describe_stream_summary(StreamName=stream)
    return str(told["StreamDescriptionSummary"]["StreamStatus"])
