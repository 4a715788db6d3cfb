"""Personal data wherever a function may meet it, on local AWS; run by test_canary.py.

A process of its own, so that all it writes can be looked through: functions' logs, metrics and
tracebacks on standard output, and whatever a library may say on standard error.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.local.runtime import FunctionFailed
from headrace.local.stack import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary"
"""Part of every planted text."""
AMOUNT = 43215.67
"""Every planted number."""
NOW = datetime.now(UTC).replace(microsecond=0)
LAKE = "lake"
PARAMETERS = {"LogLevel": "DEBUG", "TableBucket": LAKE}


def person(**changes: Any) -> dict[str, Any]:
    """An event full of personal data."""
    event = {
        "source": "transactions",
        "transaction_id": f"{CANARY}-id",
        "event_time": NOW.isoformat(),
        "customer_id": f"{CANARY}-customer",
        "terminal_id": f"{CANARY}-terminal",
        "amount": AMOUNT,
        f"{CANARY}_field": f"{CANARY}-value",  # the definition knows no such field
    }
    return event | changes


def records() -> Iterator[bytes]:
    """Good, bad and repeated records."""
    yield from (json.dumps(person(transaction_id=f"{CANARY}-{n}")).encode() for n in range(60))
    yield json.dumps(person()).encode()
    yield json.dumps(person()).encode()
    bad = (
        {"event_time": f"{CANARY}-time"},
        {"event_time": "2001-01-01T00:00:00Z"},
        {"amount": f"{CANARY}-amount"},
        {"amount": AMOUNT * 1e9},
        {"source": f"{CANARY}-source"},
        {"customer_id": {CANARY: CANARY}},
        {"transaction_id": [CANARY]},
    )
    yield from (json.dumps(person(**changes)).encode() for changes in bad)
    yield f"{CANARY}: no JSON".encode()
    yield CANARY.encode("utf-16")
    yield json.dumps([CANARY, AMOUNT]).encode()


def ask(aws: LocalAws) -> Iterator[int]:
    """Every route with personal data in body, path and query; the status of each answer."""
    api = aws.api
    for body in records():
        yield api.request("POST", "/scores", body).status
    yield api.request("POST", f"/scores?record={CANARY}", person()).status
    yield api.request("POST", f"/scores?record=true&{CANARY}={CANARY}", person()).status
    events = [person(), person(amount=CANARY), CANARY, None]
    yield api.request("POST", "/scores/batch", {"events": events}).status
    yield api.request("POST", "/scores/batch", {CANARY: CANARY}).status
    for path in (
        f"/scores/{CANARY}-id",
        f"/scores/{CANARY}-nowhere",
        f"/entities/customer/{CANARY}-customer/score",
        f"/entities/{CANARY}/{CANARY}/score",
        f"/{CANARY}",
    ):
        yield api.request("GET", path).status


def run(aws: LocalAws) -> None:
    """Everything with personal data: well, then with a state altered, then with no states."""
    _load(aws)
    aws.put((data, f"{CANARY}-key") for data in records())
    aws.drain()
    statuses = set(ask(aws))
    assert statuses >= {200, 400, 404, 422}, statuses
    _run_batch(aws)

    states = next(t.name for t in aws.stack.tables if t.name.endswith("StateTable"))
    dynamodb = aws.client("dynamodb")
    dynamodb.put_item(
        TableName=states,
        Item={
            "entity": {"S": f"customer#{CANARY}-customer"},
            "version": {"N": "7"},
            "state": {"B": CANARY.encode()},
            "expires": {"N": str(int(NOW.timestamp()) + 86_400)},
        },
    )
    _fail(aws)
    _run_batch(aws)
    dynamodb.delete_table(TableName=states)
    _fail(aws)
    _run_batch(aws)


def _load(aws: LocalAws) -> None:
    aws.client("s3").create_bucket(Bucket=LAKE)
    for rows in (
        {"customer_id": [f"{CANARY}-customer"] * 2, "limit": [AMOUNT, AMOUNT]},
        {"customer_id": [f"{CANARY}-customer"], "limit": [-AMOUNT]},
        {"customer_id": [f"{CANARY}-customer"], f"{CANARY}": [AMOUNT]},
        {"customer_id": [f"{CANARY}-customer"], "limit": [AMOUNT]},
    ):
        body = io.BytesIO()
        pl.DataFrame(rows).write_parquet(body)
        key = "tables/profile/rows.parquet"
        aws.client("s3").put_object(Bucket=LAKE, Key=key, Body=body.getvalue())
        with suppress(FunctionFailed):
            aws.run_schedule(datetime.now(UTC), "LoadBatchFunction")


def _fail(aws: LocalAws) -> None:
    """Invoked by hand: the trigger would deliver what fails ten times more."""
    kinesis = {
        "data": b64encode(json.dumps(person(transaction_id=f"{CANARY}-late")).encode()).decode(),
        "approximateArrivalTimestamp": NOW.timestamp(),
        "partitionKey": CANARY,
        "sequenceNumber": "17",
    }
    event = {"Records": [{"kinesis": kinesis, "eventID": "shardId-000000000000:17"}]}
    answer = aws.runtime.invoke("ScoreStreamFunction", event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "17"}]}
    assert 200 in set(ask(aws))


def _run_batch(aws: LocalAws) -> None:
    with suppress(FunctionFailed):
        aws.run_schedule(datetime.now(UTC), "ScoreBatchFunction")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # as Lambda's own runtime does
    project, model_dir = map(Path, sys.argv[1:])
    with LocalAws.start(
        project / "template.yaml", model_dir=model_dir, parameters=PARAMETERS, logs=sys.stdout
    ) as running:
        run(running)
