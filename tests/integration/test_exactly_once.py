"""The real handlers on local AWS, with an untidy stream and faults: what is stored is as without.

Every trial replays the same history and is compared with one in which nothing went wrong.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headrace.definition import hours
from headrace.local.deploy import local_client
from headrace.local.faults import Faults
from headrace.local.moto_server import serve_moto
from headrace.local.stream_replay import Trial, replay_through_stream
from headrace.model import load_bundle
from headrace.offline.disorder import Disorder
from headrace.offline.feed import Feed, feed_of, read_feed
from headrace.offline.replay import Window, replay, state_rows
from headrace.offline.simulator import Plan, simulate
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.offline.replay import Replay

HISTORY = Plan(customers=15, terminals=12, days=12, events_per_day=0.7)
ALL = Faults(
    throttle=0.02, skew=0.01, lost_response=0.01, crash=0.01, unprocessed=0.05, partial_put=0.1
)


@pytest.fixture(scope="module")
def scorer(root: Path) -> Scorer:
    return Scorer(load_bundle(root / "layers" / "model"))


@pytest.fixture(scope="module")
def feeds(scorer: Scorer) -> list[Feed]:
    traffic = simulate(HISTORY)
    label = scorer.definition.label.source
    return [feed_of(traffic.events, scorer.definition.scored), feed_of(traffic.labels, label)]


def rows_of(scorer: Scorer, found: Replay) -> pl.DataFrame:
    rows = state_rows(scorer, found.states, found.newest)
    return rows.sort("entity", "entity_id", "view")


@pytest.fixture(scope="module")
def clean(scorer: Scorer, feeds: list[Feed]) -> pl.DataFrame:
    """State rows of a tidy replay without faults."""
    return rows_of(scorer, replay(scorer, feeds))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_disorder_duplicates_and_faults_do_not_show(
    seed: int, root: Path, scorer: Scorer, feeds: list[Feed], clean: pl.DataFrame
) -> None:
    trial = Trial(Disorder(hours(2), 0.1, seed), ALL, seed, batch_size=40)
    model = root / "layers" / "model"
    found = replay_through_stream(
        root / "template.yaml", model, feeds, Window(), None, lambda _: None, trial
    )
    assert sum(n for name, n in found.counts.items() if name.startswith("fault")) > 0
    assert found.counts["failed"] == 0
    assert_frame_equal(rows_of(scorer, found), clean, check_exact=True)
    ids = found.scores.get_column("transaction_id")
    assert sorted(ids) == sorted(feeds[0].frame.get_column("transaction_id"))


@pytest.mark.slow
def test_a_replay_that_was_killed_goes_on_where_it_is_started_again(
    root: Path, scorer: Scorer, feeds: list[Feed], clean: pl.DataFrame, tmp_path: Path
) -> None:
    events, labels = tmp_path / "events.parquet", tmp_path / "labels.parquet"
    traffic = simulate(HISTORY)
    traffic.events.write_parquet(events)
    traffic.labels.write_parquet(labels)
    start = str(traffic.events.get_column("event_time").sort()[40].isoformat())
    with serve_moto() as endpoint:
        command = [
            *(sys.executable, "-c", "from headrace.cli import app; app()", "replay"),
            *("--events", str(events)),
            *("--labels", str(labels), "--out", str(tmp_path / "scores.parquet")),
            *("--state-out", str(tmp_path / "states.parquet"), "--via", "kinesis"),
            *("--endpoint", endpoint, "--seed-before", start, "--batch-size", "20", "--resume"),
        ]
        kill_in_midstream(command, root, endpoint)
        assert not (tmp_path / "states.parquet").exists()
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=300)
    rows = pl.read_parquet(tmp_path / "states.parquet").sort("entity", "entity_id", "view")
    assert_frame_equal(rows, clean, check_exact=True)
    again = pl.read_parquet(tmp_path / "scores.parquet")
    label = scorer.definition.label.source
    window = Window(start=traffic_time(start))
    whole = replay(scorer, [feeds[0], read_feed(labels, label)], window).scores
    assert_frame_equal(again, whole)


def traffic_time(text: str) -> int:
    return int(pl.Series([text]).str.to_datetime(time_zone="UTC").dt.epoch("us")[0])


def kill_in_midstream(command: list[str], folder: Path, endpoint: str) -> None:
    """Run a command, and end it without notice once its functions have scored something."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    dynamodb = local_client("dynamodb", endpoint)
    while process.poll() is None and not scores_in(dynamodb):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def scores_in(dynamodb: Any) -> int:
    """How many scores are stored; 0 before there is a table."""
    tables = [name for name in dynamodb.list_tables()["TableNames"] if "Score" in name]
    return sum(dynamodb.scan(TableName=name, Select="COUNT")["Count"] for name in tables)
