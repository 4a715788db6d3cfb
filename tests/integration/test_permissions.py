"""What the functions call while they do all that they can, held against what their roles grant."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import polars as pl
import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace.local.intrinsics import Resolver
from headrace.local.moto_server import serve_moto
from headrace.local.stack import LocalAws
from tests.integration.conftest import WITH_TABLE, changed_model
from tests.wiretap import FUNCTION_KEY, LAMBDA, Call, Wiretap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
LONG_SINCE = NOW - timedelta(days=3)  # no longer fresh, so that look-ups end at the batch score
LAKE = "lake"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PARAMETERS = {"TableBucket": LAKE, "KeyArn": KEY, "Tracing": "on"}
FUNCTIONS = ("ScoreStream", "ScoreRequest", "ScoreBatch", "LoadBatch")

LAMBDAS_OWN: Mapping[str, str] = {
    "kinesis:DescribeStream": "the event source mapping reads the stream as the function",
    "kinesis:DescribeStreamSummary": "the same",
    "kinesis:GetRecords": "the same",
    "kinesis:GetShardIterator": "the same",
    "kinesis:ListShards": "the same",
    "logs:CreateLogStream": "Lambda writes what the function prints",
    "logs:PutLogEvents": "the same",
    "xray:PutTelemetryRecords": "Lambda sends traces, with Tracing on",
    "xray:PutTraceSegments": "the same",
}
"""What Lambda does in the name of a function, and why no call of the function shows it."""

FAILURES_GO = "arn:aws:s3:::headrace-local-quarantinebucket"
NOBODY_WAITS_FOR = ("ScoreStream", "ScoreBatch", "LoadBatch")
"""Functions whose failed invocations Lambda puts into the bucket, in their names."""
AMOUNT_REQUIRED = (
    (
        '        "amount": FirstOf([RunningMean(customer, days(30)), TrainingMedian()]),\n',
        '        "amount": Required(),\n',
    ),
    ("    RunningMean,\n", "    Required,\n    RunningMean,\n"),
)

KEY_USES: Mapping[str, tuple[str, ...]] = {
    "kms:Decrypt": ("dynamodb:", "kinesis:GetRecords", "s3:GetObject"),
    "kms:GenerateDataKey": ("kinesis:PutRecord", "s3:PutObject"),
}
"""Action on a key -> what needs it: AWS's services call KMS in the name of who calls them.

Source: developer guides, "DynamoDB encryption at rest: usage notes", "Permissions to use
user-generated KMS keys" (Kinesis), "Using server-side encryption with AWS KMS keys" (S3).
"""


class Grant(NamedTuple):
    """One action on one resource pattern that a function's role allows."""

    function: str
    action: str
    arn: str

    def covers(self, call: Call) -> bool:
        """Whether a call is allowed by it. The stream behind an iterator is not on the wire."""
        arns = (call.arn, self.arn)
        same = fnmatchcase(*arns) or (
            call.action == "kinesis:GetRecords" and fnmatchcase(*arns[::-1])
        )
        return (self.function, self.action) == (call.caller, call.action) and same


