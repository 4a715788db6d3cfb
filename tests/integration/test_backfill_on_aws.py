"""The state machine of a backfill, run by moto's Step Functions around the function over S3.

Moto tolerates any failure of a map's items; that steps themselves refuse to go on is tried here.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from headrace.cli import app as cli
from headrace.errors import HeadraceError, Misconfigured, StoreUnavailable
from headrace.local.deploy import local_client
from headrace.local.moto_server import serve_moto
from headrace.local.runtime import FunctionFailed
from headrace.offline.backfill import Knowledge, backfill
from headrace.offline.feed import feed_of
from headrace.offline.simulator import Plan, simulate
from layers.model.definition import definition
from tests import state_machines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.offline.simulator import Traffic
    from tests.state_machines import Lambda

LAKE, FUNCTION = "lake", "backfill"
PARTITIONS = 2
STACK = "history"
ITEMS = 3 * PARTITIONS  # of customers, of terminals, and of ids that come again


class Aws:
    """S3 with a history, Step Functions with the state machine, and the function.

    Attributes:
        endpoint: Of moto.
        function: What the state machine invokes.
        handler: The function's own.
    """

    def __init__(self, endpoint: str, function: Lambda, handler: Any) -> None:
        self.endpoint, self.function, self.handler = endpoint, function, handler

    def client(self, service: str) -> Any:
        return local_client(service, self.endpoint)

    def put(self, folder: str, frames: list[pl.DataFrame]) -> None:
        for number, frame in enumerate(frames):
            data = io.BytesIO()
            frame.write_parquet(data)
            key = f"{folder}/day={number // 2}/{number}.parquet"
            self.client("s3").put_object(Bucket=LAKE, Key=key, Body=data.getvalue())

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket=LAKE, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]

    def read(self, folder: str) -> pl.DataFrame:
        parts = [key for key in self.keys(f"{folder}/") if key.endswith(".parquet")]
        s3 = self.client("s3")
        return pl.concat(
            [pl.read_parquet(s3.get_object(Bucket=LAKE, Key=key)["Body"].read()) for key in parts]
        )


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """Some thousand events; every fiftieth comes again, in another file, and every tenth late."""
    found = simulate(Plan(customers=50, terminals=60, days=40))
    number = pl.int_range(pl.len())
    late = pl.when(number % 10 == 3).then(pl.duration(hours=number % 30)).otherwise(None)
    events = found.events.with_columns(
        arrival_time=pl.col("event_time") + late.fill_null(pl.duration(seconds=0))
    )
    again = events[::50].with_columns(pl.col("arrival_time") + pl.duration(minutes=5))
    return replace(found, events=pl.concat([events, again]))


@pytest.fixture
def aws(root: Path, monkeypatch: pytest.MonkeyPatch, traffic: Traffic) -> Iterator[Aws]:
    monkeypatch.setenv("HEADRACE_MODEL_DIR", str(root / "layers" / "model"))
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "history")
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"),
                        ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    spec = importlib.util.spec_from_file_location(
        "backfill", root / "infra" / "backfill" / "app.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "backfill", module)
    spec.loader.exec_module(module)
    context = SimpleNamespace(
        function_name="f", memory_limit_in_mb=3008, invoked_function_arn="a", aws_request_id="r"
    )

    def run(event: dict[str, Any]) -> Any:
        try:
            return module.lambda_handler(event, context)
        except HeadraceError as error:
            raise FunctionFailed(FUNCTION, type(error).__name__, str(error)) from error

    with serve_moto() as endpoint, state_machines.played(run, monkeypatch) as function:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        found = Aws(endpoint, function, run)
        found.client("s3").create_bucket(Bucket=LAKE)
        events = traffic.events
        found.put("events", [part for part in events.iter_slices(1 + len(events) // 4)])
        found.put("labels", [part for part in traffic.labels.iter_slices(1_000)])
        _deploy(found, root)
        yield found


def _deploy(aws: Aws, root: Path) -> None:
    text = (root / "infra" / "backfill.asl.json").read_text(encoding="utf-8")
    machine = aws.client("stepfunctions").create_state_machine(
        name="history-backfill",
        definition=state_machines.playable(text, "BackfillFunctionArn"),
        roleArn=state_machines.ROLE,
    )
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "of-the-stack"}}
    output = {"BackfillStateMachineArn": {"Value": machine["stateMachineArn"]}}
    template = {"Resources": {"Bucket": bucket}, "Outputs": output}
    aws.client("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(template))


def ordered(*options: str) -> Any:
    places = ["--events", "s3://lake/events", "--labels", "s3://lake/labels"]
    command = ["backfill", "--on", "aws", "--stack", STACK, *places, "--out", "s3://lake/out/f"]
    small = ["--partitions", str(PARTITIONS), "--rows-at-once", "400", "--concurrency", "2"]
    return CliRunner().invoke(cli, [*command, *small, "--json", *options])


def expected(traffic: Traffic, knowledge: Knowledge) -> Any:
    sources = (definition.scored, definition.label.source)
    frames = (traffic.events, traffic.labels)
    return backfill(
        definition, [feed_of(f, s) for f, s in zip(frames, sources, strict=True)], knowledge
    )


@pytest.mark.parametrize("knowledge", Knowledge)
def test_history_in_s3_has_the_features_of_one_machine_to_the_last_bit(
    aws: Aws, traffic: Traffic, knowledge: Knowledge
) -> None:
    result = ordered(f"--{knowledge}")
    assert result.exit_code == 0, result.stderr
    report, whole = json.loads(result.stdout), expected(traffic, knowledge)

    assert_frame_equal(aws.read("out/f"), whole.features, check_exact=True)
    assert (report["events"], report["refused"]) == (len(whole.features), whole.refused)
    assert report["folded"] == whole.folded
    assert report["folded_entities"] == whole.reasons
    assert report["late"] == whole.features["late"].sum()
    steps = Counter(event["step"] for event in aws.function.events)
    assert steps == {"plan": 1, "compute": ITEMS, "join": 4, "close": 1}
    assert [key for key in aws.keys("out/") if "_work" in key] == []


def test_every_step_that_is_done_twice_does_no_harm(aws: Aws, traffic: Traffic) -> None:
    """As after an answer that was lost: the step was done, and its invocation failed."""
    seen: set[str] = set()

    def lose(event: dict[str, Any]) -> None:
        first = event.get("file", event.get("item", {}).get("partition", 0)) == 0
        if first and (text := json.dumps(event)) not in seen:
            seen.add(text)
            aws.handler(event)
            raise FunctionFailed(FUNCTION, StoreUnavailable.__name__, "the answer was lost")

    aws.function.before = lose
    result = ordered()
    assert result.exit_code == 0, result.stderr
    whole = expected(traffic, Knowledge.AS_KNOWN)
    assert_frame_equal(aws.read("out/f"), whole.features, check_exact=True)
    assert json.loads(result.stdout)["events"] == len(whole.features)
    lost = {"plan", "close", "join", *definition.scored.entities, "ids"}
    assert len(aws.function.events) == ITEMS + 6 + len(lost)


def test_run_that_lacks_an_item_fails_and_says_how_it_goes_on(aws: Aws) -> None:
    def refuse(event: dict[str, Any]) -> None:
        if event.get("item") == {"partition": 1, "entity": "terminal"}:
            raise FunctionFailed(FUNCTION, Misconfigured.__name__, "told to fail")

    aws.function.before = refuse
    result = ordered()
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "FAILED: " in said
    assert "aws stepfunctions redrive-execution --execution-arn arn:aws:states" in said
    assert aws.keys("out/f/part") == []


def test_history_that_changes_amid_a_run_is_not_mixed(aws: Aws, traffic: Traffic) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["step"] == "join":
            aws.put("events", [traffic.events.head(10)])

    aws.function.before = change
    result = ordered()
    assert result.exit_code == 1
    assert "3 of 4 are done" in " ".join(result.stderr.split())
    assert aws.keys("out/f/part-00000") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "aws"], "--on aws needs --stack"),
        (["--on", "aws", "--stack", STACK, "--differences"], "--differences: not with --on aws"),
        (["--on", "aws", "--stack", STACK, "--table", "a=b"], "--table: not with --on aws"),
        ([], "that is for --on aws"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], said: str) -> None:
    command = ["backfill", "--events", "s3://lake/e", "--out", "s3://lake/o", *options]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
