from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.local.session import FILE
from headrace.model import load_bundle
from headrace.offline.model_card import CARD
from headrace.offline.simulator import Plan, simulate
from headrace.onnx_model import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = Plan(customers=80, terminals=100, days=40)
SHORT = ["--gap-days", 2, "--test-days", 4]  # so that enough is left to tune the threshold on


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("traffic")
    traffic = simulate(PLAN)
    traffic.events.write_parquet(folder / "events.parquet")
    traffic.labels.write_parquet(folder / "labels.parquet")
    return folder / "events.parquet", folder / "labels.parquet"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_train_writes_a_bundle_that_loads(
    files: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    for name in ("definition.py", "estimator.py"):
        shutil.copy(root / "layers/model" / name, tmp_path / name)
    options = ["--events", files[0], "--labels", files[1], "--model-dir", tmp_path, "--json"]
    code, out, err = run("train", *options, *SHORT)

    assert code == 0, err
    manifest = load_bundle(tmp_path).manifest
    assert manifest.model_version == json.loads(out)["model_version"]
    assert manifest.training["gap"] == "2 days, 0:00:00"
    assert manifest.threshold is not None
    assert manifest.model_version in (tmp_path / "bundle" / CARD).read_text(encoding="utf-8")


def test_training_again_gives_the_same_bundle(
    files: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    for name in ("definition.py", "estimator.py"):
        shutil.copy(root / "layers/model" / name, tmp_path / name)
    options = ["--events", files[0], "--labels", files[1], "--model-dir", tmp_path, "--json"]

    first, second = run("train", *options, *SHORT), run("train", *options, *SHORT)

    assert first[0] == 0, first[2]
    assert first[1] == second[1]


def test_compile_proves_a_bundle_on_golden_rows_and_on_rows_of_a_replay(
    files: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    folder, scores = tmp_path / "model", tmp_path / "s.parquet"
    shutil.copytree(root / "layers" / "model", folder)
    version = load_bundle(folder).manifest.model_version
    assert run("replay", "--events", files[0], "--labels", files[1], "--out", scores)[0] == 0
    code, out, err = run("compile", folder, "--onnx", tmp_path / "m.onnx")
    assert code == 0, err
    row = [0.5] * len(load_bundle(folder).manifest.inputs)
    elsewhere = OnnxModel((tmp_path / "m.onnx").read_bytes()).score([row])
    assert elsewhere == pytest.approx(load_bundle(folder).model.score([row]), abs=1e-9)
    assert "largest difference" in out
    assert "training rows compared" in out
    code, out, err = run("compile", folder, "--rows", scores, "--json")
    assert code == 0, err
    found = json.loads(out)["certificate"]
    assert found["rows"]["training"] == len(pl.read_parquet(scores))
    assert (found["rows_over"], found["rows_apart"]) == (0, 0)
    assert load_bundle(folder).manifest.model_version == version


def test_compile_says_what_rows_lack(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "layers" / "model", tmp_path / "model")
    pl.DataFrame({"amount": [1.0]}).write_parquet(tmp_path / "rows.parquet")
    code, _, err = run("compile", tmp_path / "model", "--rows", tmp_path / "rows.parquet")
    assert code == 1
    assert "rows.parquet lacks is_weekend" in err


def test_training_that_scikit_learn_must_serve_says_so_and_without_leave_fails(
    files: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    text = (root / "layers/model/definition.py").read_text()
    (tmp_path / "definition.py").write_text(text)
    (tmp_path / "estimator.py").write_text(
        "from sklearn.naive_bayes import GaussianNB\ndef build():\n    return GaussianNB()\n"
    )
    options = ["--events", files[0], "--labels", files[1], "--model-dir", tmp_path]
    code, _, err = run("train", *options)
    assert code == 1
    assert "GaussianNB: no converter for this model" in err
    assert not (tmp_path / "bundle").exists()
    allowing = text.replace("batch_entity=", 'if_not_compiled="scikit-learn", batch_entity=')
    (tmp_path / "definition.py").write_text(allowing)
    code, _, err = run("train", *options)
    assert code == 0, err
    assert "Served by scikit-learn, not compiled:" in err
    assert load_bundle(tmp_path).manifest.serving == "scikit-learn"


def test_replay_gives_one_row_per_event_and_one_per_entity_and_view(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    scores, states = tmp_path / "s.parquet", tmp_path / "t.parquet"
    options = ["--events", files[0], "--labels", files[1], "--out", scores, "--state-out", states]
    code, out, err = run("replay", *options, "--json")
    events, found = pl.read_parquet(files[0]), pl.read_parquet(scores)

    assert code == 0, err
    assert json.loads(out)["scored"] == events.height
    assert found["transaction_id"].equals(events["transaction_id"])
    assert found.columns[:2] == ["transaction_id", "event_time"]
    state = pl.read_parquet(states)
    assert not state.select("entity", "entity_id", "view").is_duplicated().any()
    assert set(state["view"]) == {"customer", "terminal", "terminal_risk"}
    assert state["as_of"].n_unique() == 1


@pytest.mark.slow
def test_replay_through_the_stream_tells_what_was_refused_from_what_was_lost(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    events, scores = tmp_path / "events.parquet", tmp_path / "s.parquet"
    few = pl.read_parquet(files[0]).head(20).with_columns(arrival_time="event_time")
    too_old = pl.col("event_time") - pl.duration(days=30 * 365)
    bad = pl.when(pl.int_range(pl.len()) == 7).then(too_old).otherwise("event_time")
    few.with_columns(event_time=bad).write_parquet(events)

    options = ["--events", events, "--out", scores, "--via", "kinesis", "--json"]
    code, out, err = run("replay", *options)
    told = json.loads(out)

    assert code == 0, err
    assert pl.read_parquet(scores).height == 19
    assert (told["quarantined absurd_time"], told["quarantined"], told["lost"]) == (1, 1, 0)
    assert "Refused: event '7': event_time is 199" in err


def test_absent_amounts_are_imputed_and_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    scores = tmp_path / "s.parquet"
    run("replay", "--events", files[0], "--labels", files[1], "--out", scores)
    events, found = pl.read_parquet(files[0]), pl.read_parquet(scores)
    absent = events.filter(pl.col("amount").is_null())["transaction_id"]
    named = found.filter(pl.col("imputed").list.contains("amount"))["transaction_id"]

    assert absent.len() > 0
    assert sorted(named) == sorted(absent)
    assert found["amount"].null_count() == 0


HOLES = "absent=0.1,negative=0.01,text=0.01,unseen=0.05,cents=0.02"


def test_replay_with_holes_loses_nothing_and_tells_each_imputation_with_its_cause(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Clean, imputed and filled with zeros stand side by side."""
    scores = tmp_path / "s.parquet"
    options = ["--events", files[0], "--labels", files[1], "--out", scores, "--holes", HOLES]
    code, out, err = run("replay", *options, "--compare", "--json")
    told, found = json.loads(out), pl.read_parquet(scores)

    assert code == 0, err
    assert (told["lost"], told["scored"]) == (0, pl.read_parquet(files[0]).height)
    pairs = found.select("imputed", "causes").explode("imputed", "causes").drop_nulls()
    assert sum(each["events"] for each in told["imputed_by_cause"]) == pairs.height
    of_amount = {
        e["cause"]: e["events"] for e in told["imputed_by_cause"] if e["column"] == "amount"
    }
    assert of_amount["invalid"] == told["holes negative"] + told["holes text"] > 0
    assert of_amount["not_in_event"] >= told["holes absent"] > 0
    unseen = found.filter(pl.col("causes").list.contains("never_seen"))
    assert len(unseen) >= told["holes unseen"] > 0
    compared = told["compared"]
    assert list(compared) == ["clean", "holes, imputed", "holes, zeros"]
    assert len({(each["events"], each["positives"]) for each in compared.values()}) == 1
    assert len({each["average_precision"] for each in compared.values()}) == 3


def test_replay_tells_for_people_what_was_imputed_and_what_it_is_worth(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--events", files[0], "--labels", files[1], "--out", tmp_path / "s.parquet"]
    code, out, err = run("replay", *options, "--holes", "absent=0.3", "--compare")
    assert code == 0, err
    for text in ("not_in_event", "average precision", "holes, zeros"):
        assert text in out
    code, _, err = run("replay", "--events", files[0], "--out", tmp_path / "s.parquet", "--compare")
    assert (code, "--compare needs --labels" in err) == (1, True)


def test_history_alone_fills_the_state_and_gives_no_row(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    scores, states = tmp_path / "s.parquet", tmp_path / "t.parquet"
    options = ["--events", files[0], "--out", scores, "--state-out", states]
    code, _, err = run("replay", *options, "--seed-before", "2030-01-01")

    assert code == 0, err
    assert pl.read_parquet(scores).height == 0
    assert pl.read_parquet(states).height > 0


def test_a_definition_without_a_bundle_gives_features_and_no_scores(
    files: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    definition = shutil.copy(root / "layers/model/definition.py", tmp_path / "mine.py")
    out = tmp_path / "s.parquet"
    code, _, err = run("replay", "--events", files[0], "--out", out, "--definition", definition)
    found = pl.read_parquet(out)

    assert code == 0, err
    assert "features only" in err
    assert found["score"].null_count() == found.height
    assert found["customer_count_1d"].min() == 1


def test_wrong_files_are_told_in_a_sentence(root: Path, tmp_path: Path) -> None:
    code, _, err = run("replay", "--events", tmp_path / "no.parquet", "--out", tmp_path / "s")

    assert code == 1
    assert "no.parquet" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--out", "--state-out"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    files: tuple[Path, Path], tmp_path: Path, option: str
) -> None:
    chosen = {"--out": tmp_path / "s", "--state-out": tmp_path / "t"}
    for place, told in ((tmp_path / "no" / "s", "is no folder"), (tmp_path, "is a folder")):
        places = [part for pair in (chosen | {option: place}).items() for part in pair]
        code, _, err = run("replay", "--events", files[0], *places)
        assert code == 1
        assert option in err
        assert told in " ".join(err.split())
    assert list(tmp_path.glob("[st]")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--disorder", "2x"], "--disorder: got '2x'; expected a number and a unit"),
        (["--faults", "crash=2", "--via", "kinesis"], "faults: got 'crash=2'"),
        (["--faults", "crash=1"], "--faults and --resume need --via kinesis"),
        (["--capacity", "--via", "kinesis"], "--capacity needs --via memory"),
    ],
)
def test_trials_that_are_none_are_told(
    files: tuple[Path, Path], tmp_path: Path, options: list[str], told: str
) -> None:
    code, _, err = run("replay", "--events", files[0], "--out", tmp_path / "s", *options)
    assert code == 1
    assert told in " ".join(err.split())


def test_what_a_replay_would_cost_goes_into_a_plan(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--events", files[0], "--labels", files[1], "--out", tmp_path / "s"]
    code, out, err = run("replay", *options, "--capacity", "--batch-size", 500, "--json")
    assert code == 0, err
    (tmp_path / "replay.json").write_text(out)
    found = json.loads(out)
    assert found["terminal_state_bytes"] > found["customer_state_bytes"] > 100
    code, out, err = run(
        "plan", "--events-per-second", 1, "--replay", tmp_path / "replay.json", "--json"
    )
    assert code == 0, err
    figures = json.loads(out)["figures"]
    for name in ("read_units", "state_write_units", "customer_state_bytes"):
        assert figures[name]["value"] == found[name]


def test_disorder_and_duplicates_do_not_show_in_the_states(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--events", files[0], "--labels", files[1], "--out", tmp_path / "s"]
    untidy = ["--disorder", "2h", "--duplicates", "0.2", "--seed", "3", "--batch-size", "50"]
    tidy = run("replay", *options, "--state-out", tmp_path / "t", "--json")
    code, out, err = run("replay", *options, "--state-out", tmp_path / "u", "--json", *untidy)
    assert code == tidy[0] == 0, err
    assert json.loads(out)["records"] > json.loads(tidy[1])["records"]
    keys = ["entity", "entity_id", "view"]
    first, second = (pl.read_parquet(tmp_path / name).sort(keys) for name in "tu")
    assert first.equals(second, null_equal=True)


def test_wrong_times_are_told_in_a_sentence(files: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--events", files[0], "--out", tmp_path / "s", "--until", "tomorrow"]
    code, _, err = run("replay", *options)

    assert code == 1
    assert "--until" in err
    assert "ISO 8601" in err


def test_wrong_usage_exits_with_2() -> None:
    assert run("replay")[0] == 2
    assert run("nonsense")[0] == 2


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, so that a `headrace up` of the user's is left alone."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("template.yaml", "layers", "functions"):
        (folder / name).symlink_to(root / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("project")
def test_send_without_a_running_stack_says_what_to_start(tmp_path: Path) -> None:
    code, _, err = run("send", tmp_path / "events.jsonl")

    assert code == 1
    assert "headrace up" in err


@pytest.fixture(params=["in-process", "lambda"])
def running(project: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    start = "from headrace.cli import app; app()"
    command = [sys.executable, "-c", start, "up", "--runtime", request.param]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (project / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def test_events_sent_to_a_running_stack_are_scored_and_looked_up(
    running: subprocess.Popen[bytes], project: Path, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    event = {
        "source": "transactions",
        "transaction_id": "from-a-file",
        "event_time": datetime.now(UTC).isoformat(),
        "customer_id": 7,
        "terminal_id": 8,
        "amount": 12.5,
    }
    events.write_text(json.dumps(event) + "\nnot JSON\n")
    assert run("send", events, "--json")[1].split() == ["{", '"sent":', "2", "}"]
    deadline = time.monotonic() + 60
    code, out = 1, ""
    while code and time.monotonic() < deadline:
        time.sleep(0.3)
        code, out, _ = run("scores", "event", "from-a-file", "--json")
    record = json.loads(out)
    latest = json.loads(run("scores", "customer", "7", "--json")[1])
    code, out, err = run("scores", "event", "from-a-file", "--verify")
    assert (code, "never_seen, constant" in out) == (0, True), err
    assert "the same to the last bit" in err

    assert record["features"]["customer_count_1d"] == 1.0
    assert record["rung"] == "real_time"
    assert (latest["rung"], latest["score"]) == ("last", record["score"])
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 0
    assert not (project / FILE).exists()


def test_backfill_writes_the_features_of_a_replay_and_tells_what_would_leak(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--events", files[0], "--labels", files[1]]
    code, out, err = run(
        "backfill", *options, "--out", tmp_path / "f.parquet", "--differences", "--json"
    )
    assert code == 0, err
    told = json.loads(out)
    found = pl.read_parquet(tmp_path / "f.parquet")
    assert told["events"] == len(found) == pl.read_parquet(files[0]).height
    assert told["differences"]["customer_count_1d"]["rows"] == 0
    assert run("replay", *options, "--out", tmp_path / "s.parquet")[0] == 0
    scores = pl.read_parquet(tmp_path / "s.parquet")
    assert found["customer_count_30d"].equals(scores["customer_count_30d"])

    log = ["--log", tmp_path / "s.parquet"]
    code, out, err = run("skew", *options, *log, "--json")
    assert code == 0, err
    assert json.loads(out)["totals"]["unexplained"] == 0
    wrong = scores.with_columns(customer_count_7d=pl.col("customer_count_7d") + 1)
    wrong.write_parquet(tmp_path / "s.parquet")
    code, out, err = run("skew", *options, *log)
    assert code == 1
    assert f"{len(found):,} values are unexplained" in err


def test_backfill_of_a_folder_writes_a_folder_and_no_other_place(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    events = tmp_path / "events"
    events.mkdir()
    frame = pl.read_parquet(files[0])
    for number, part in enumerate(frame.iter_slices(2_000)):
        part.write_parquet(events / f"{number}.parquet")
    options = ["--events", events, "--labels", files[1]]
    code, out, err = run("backfill", *options, "--out", tmp_path / "f", "--rows-at-once", 1_500)
    assert code == 0, err
    assert f"{len(frame):,} events" in out
    assert sum(pl.read_parquet(f).height for f in (tmp_path / "f").iterdir()) == len(frame)
    assert run("backfill", *options, "--out", tmp_path / "f")[0] == 1
    assert run("backfill", *options, "--out", events)[0] == 1