@pytest.fixture(scope="module")
def heard(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wiretap]:
    """All that the functions can be made to do, heard once."""
    changes = (*WITH_TABLE, *AMOUNT_REQUIRED)
    model_dir = changed_model(root, tmp_path_factory.mktemp("model"), changes)
    tap = Wiretap()
    with pytest.MonkeyPatch.context() as patch, serve_moto(around=tap.around) as url:
        patch.setenv("AWS_ACCESS_KEY_ID", FUNCTION_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", FUNCTION_KEY)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers whose credentials it had
        template = root / "template.yaml"
        with LocalAws.start(
            template,
            endpoint=url,
            model_dir=model_dir,
            parameters=PARAMETERS,
            arrival=lambda _: LONG_SINCE.timestamp(),
            logs=io.StringIO(),
        ) as aws:
            play(aws, tap)
            yield tap


def transaction(number: int, **changes: Any) -> dict[str, Any]:
    fields = {"customer_id": number % 3, "terminal_id": 1, "amount": 10.0}
    at = {"event_time": LONG_SINCE.isoformat()}
    return {"source": "transactions", "transaction_id": number, **at, **fields, **changes}


def play(aws: LocalAws, tap: Wiretap) -> None:
    """Everything that a function does to AWS, at least once."""
    lake = aws.client("s3")
    lake.create_bucket(Bucket=LAKE)
    rows = io.BytesIO()
    pl.DataFrame({"customer_id": [0, 1], "limit": [1.0, 2.0]}).write_parquet(rows)
    lake.put_object(Bucket=LAKE, Key="tables/profile/day1.parquet", Body=rows.getvalue())
    with tap.on("LoadBatch"):
        aws.run_schedule(NOW, "LoadBatchFunction")

    events = [json.dumps(transaction(number)).encode() for number in range(6)]
    lacking = json.dumps(transaction(6, amount=None)).encode()  # goes down the ladder
    for batch in ([*events, lacking, b"no event"], events[:2]):  # the second time they are repeated
        aws.put((data, "0") for data in batch)
        with tap.on("ScoreStream"):
            aws.drain()
    with tap.on("ScoreBatch"):
        aws.run_schedule(NOW, "ScoreBatchFunction")

    ask = aws.api.request
    with tap.on("ScoreRequest"):
        now = transaction(100, event_time=NOW.isoformat())
        assert ask("POST", "/scores?record=true", now).json()["recorded"]
        assert ask("POST", "/scores/batch", {"events": [now]}).status == 200
        assert ask("GET", "/scores/1").status == 200
        assert ask("GET", "/entities/customer/1/score").json()["rung"] == "batch"
        assert ask("GET", "/health").status == 200

    # A batch that fails for good, put where Lambda puts it.
    aws.put([(json.dumps(transaction(200)).encode(), "0")])
    (stream,) = aws.stack.mappings
    table = next(each.name for each in aws.stack.tables if each.name.endswith("StateTable"))
    aws.client("dynamodb").delete_table(TableName=table)
    with tap.on("ScoreStream"):
        assert aws.drain().failed == 1
    assert stream.failure_bucket == FAILURES_GO.removeprefix("arn:aws:s3:::")


@pytest.fixture(scope="module")
def granted(root: Path) -> set[Grant]:
    """What the roles of the functions allow, with names as local mode gives them."""
    template = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))
    resolver = Resolver(template, PARAMETERS, "headrace-local")
    return {
        Grant(function, action, arn)
        for function in FUNCTIONS
        for policy in template["Resources"][f"{function}Role"]["Properties"]["Policies"]
        for statement in resolver.resolve(policy)["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        for arn in as_list(statement["Resource"])
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def needed(heard: Wiretap) -> set[Call]:
    """What was heard, by whose role it must be allowed, and what follows from it.

    Local mode plays failure destinations for the stream only; Lambda's manual asks of all of them
    that the bucket may be listed and written under ``aws/lambda/``.
    """
    calls = {
        call._replace(caller="ScoreStream") if call.caller == LAMBDA else call
        for call in heard.calls
    }
    for function in NOBODY_WAITS_FOR:
        calls.add(Call(function, "s3:ListBucket", FAILURES_GO))
        calls.add(Call(function, "s3:PutObject", f"{FAILURES_GO}/aws/lambda/failed"))
    return calls | {
        Call(call.caller, action, KEY)
        for call in calls
        for action, needs in KEY_USES.items()
        if call.action.startswith(needs) and LAKE not in call.arn
    }


def test_all_functions_and_lambda_itself_were_heard(heard: Wiretap) -> None:
    assert {call.caller for call in heard.calls} == {*FUNCTIONS, LAMBDA}
    failed = {call for call in heard.calls if "/aws/lambda/" in call.arn}
    assert {(call.caller, call.action) for call in failed} == {(LAMBDA, "s3:PutObject")}


def test_nothing_is_called_that_is_not_granted(heard: Wiretap, granted: set[Grant]) -> None:
    refused = {call for call in needed(heard) if not any(g.covers(call) for g in granted)}
    assert refused == set()


def test_nothing_is_granted_that_is_not_called(heard: Wiretap, granted: set[Grant]) -> None:
    calls = needed(heard)
    unused = {grant for grant in granted if not any(grant.covers(call) for call in calls)}
    assert {grant for grant in unused if grant.action not in LAMBDAS_OWN} == set()
    assert LAMBDAS_OWN.keys() <= {grant.action for grant in granted}


def test_only_traces_are_granted_on_everything(granted: set[Grant]) -> None:
    everything = {grant.action for grant in granted if grant.arn == "*"}
    assert everything == {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    assert [grant for grant in granted if "*" in grant.action] == []
