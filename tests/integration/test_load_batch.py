"""Stage 2 on local AWS: a table is loaded by the command, and the functions see its rows."""

from __future__ import annotations

import io
import json
import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace import bootstrap
from headrace.cli import app
from headrace.imputation import Cause
from headrace.local.runtime import FunctionFailed
from headrace.local.session import Session, write_session
from headrace.local.stack import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.scores import ScoreRecord

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
LAKE = "lake"


@pytest.fixture
def aws(
    root: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalAws]:
    """The stack, with a bucket of somebody else's that a job leaves files in."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(root / "template.yaml", project)
    for name in ("functions", "layers", "infra"):
        (project / name).symlink_to(root / name)
    monkeypatch.chdir(project)
    template, logs = project / "template.yaml", io.StringIO()
    parameters = {"TableBucket": LAKE}
    with LocalAws.start(template, model_dir=model_dir, parameters=parameters, logs=logs) as running:
        running.client("s3").create_bucket(Bucket=LAKE)
        write_session(project, Session("", running.endpoint_url, running.stack.streams[0].name))
        yield running


def transaction(number: int, customer: int) -> dict[str, Any]:
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": NOW.isoformat(),
        "customer_id": customer,
        "terminal_id": 1,
        "amount": 10.0,
    }


def scored(aws: LocalAws, number: int, customer: int) -> ScoreRecord:
    aws.put([(json.dumps(transaction(number, customer)).encode(), str(customer))])
    assert aws.drain().records == 1
    found = bootstrap.score_store().get(str(number))
    assert found is not None
    return found


def load(model_dir: Path, folder: Path, *options: str, **columns: list[Any]) -> Any:
    path = folder / "profile.parquet"
    pl.DataFrame(columns).write_parquet(path)
    command = ["load-batch", str(path), "--model-dir", str(model_dir), "--json", *options]
    return CliRunner().invoke(app, command)


def test_rows_are_seen_by_stream_endpoint_and_batch_run_once_they_are_loaded(
    aws: LocalAws, model_dir: Path, tmp_path: Path
) -> None:
    before = scored(aws, 1, 7)
    assert before.imputed["profile_limit"].cause is Cause.NEVER_SEEN

    result = load(model_dir, tmp_path, customer_id=[7, 8], limit=[500.0, None])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["table"], told["rows"], told["written"]) == ("profile", 2, True)

    assert scored(aws, 2, 7).features["profile_limit"] == 500.0
    assert scored(aws, 3, 8).imputed["profile_limit"].cause is Cause.NOT_IN_TABLE
    reply = aws.api.request("POST", "/scores", transaction(4, 7))
    assert (reply.status, reply.json()["rung"]) == (200, "real_time")
    assert reply.json()["features"]["profile_limit"] == 500.0
    aws.run_schedule(datetime.now(UTC), "ScoreBatchFunction")
    (run,) = bootstrap.score_store().get_known(["customer#7"]).values()
    assert run.batch is not None
    assert run.batch.features["profile_limit"] == 500.0


def test_row_that_was_loaded_too_long_ago_has_expired(
    aws: LocalAws, model_dir: Path, tmp_path: Path
) -> None:
    old = "2024-05-01T00:00:00Z"
    assert (
        load(model_dir, tmp_path, "--loaded-at", old, customer_id=[7], limit=[1.0]).exit_code == 0
    )
    assert scored(aws, 1, 7).imputed["profile_limit"].cause is Cause.EXPIRED


def test_load_that_cannot_be_is_refused_and_a_dry_run_writes_nothing(
    aws: LocalAws, model_dir: Path, tmp_path: Path
) -> None:
    bad = load(model_dir, tmp_path, customer_id=[7], limit=[-1.0])
    assert bad.exit_code == 1
    assert "row 0: limit is -1.0; expected a number from 0" in " ".join(bad.stderr.split())
    dry = load(model_dir, tmp_path, "--dry-run", customer_id=[7], limit=[1.0])
    assert json.loads(dry.stdout)["written"] is False
    assert scored(aws, 1, 7).imputed["profile_limit"].cause is Cause.NEVER_SEEN
    assert load(model_dir, tmp_path, customer_id=[7], limit=[1.0]).exit_code == 0
    older = load(model_dir, tmp_path, "--loaded-at", "2024-05-01T00:00:00Z", customer_id=[7],
                 limit=[2.0])  # fmt: skip
    assert older.exit_code == 1
    assert "expected a newer one" in " ".join(older.stderr.split())


def leave(aws: LocalAws, key: str, **columns: list[Any]) -> None:
    """What a job does at its end."""
    body = io.BytesIO()
    pl.DataFrame(columns).write_parquet(body)
    aws.client("s3").put_object(Bucket=LAKE, Key=f"tables/{key}", Body=body.getvalue())


def run_load(aws: LocalAws) -> Any:
    return aws.run_schedule(datetime.now(UTC), "LoadBatchFunction")


def limit_of(aws: LocalAws, number: int, customer: int) -> float | None:
    found = scored(aws, number, customer)
    return None if "profile_limit" in found.imputed else found.features["profile_limit"]


def test_schedule_loads_the_newest_files_once(aws: LocalAws) -> None:
    assert run_load(aws) == {"profile": "no_file"}
    leave(aws, "profile/day1.parquet", customer_id=[7, 8], limit=[1.0, 2.0])
    leave(aws, "profiles/other.parquet", customer_id=[7], limit=[99.0])
    assert run_load(aws) == {"profile": "loaded"}
    assert run_load(aws) == {"profile": "unchanged"}
    assert (limit_of(aws, 1, 7), limit_of(aws, 2, 8)) == (1.0, 2.0)

    time.sleep(1.1)  # S3 tells times in whole seconds
    leave(aws, "profile/day2/part-0.parquet", customer_id=[7], limit=[3.0])
    leave(aws, "profile/day2/part-1.parquet", customer_id=[9], limit=[4.0])
    leave(aws, "profile/day2/_temporary-2.parquet", customer_id=[8], limit=[99.0])
    assert run_load(aws) == {"profile": "loaded"}
    limits = [limit_of(aws, number, customer) for number, customer in enumerate((7, 8, 9), 3)]
    assert limits == [3.0, 2.0, 4.0]


def test_faulty_file_fails_the_run_without_its_values_and_loads_nothing(
    aws: LocalAws, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(aws, "profile/day1.parquet", customer_id=[7, 7_654_321], limit=[5.0, -98765.0])
    with pytest.raises(FunctionFailed) as failed:
        run_load(aws)
    assert failed.value.error_type == "LoadUnfinished"
    assert "faults (1) against table 'profile'" in str(failed.value)
    assert limit_of(aws, 1, 7) is None
    told = capsys.readouterr().out
    assert '"OverdueTables":[1.0]' in told.replace(" ", "")
    assert not [value for value in ("7654321", "98765") if value in told]
