"""Redrive through local AWS: refused records and failed batches end as if nothing had failed."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from botocore.awsrequest import AWSResponse
from typer.testing import CliRunner

from headrace import bootstrap
from headrace.adapters.clock import SystemClock
from headrace.adapters.memory import MemoryKept, MemoryScores, MemoryStates
from headrace.cli import app
from headrace.cli.redrive import redrive
from headrace.events import Record, time_to_us
from headrace.loading import definition_hash, load_definition
from headrace.local.deploy import local_client
from headrace.local.runtime import function_environment
from headrace.local.session import Session, write_session
from headrace.local.stack import LocalAws
from headrace.local.stream_replay import Arrivals
from headrace.local.triggers import Delivery
from headrace.manifest import Manifest
from headrace.model import MANIFEST, content_version, load_bundle
from headrace.ports import Segment, StoredState
from headrace.scoring import Scorer, StreamScorer
from headrace.settings import read_settings
from headrace.state import StateCodec
from tests.fakes import without_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.scores import ScoreRecord

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
START = datetime(2026, 5, 4, 9, tzinfo=UTC)
LARGE = 250_000.0  # the definition as it is takes amounts up to 100,000


@pytest.fixture(scope="module")
def strict(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model, with events refused whose amount is out of bounds."""
    folder = tmp_path_factory.mktemp("strict") / "model"
    return changed(root / "layers" / "model", folder, ', if_invalid="missing"', "")


