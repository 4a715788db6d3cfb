"""No personal data in what the functions write: planted everywhere, then looked for."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests import canary
from tests.integration.conftest import WITH_TABLE, changed_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FEATURE_THAT_TELLS = (
    "    return event.event_time.weekday() >= SATURDAY\n",
    "    raise ValueError(event.customer_id)\n",
)


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Standard output and standard error of the whole run."""
    changes = (*WITH_TABLE, FEATURE_THAT_TELLS)
    model_dir = changed_model(root, tmp_path_factory.mktemp("model"), changes)
    run = subprocess.run(
        [sys.executable, "-m", "tests.canary", str(root), str(model_dir)],
        capture_output=True, text=True, check=False, cwd=root, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def lines(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines() if line.startswith("{")]


def test_no_log_line_metric_or_traceback_holds_personal_data(written: str) -> None:
    number = f"{canary.AMOUNT:.2f}".partition(".")[0]
    spelled = {canary.CANARY, number, f"{int(number):,}"}
    # Three ways in which base64 may cut the word, without the letters that its neighbours share.
    spelled |= {
        b64encode(b" " * shift + canary.CANARY.encode()).decode()[shift + 2 : 9]
        for shift in range(3)
    }
    told = [
        line
        for line in written.splitlines()
        if any(word.lower() in line.lower() for word in spelled)
    ]
    assert told == []


def test_what_went_well_and_what_did_not_was_logged(written: str) -> None:
    """So that the silence above says something."""
    messages = {line.get("message") for line in lines(written)}
    assert {"batch", "fallback", "run", "load"} <= messages
    metrics = {name for line in lines(written) if "_aws" in line for name in line}
    assert {"Scored", "Quarantined", "FailedBatches", "Fallbacks", "Invalid"} <= metrics
    assert "Traceback" in written


def test_lines_say_which_records_or_which_request_they_are_about(written: str) -> None:
    found = lines(written)
    for line in [each for each in found if each.get("message") == "batch"]:
        assert line["shard"] == "shardId-000000000000"
        assert int(line["first_sequence"]) <= int(line["last_sequence"])
    fallbacks = [line for line in found if line.get("message") == "fallback"]
    requests = [line for line in fallbacks if "Request" in line["function_name"]]
    assert requests
    assert all(line["correlation_id"] for line in requests)
    assert all(line["function_request_id"] for line in fallbacks)
