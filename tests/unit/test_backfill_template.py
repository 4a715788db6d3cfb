"""infra/backfill.yaml and its state machine as facts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace import errors

ROOT = Path(__file__).resolve().parents[2]
SOURCE: dict[str, Any] = yaml_parse((ROOT / "infra" / "backfill.yaml").read_text(encoding="utf-8"))
RESOURCES: dict[str, Any] = SOURCE["Resources"]
MACHINE = json.loads((ROOT / "infra" / "backfill.asl.json").read_text(encoding="utf-8"))
FUNCTION = RESOURCES["BackfillFunction"]["Properties"]
MAPS = {name: s for name, s in MACHINE["States"].items() if s["Type"] == "Map"}
TASKS = [s for s in MACHINE["States"].values() if s["Type"] == "Task"] + [
    task for each in MAPS.values() for task in each["ItemProcessor"]["States"].values()
]


def statements(role: str) -> dict[str, dict[str, Any]]:
    (policy,) = RESOURCES[role]["Properties"]["Policies"]
    found = [
        each["Fn::If"][1] if "Fn::If" in each else each
        for each in policy["PolicyDocument"]["Statement"]
    ]
    return {each["Sid"]: each for each in found}


def test_function_reads_history_writes_features_and_deletes_what_lay_between() -> None:
    arn = "arn:${AWS::Partition}:s3:::"
    features = f"{arn}${{FeatureBucket}}/${{FeaturePrefix}}*"
    may = {
        name: (each["Action"], each["Resource"]["Fn::Sub"])
        for name, each in statements("BackfillRole").items()
        if "Fn::Sub" in each["Resource"]
    }
    assert may == {
        "FindHistory": ("s3:ListBucket", f"{arn}${{HistoryBucket}}"),
        "ReadHistory": ("s3:GetObject", f"{arn}${{HistoryBucket}}/${{HistoryPrefix}}*"),
        "FindFeatures": ("s3:ListBucket", f"{arn}${{FeatureBucket}}"),
        "WriteFeatures": (["s3:GetObject", "s3:PutObject"], features),
        "DeleteWhatLayBetween": ("s3:DeleteObject", f"{features}/_work/*"),
    }
    for name, prefix in (("FindHistory", "HistoryPrefix"), ("FindFeatures", "FeaturePrefix")):
        condition = statements("BackfillRole")[name]["Condition"]
        assert condition == {"StringLike": {"s3:prefix": {"Fn::Sub": f"${{{prefix}}}*"}}}


def test_nobody_may_do_everything_to_anything() -> None:
    for role in ("BackfillRole", "BackfillStateMachineRole"):
        for name, each in statements(role).items():
            actions = each["Action"] if isinstance(each["Action"], list) else [each["Action"]]
            assert not [action for action in actions if "*" in action]
            assert each["Resource"] != "*" or name == "DeliverLogs"


def test_state_machine_may_redo_the_children_that_failed() -> None:
    may = statements("BackfillStateMachineRole")
    assert may["DoSteps"]["Resource"] == {"Fn::GetAtt": ["BackfillFunction", "Arn"]}
    assert "states:RedriveExecution" in may["LookAfterChildren"]["Action"]
    machine = RESOURCES["BackfillStateMachine"]["Properties"]["Name"]["Fn::Sub"]
    assert may["StartChildren"]["Resource"]["Fn::Sub"].endswith(f":stateMachine:{machine}")


@pytest.mark.parametrize("name", MAPS)
def test_map_is_distributed_and_no_item_of_it_may_be_lacking(name: str) -> None:
    """Features of a part would be absent, and an absent feature is nothing that anybody notices."""
    each = MAPS[name]
    config = each["ItemProcessor"]["ProcessorConfig"]
    assert config == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert each["ItemBatcher"] == {"MaxItemsPerBatch": 1}
    assert each["ToleratedFailurePercentage"] == 0
    assert each["MaxConcurrencyPath"] == "$.concurrency"


def test_every_step_is_retried_within_bounds_where_that_can_help() -> None:
    assert len(TASKS) == 4
    for task in TASKS:
        assert task["TimeoutSeconds"] > FUNCTION["Timeout"]
        (retry,) = task["Retry"]
        assert retry["BackoffRate"] > 1
        assert retry["MaxAttempts"] <= 8
        ours = {name for name in retry["ErrorEquals"] if not re.search(r"\.", name)}
        assert ours == {errors.StoreUnavailable.__name__}
        assert "States.ALL" not in retry["ErrorEquals"]


def test_layers_are_built_by_make_and_of_what_is_there() -> None:
    layers = {name: r["Properties"] for name, r in RESOURCES.items() if "Layer" in r["Type"]}
    assert FUNCTION["Layers"] == [{"Ref": name} for name in layers]
    for name, layer in layers.items():
        folder = (ROOT / "infra" / layer["ContentUri"]).resolve()
        assert f"build-{name}" in (folder / "Makefile").read_text(encoding="utf-8")
    assert (ROOT / "infra" / FUNCTION["CodeUri"] / "app.py").is_file()


IMPORTED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("app", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith(("headrace.cli", "headrace.local"))))
"""


def test_function_imports_what_its_layers_have_and_no_more() -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORTED, ROOT / "infra" / "backfill" / "app.py"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    loaded, tools = run.stdout.split("\n")[:2]
    assert {"polars", "numpy", "headrace"} <= set(loaded.split())
    not_there = {"sklearn", "scipy", "onnxruntime", "pandas", "moto", "typer", "rich", "boto3"}
    assert not_there & set(loaded.split()) == set()
    assert tools == ""
