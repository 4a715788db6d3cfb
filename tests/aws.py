"""Clients of an engine, the empty tables and streams that tests start from, and what they hold."""

from __future__ import annotations

import time
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from headrace.scores import EVENT_PREFIX, ScoreRecord

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


def dynamodb_client(endpoint: str) -> Any:
    """A client as the functions have it, of an engine: bounded waits, botocore's own retries."""
    return aws_client(
        "dynamodb",
        endpoint,
        connect_timeout=2,
        read_timeout=30,  # a loaded machine is no fault
        retries={"total_max_attempts": 4, "mode": "standard"},
        max_pool_connections=8,
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


def stored_scores(client: Any, table: str = SCORES) -> dict[str, ScoreRecord]:
    """Every event's score, by id."""
    pages = client.get_paginator("scan").paginate(TableName=table)
    records = [
        msgspec.json.decode(item["record"]["S"], type=ScoreRecord)
        for page in pages
        for item in page["Items"]
        if item["id"]["S"].startswith(EVENT_PREFIX)
    ]
    return {record.id: record for record in records}