@pytest.fixture(scope="module")
def mended(strict: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a wider bound."""
    folder = tmp_path_factory.mktemp("mended") / "model"
    return changed(strict, folder, "at_most=100_000", "at_most=1_000_000")


def changed(model_dir: Path, folder: Path, old: str, new: str) -> Path:
    """A copy with another definition; the model itself is the same."""
    shutil.copytree(model_dir, folder)
    path = folder / "definition.py"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    manifest = msgspec.json.decode((folder / "bundle" / MANIFEST).read_bytes(), type=Manifest)
    found = definition_hash(load_definition(path))
    manifest = msgspec.structs.replace(
        manifest, definition_hash=found, model_version=content_version(manifest.files, found)
    )
    (folder / "bundle" / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture
def project(root: Path, strict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stream function raises as long as a file ``broken`` lies there.

    What fails is given up at once, so that no test waits for retries.
    """
    folder = tmp_path / "project"
    shutil.copytree(root / "functions", folder / "functions")
    (folder / "layers").mkdir()
    for name in ("headrace", "runtime"):
        (folder / "layers" / name).symlink_to(root / "layers" / name)
    (folder / "layers" / "model").symlink_to(strict)
    template = (root / "template.yaml").read_text(encoding="utf-8")
    assert "MaximumRetryAttempts: 10\n" in template
    (folder / "template.yaml").write_text(
        template.replace("MaximumRetryAttempts: 10\n", "MaximumRetryAttempts: 0\n"),
        encoding="utf-8",
    )
    handler = folder / "functions" / "score_stream" / "app.py"
    text = handler.read_text(encoding="utf-8")
    first = "    outcome = "
    assert text.count(first) == 1
    broken = f"    if __import__('os').path.exists({str(folder / 'broken')!r}):\n        1 / 0\n"
    handler.write_text(text.replace(first, broken + first), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


class Deployed:
    """Local AWS with the reference model, where records arrive when their events happen."""

    def __init__(self, project: Path, aws: LocalAws, arrivals: Arrivals) -> None:
        self.project, self.aws, self._arrivals = project, aws, arrivals
        self.records: list[Record] = []
        (self.bucket,) = aws.stack.buckets
        write_session(project, Session("", aws.endpoint_url, aws.stack.streams[0].name))

    def send(self, *events: dict[str, Any]) -> Delivery:
        """Put events on the stream and deliver them."""
        data = [json.dumps(event).encode() for event in events]
        sequences = self.aws.put([(each, "key") for each in data])
        times = [time_to_us(datetime.fromisoformat(event["event_time"])) for event in events]
        shard = "shardId-000000000000"
        sent = [
            Record(each, time, f"{shard}:{sequence}", sequence)
            for each, time, sequence in zip(data, times, sequences, strict=True)
        ]
        self._arrivals.note(sent)
        self.records += sent
        return self.aws.drain()

    def redrive(self, *options: object) -> dict[str, Any]:
        result = CliRunner().invoke(app, ["redrive", "--json", *map(str, options)])
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def keys(self, prefix: str = "") -> list[str]:
        answer = self.aws.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"] for each in answer.get("Contents", [])]

    def score(self, number: int) -> ScoreRecord | None:
        return bootstrap.score_store().get(str(number))

    def states(self) -> dict[str, bytes]:
        pages = [
            bootstrap.state_store().scan(entity, Segment(0, 1, 5_000), None)
            for entity in ("customer", "terminal")
        ]
        assert [page.cursor for page in pages] == [None, None]
        found = {item.key: item for page in pages for item in page.items}
        codec = StateCodec(load_definition(self.project / "layers" / "model" / "definition.py"))
        return without_order(
            codec, {key: StoredState(each.version, each.data) for key, each in found.items()}
        )


@pytest.fixture
def deployed(project: Path) -> Iterator[Deployed]:
    arrivals = Arrivals()
    with LocalAws.start(project / "template.yaml", arrival=arrivals, logs=io.StringIO()) as aws:
        yield Deployed(project, aws, arrivals)


def transaction(number: int, amount: float = 20.0, customer: int = 1) -> dict[str, Any]:
    """One a second."""
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": (START + number * SECOND).isoformat(),
        "customer_id": customer,
        "terminal_id": customer + 100,
        "amount": amount,
    }


def clean(model_dir: Path, records: list[Record]) -> tuple[dict[str, bytes], MemoryScores]:
    """States and scores where nothing ever fails."""
    states, scores = MemoryStates(), MemoryScores()
    scorer = Scorer(load_bundle(model_dir))
    StreamScorer(scorer, states, scores, MemoryKept(), SystemClock()).score(records)
    return without_order(scorer.codec, states.items), scores


def same_score(found: ScoreRecord | None, expected: ScoreRecord) -> bool:
    return (
        found is not None
        and msgspec.structs.replace(found, scored_at=expected.scored_at) == expected
    )


def test_poison_record_leaves_its_batch_and_is_scored_once_the_definition_is_mended(
    deployed: Deployed, mended: Path
) -> None:
    batch = [transaction(n, amount=n + 1.0, customer=n % 10) for n in range(500)]
    batch[257]["amount"] = LARGE

    delivered = deployed.send(*batch)
    after = deployed.send(transaction(500))

    assert delivered == Delivery(records=500, batches=1, retries=0, failed=0)
    assert after == Delivery(records=1, batches=1, retries=0, failed=0)
    assert [n for n in range(501) if deployed.score(n) is None] == [257]
    (key,) = deployed.keys()
    assert re.fullmatch(r"quarantine/out_of_bounds/2026-05-04/shardId-0+:\d+\.json", key)

    unmended = deployed.redrive()
    assert (unmended["refused"], unmended["scored"], deployed.keys()) == (1, 0, [key])
    plan = deployed.redrive("--dry-run", "--model-dir", mended)
    assert (plan["accepted"], plan["refused"], deployed.score(257)) == (1, 0, None)

    found = deployed.redrive("--model-dir", mended)

    assert (found["scored"], found["folded"], found["put_away"]) == (1, 1, 1)
    assert deployed.keys() == [f"redriven/{key}"]
    record = deployed.score(257)
    assert record is not None
    amounts = [n + 1.0 for n in range(7, 257, 10)] + [LARGE]
    assert record.features["customer_count_1d"] == len(amounts)
    assert record.features["customer_amount_mean_1d"] == pytest.approx(sum(amounts) / len(amounts))
    assert (record.late, record.features["amount"]) == (False, LARGE)
    states, scores = clean(mended, deployed.records)
    assert deployed.states() == states
    assert same_score(record, scores.records["257"])

    again = deployed.redrive("--model-dir", mended)
    assert (again["records"], deployed.states()) == (0, states)


def break_function(deployed: Deployed) -> Callable[[], None]:
    broken = deployed.project / "broken"
    broken.touch()
    return broken.unlink


class Body:
    """Of an answer that never went over the network."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b'{"__type": "AccessDeniedException", "message": "told to fail"}'


def take_states_away(_: Deployed) -> Callable[[], None]:
    """The function's state table answers nothing but that it may not be read."""
    events = bootstrap.state_store()._client.meta.events

    def denied(**_: Any) -> AWSResponse:
        return AWSResponse("http://dynamodb", 400, {}, Body())

    events.register("before-send.dynamodb.BatchGetItem", denied)
    return partial(events.unregister, "before-send.dynamodb.BatchGetItem", denied)


@pytest.mark.parametrize(
    ("fail", "objects"), [(break_function, 20), (take_states_away, 1)], ids=["raises", "down"]
)
def test_failed_batch_is_redriven_to_the_states_and_scores_of_a_run_without_failure(
    deployed: Deployed, fail: Callable[[Deployed], Callable[[], None]], objects: int
) -> None:
    deployed.send(*(transaction(n, n + 1.0, n % 3) for n in range(20)))
    mend = fail(deployed)
    failed = deployed.send(*(transaction(n, n + 1.0, n % 3) for n in range(20, 40)))
    mend()
    deployed.send(*(transaction(n, n + 1.0, 3 + n % 3) for n in range(40, 60)))  # others
    keys = deployed.keys("aws/lambda/")
    states, scores = clean(deployed.project / "layers" / "model", deployed.records)
    before = deployed.states()

    found = deployed.redrive("--reason", "failed_batch")

    assert failed.failed == 20
    assert len(keys) == objects
    assert before != states
    assert (found["objects"], found["scored"], found["late"]) == (objects, 20, 0)
    assert deployed.states() == states
    assert all(same_score(deployed.score(n), scores.records[str(n)]) for n in range(60))
    assert deployed.keys() == [f"redriven/{key}" for key in keys]


def test_redrive_shows_a_table_and_names_what_is_still_refused(deployed: Deployed) -> None:
    deployed.send(transaction(1, LARGE), transaction(2), transaction(3) | {"customer_id": None})

    result = CliRunner().invoke(app, ["redrive", "--dry-run"], env={"COLUMNS": "120"})

    assert result.exit_code == 0, result.stderr
    assert re.search(r"out_of_bounds +. 2026-05-04 +. +1 .+0 .+0 .+1", result.stdout)
    assert re.search(r"missing +. 2026-05-04 +. +1 .+0 .+0 .+1", result.stdout)
    assert "refused (out_of_bounds): event 1: amount is 250000.0" in result.stdout


def test_stack_on_aws_is_found_by_its_outputs(deployed: Deployed, mended: Path) -> None:
    deployed.send(transaction(1, LARGE))
    settings = read_settings(function_environment(deployed.aws.stack.functions))
    outputs = {
        "StateTableName": settings.state_table,
        "FeatureTableName": settings.feature_table,
        "ScoreTableName": settings.score_table,
        "QuarantineBucketName": settings.quarantine_bucket,
        "StreamName": settings.stream,
    }
    template = {
        "Parameters": {"ScoreRetentionDays": {"Type": "Number", "Default": 7}},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    cloudformation = local_client("cloudformation", deployed.aws.endpoint_url)
    cloudformation.create_stack(StackName="live", TemplateBody=json.dumps(template))
    cloudformation.create_stack(
        StackName="other", TemplateBody=json.dumps({"Resources": template["Resources"]})
    )

    found = deployed.redrive("--stack", "live", "--model-dir", mended)
    none = CliRunner().invoke(app, ["redrive", "--stack", "nonesuch"])
    other = CliRunner().invoke(app, ["redrive", "--stack", "other"])

    assert found["scored"] == 1
    item = deployed.aws.client("dynamodb").get_item(
        TableName=settings.score_table, Key={"id": {"S": "event#1"}}
    )["Item"]
    kept_for = int(item["expires"]["N"]) - datetime.now(UTC).timestamp()
    assert timedelta(days=6).total_seconds() < kept_for < timedelta(days=8).total_seconds()
    assert (none.exit_code, other.exit_code) == (1, 1)
    assert "stack 'nonesuch' cannot be described" in none.stderr
    assert "StateTableName" in other.stderr


ACTIONS = {
    "ListObjectsV2": {"s3:ListBucket"},
    "GetObject": {"s3:GetObject"},
    "PutObject": {"s3:PutObject"},
    "CopyObject": {"s3:GetObject", "s3:PutObject"},
    "DeleteObject": {"s3:DeleteObject"},
    "BatchGetItem": {"dynamodb:BatchGetItem"},
    "GetItem": {"dynamodb:GetItem"},
    "PutItem": {"dynamodb:PutItem"},
}


def test_actions_that_it_needs_are_those_that_are_documented(
    deployed: Deployed, mended: Path, root: Path
) -> None:
    deployed.send(transaction(1, LARGE), transaction(2, LARGE), transaction(3, 1e9))
    mend = break_function(deployed)
    deployed.send(transaction(4), transaction(5, 1e9))
    mend()
    called: set[str] = set()

    def note(event_name: str, **_: Any) -> None:
        called.add(event_name.rpartition(".")[2])

    def recording(service: str) -> Any:
        client = local_client(service, deployed.aws.endpoint_url)
        client.meta.events.register("before-send", note)
        return client

    settings = read_settings(function_environment(deployed.aws.stack.functions))
    redriver = bootstrap.redriver(replace(settings, model_dir=mended), recording)
    redriver.plan()
    planned = set(called)
    assert redriver.redrive().scored == 3

    def actions(operations: set[str]) -> set[str]:
        return {action for each in operations for action in ACTIONS[each]}

    assert actions(planned) == {"s3:ListBucket", "s3:GetObject", "dynamodb:GetItem"}
    readme = (root / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## What was refused")[2].partition("\n## ")[0]
    for text in (section, redrive.__doc__ or ""):
        documented = set(re.findall(r"\b(?:s3|dynamodb|cloudformation):\w+", text))
        assert documented == actions(called) | {"cloudformation:DescribeStacks"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "options",
    [
        ["--reason", "nonsense"],
        ["--as-of", "tomorrow"],
        ["--limit", "0"],
        ["--stack", "live", "--endpoint", "http://127.0.0.1:1"],
    ],
)
def test_wrong_usage_of_redrive_exits_with_2(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["redrive", *options]).exit_code == 2


@pytest.mark.usefixtures("project")
def test_redrive_without_a_running_stack_says_what_to_start() -> None:
    result = CliRunner().invoke(app, ["redrive"])

    assert result.exit_code == 1
    assert "headrace up" in result.stderr


def test_redrive_that_is_stopped_says_so_and_exits_with_1(deployed: Deployed, mended: Path) -> None:
    deployed.send(transaction(1, LARGE))
    table = read_settings(function_environment(deployed.aws.stack.functions)).score_table
    deployed.aws.client("dynamodb").delete_table(TableName=table)

    result = CliRunner().invoke(app, ["redrive", "--json", "--model-dir", str(mended)])

    assert result.exit_code == 1
    assert (
        "scores cannot be read: ResourceNotFoundException" in json.loads(result.stdout)["stopped"]
    )
    assert "run it again" in result.stderr
    assert len(deployed.keys("quarantine/")) == 1
