"""`headrace seed-state` on local AWS, and the stream that goes on from what it wrote."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace import bootstrap
from headrace.adapters.clock import SystemClock
from headrace.cli import app
from headrace.cli.seed_state import seed_state
from headrace.events import time_to_us, us_to_text
from headrace.local.deploy import local_client
from headrace.local.runtime import function_environment
from headrace.local.session import Session, write_session
from headrace.local.stack import LocalAws
from headrace.local.stream_replay import Arrivals
from headrace.model import load_bundle
from headrace.offline.feed import arrivals, feed_of, partition_keys, records
from headrace.offline.replay import Window, replay
from headrace.offline.seed_parts import (
    History,
    fold_part,
    folder_of,
    name_of,
    newest_arrival,
    parts_of,
)
from headrace.offline.simulator import Plan, Traffic, simulate
from headrace.ports import StoredState
from headrace.scoring import Scorer
from headrace.seeding import Seeder, SeedRun
from headrace.settings import read_settings
from tests.fakes import without_order

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

DAYS = 12
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=DAYS)
HAND_OVER = time_to_us(START + timedelta(days=DAYS - 1, hours=10))
HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return simulate(Plan(customers=25, terminals=40, days=DAYS, start=START, events_per_day=4))


@pytest.fixture
def files(traffic: Traffic, tmp_path: Path) -> list[str]:
    """Options that name the history, its events as a folder of files."""
    lake = tmp_path / "events"
    lake.mkdir()
    for number, part in enumerate(traffic.events.iter_slices(200)):
        part.write_parquet(lake / f"{number}.parquet")
    traffic.labels.write_parquet(tmp_path / "labels.parquet")
    return ["--events", str(lake), "--labels", str(tmp_path / "labels.parquet")]


@pytest.fixture
def known() -> Arrivals:
    return Arrivals()


@pytest.fixture
def aws(
    root: Path, tmp_path: Path, known: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalAws]:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(root / "template.yaml", project)
    for name in ("functions", "layers", "infra"):
        (project / name).symlink_to(root / name)
    monkeypatch.chdir(project)
    with LocalAws.start(project / "template.yaml", arrival=known, logs=io.StringIO()) as running:
        write_session(project, Session("", running.endpoint_url, running.stack.streams[0].name))
        yield running


def run(*options: str) -> Any:
    return CliRunner().invoke(app, ["seed-state", "--json", "--processes", "1", *options])


def stored(aws: LocalAws) -> dict[str, StoredState]:
    table = read_settings(function_environment(aws.stack.functions)).state_table
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    return {
        item["entity"]["S"]: StoredState(int(item["version"]["N"]), bytes(item["state"]["B"]))
        for page in pages
        for item in page["Items"]
    }


def test_stream_goes_on_from_seeded_states_as_if_it_had_folded_the_history(
    root: Path, aws: LocalAws, traffic: Traffic, files: list[str], known: Arrivals
) -> None:
    scorer = Scorer(load_bundle(root / "layers" / "model"))
    definition = scorer.definition
    feeds = [
        feed_of(traffic.events, definition.scored),
        feed_of(traffic.labels, definition.label.source),
    ]
    end = HAND_OVER + 6 * HOUR
    order = arrivals(feeds).filter(
        pl.col("arrival").is_between(HAND_OVER - HOUR, end, closed="left")
    )
    (tape,) = records(feeds, order, 10_000)
    known.note(tape)

    result = run(*files, "--until", us_to_text(HAND_OVER), "--write-units-per-second", "500")
    again = run(*files, "--until", us_to_text(HAND_OVER), "--restart")
    keys = partition_keys(definition, feeds, order)
    aws.put([(record.data, key) for record, key in zip(tape, keys, strict=True)])
    aws.drain()

    assert result.exit_code == 0, result.stderr
    found, repeated = json.loads(result.stdout), json.loads(again.stdout)
    assert found["written"] > 60
    assert found["refused"] == {}
    assert found["start_stream_from"] == us_to_text(HAND_OVER - HOUR)
    assert found["write_units"] >= found["written"]
    assert (repeated["there"], repeated["written"]) == (found["written"], 0)
    whole = replay(scorer, feeds, Window(0, end))
    states = stored(aws)
    expected = without_order(scorer.codec, whole.states.items)
    assert without_order(scorer.codec, states) == expected
    scores = {str(row["transaction_id"]): row["score"] for row in whole.scores.to_dicts()}
    ids = [json.loads(r.data)["transaction_id"] for r in tape if b'"transactions"' in r.data]
    assert len(ids) > 5
    for number in ids:
        record = bootstrap.score_store().get(str(number))
        assert record is not None
        assert record.score == scores[str(number)]


@pytest.mark.usefixtures("aws")
def test_plan_of_a_history_says_what_seeding_it_then_takes(files: list[str]) -> None:
    planned = run(*files, "--dry-run", "--write-units-per-second", "100")
    found = run(*files)

    assert planned.exit_code == found.exit_code == 0
    plan, done = json.loads(planned.stdout), json.loads(found.stdout)
    assert plan["write_units"] == done["write_units"]
    assert sum(each["states"] for each in plan["entities"]) == done["written"]
    assert plan["write_seconds"] == pytest.approx(plan["write_units"] / 100)
    assert sum(each["events"] for each in plan["entities"]) == done["events"]


def test_dry_run_needs_no_aws_and_shows_a_table(
    root: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)

    result = CliRunner().invoke(
        app, ["seed-state", *files, "--dry-run", "--processes", "1"], env={"COLUMNS": "120"}
    )

    assert result.exit_code == 0
    for word in ("customer", "terminal", "write units", "GB", "--write-units-per-second"):
        assert word in result.stdout


def test_states_that_cannot_be_merged_are_named_and_exit_with_1(
    aws: LocalAws, files: list[str]
) -> None:
    table = read_settings(function_environment(aws.stack.functions)).state_table
    item = {"entity": {"S": "customer#1"}, "version": {"N": "4"}, "state": {"B": b"other"}}
    aws.client("dynamodb").put_item(TableName=table, Item=item)

    result = run(*files)

    assert result.exit_code == 1
    assert json.loads(result.stdout)["left_apart"] == ["customer#1"]
    assert "1 states stay as they were" in result.stderr
    assert stored(aws)["customer#1"] == StoredState(4, b"other")


ACTIONS = {
    "BatchGetItem": "dynamodb:BatchGetItem",
    "GetItem": "dynamodb:GetItem",
    "PutItem": "dynamodb:PutItem",
}


def test_actions_that_it_needs_are_those_that_are_documented(
    root: Path, aws: LocalAws, files: list[str]
) -> None:
    called: set[str] = set()

    def recording(service: str) -> Any:
        client = local_client(service, aws.endpoint_url)
        client.meta.events.register("before-call", lambda model, **_: called.add(model.name))
        return client

    settings = read_settings(function_environment(aws.stack.functions))
    folder = folder_of(root / "layers" / "model")
    names = [source.name for source in folder.definition.sources]
    history = History(dict(zip(names, map(Path, files[1::2]), strict=True)), 0)
    history = replace(history, until=newest_arrival(folder, history) + 1)
    parts = parts_of(folder, history)
    seeder = Seeder(folder.codec, bootstrap.states_of(settings, recording), SystemClock())
    notes = bootstrap.scores_of(settings, recording)
    for _ in range(2):
        run_of = SeedRun(seeder, notes, name_of(folder, history, parts))
        run_of.restart()
        run_of.run((fold_part(folder, history, part) for part in parts), lambda _: None)

    readme = (root / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Warm states")[2].partition("\n## ")[0]
    for text in (section, seed_state.__doc__ or ""):
        documented = set(re.findall(r"\b(?:s3|dynamodb|cloudformation):\w+", text))
        expected = {ACTIONS[each] for each in called} | {"cloudformation:DescribeStacks"}
        assert documented == expected


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--events", "nowhere.parquet"], 1, "expected a Parquet file"),
        (["--write-units-per-second", "0"], 2, "write-units-per-second"),
        (["--source", "refunds=r.parquet"], 1, "expected NAME=PATH"),
        (["--until", "tomorrow"], 1, "--until: got 'tomorrow'"),
        (["--active-since", "2999-01-01T00:00:00Z"], 1, "before the hand-over"),
    ],
)
def test_wrong_usage_says_what_is_wrong(
    root: Path,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(root)

    result = CliRunner().invoke(app, ["seed-state", *files, "--dry-run", *options])

    assert result.exit_code == code
    assert message in re.sub(r"\s+", " ", result.stderr)
