"""How template.yaml starts batch runs, alone and in parts, and the state machine's definition."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace import errors
from headrace.local import NotEmulated
from headrace.local.template import read_stack
from headrace.runs import MAX_SEGMENTS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
SOURCE: dict[str, Any] = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
RESOURCES: dict[str, Any] = SOURCE["Resources"]
MACHINE_TEXT = (ROOT / "infra" / "batch.asl.json").read_text(encoding="utf-8")
MACHINE: dict[str, Any] = json.loads(MACHINE_TEXT)
PARTS = MACHINE["States"]["Parts"]
PART = PARTS["ItemProcessor"]["States"]["Part"]
IN_PARTS = {"BatchSegments": "16"}


def targets(rule: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A rule's target with parts, and without."""
    name, (in_parts,), (alone,) = RESOURCES[rule]["Properties"]["Targets"]["Fn::If"]
    assert name == "RunsInParts"
    return in_parts, alone


def statements(role: str) -> dict[str, dict[str, Any]]:
    (policy,) = RESOURCES[role]["Properties"]["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


@pytest.mark.parametrize("rule", ["BatchScheduleRule", "BatchOnDemandRule"])
def test_rule_starts_the_function_or_the_state_machine(rule: str) -> None:
    in_parts, alone = targets(rule)
    assert alone["Arn"] == {"Fn::GetAtt": ["ScoreBatchFunction", "Arn"]}
    assert in_parts["Arn"] == {"Ref": "BatchStateMachine"}
    assert in_parts["RoleArn"] == {"Fn::GetAtt": ["BatchStartRole", "Arn"]}


@pytest.mark.parametrize(
    ("rule", "trigger"), [("BatchScheduleRule", "schedule"), ("BatchOnDemandRule", "demand")]
)
def test_state_machine_is_told_time_parts_and_trigger(rule: str, trigger: str) -> None:
    in_parts, _ = targets(rule)
    transformer = in_parts["InputTransformer"]
    assert transformer["InputPathsMap"] == {"time": "$.time"}
    text = transformer["InputTemplate"]["Fn::Sub"]
    filled = text.replace("<time>", '"2026-05-01T03:00:00Z"')  # as EventBridge quotes text
    filled = filled.replace("${BatchSegments}", "16").replace("${BatchConcurrency}", "4")
    assert json.loads(filled) == {
        "as_of": "2026-05-01T03:00:00Z",
        "segments": 16,
        "concurrency": 4,
        "trigger": trigger,
    }
    task = MACHINE["States"]["Open"]["Parameters"]["Payload"]
    read = {path for key, path in task.items() if key.endswith(".$")} | {
        PARTS["MaxConcurrencyPath"]
    }
    assert read == {f"$.{key}" for key in json.loads(filled)}


def test_run_on_demand_starts_when_the_prior_alarm_goes_off() -> None:
    pattern = RESOURCES["BatchOnDemandRule"]["Properties"]["EventPattern"]
    assert pattern["resources"] == [{"Fn::GetAtt": ["PriorRungAlarm", "Arn"]}]
    assert pattern["source"] == ["aws.cloudwatch"]
    assert pattern["detail"] == {"state": {"value": ["ALARM"]}}
    alarm = RESOURCES["PriorRungAlarm"]["Properties"]
    metrics = {m["MetricStat"]["Metric"]["MetricName"]: m for m in alarm["Metrics"][2:]}
    assert set(metrics) == {"RungRealTime", "RungLast", "RungBatch", "RungPrior"}
    assert {m["MetricStat"]["Period"] for m in metrics.values()} == {300}
    assert all(
        m["MetricStat"]["Metric"]["Dimensions"]
        == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]
        for m in metrics.values()
    )
    returned = [m["Id"] for m in alarm["Metrics"] if m.get("ReturnData", True)]
    assert returned == ["share"]
    named = {m["Id"] for m in alarm["Metrics"]}
    used = set(re.findall(r"[a-z_]+", " ".join(m["Expression"] for m in alarm["Metrics"][:2])))
    assert used == named - {"share"}
    assert alarm["Threshold"] == {"Ref": "RungSharePercent"}


def test_state_machine_may_only_do_what_its_run_needs() -> None:
    may = statements("BatchStateMachineRole")
    function = {"Fn::GetAtt": ["ScoreBatchFunction", "Arn"]}
    assert (may["DoParts"]["Action"], may["DoParts"]["Resource"]) == (
        "lambda:InvokeFunction", function,
    )  # fmt: skip
    assert may["StartChildren"]["Action"] == "states:StartExecution"
    machine = RESOURCES["BatchStateMachine"]["Properties"]["Name"]["Fn::Sub"]
    assert may["StartChildren"]["Resource"]["Fn::Sub"].endswith(f":stateMachine:{machine}")
    assert may["LookAfterChildren"]["Resource"]["Fn::Sub"].endswith(f":execution:{machine}/*")
    assert set(may) == {"DoParts", "StartChildren", "LookAfterChildren", "DeliverLogs"}
    assert all(action.startswith("logs:") for action in may["DeliverLogs"]["Action"])
    start = statements("BatchStartRole")
    assert {s: (each["Action"], each["Resource"]) for s, each in start.items()} == {
        "StartRun": ("states:StartExecution", {"Ref": "BatchStateMachine"})
    }


def test_nothing_of_the_state_machine_is_there_without_parts() -> None:
    """And what would ring whenever a part goes on is not there with them."""
    conditions = {name: each.get("Condition") for name, each in RESOURCES.items()}
    assert {name for name, each in conditions.items() if each == "RunsInParts"} == {
        "BatchStateMachine",
        "BatchStateMachineLogGroup",
        "BatchStateMachineRole",
        "BatchStartRole",
        "BatchRunFailedAlarm",
    }
    assert {name for name, each in conditions.items() if each == "RunsAlone"} == {
        "BatchSchedulePermission",
        "BatchOnDemandPermission",
        "ScoreBatchErrorsAlarm",
        "ScoreBatchDurationAlarm",
    }


def test_local_mode_plays_the_schedule_of_one_function_and_leaves_the_alarm_out() -> None:
    stack = read_stack(TEMPLATE)
    assert [each.function for each in stack.schedules] == ["ScoreBatchFunction"]
    assert "no alarm rings" in stack.left_out["BatchOnDemandRule"]


def test_local_mode_refuses_a_run_in_parts_and_says_what_to_do() -> None:
    with pytest.raises(NotEmulated, match="plays no state machines: leave BatchSegments at 0"):
        read_stack(TEMPLATE, IN_PARTS)


def test_given_zero_is_the_default_zero() -> None:
    assert len(read_stack(TEMPLATE, {"BatchSegments": "0"}).schedules) == 1


def test_rule_on_other_events_is_refused(tmp_path: Path) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    changed = tmp_path / "template.yaml"
    changed.write_text(text.replace("[CloudWatch Alarm State Change]", "[Object Created]"))
    with pytest.raises(NotEmulated, match=r"BatchOnDemandRule.*EventPattern"):
        read_stack(changed)


# The state machine's definition


def lint(definition: dict[str, Any]) -> list[str]:
    """What cfn-lint says of a definition, by its schema of the Amazon States Language."""
    template = {
        "Resources": {
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "RoleArn": "arn:aws:iam::123456789012:role/r",
                    "Definition": definition,
                    "DefinitionSubstitutions": {
                        "ScoreBatchFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:f"
                    },
                },
            }
        }
    }
    return [str(match) for match in cfnlint.lint(json.dumps(template), None, ["us-east-1"])]


def test_definition_is_in_the_states_language() -> None:
    assert lint(MACHINE) == []
    wrong = json.loads(MACHINE_TEXT)
    wrong["States"]["Parts"]["ItemBatcher"] = 17
    assert lint(wrong)


def test_parts_are_done_by_a_distributed_map_within_bounds() -> None:
    """Bounds from the Step Functions Developer Guide, "Map state in Distributed mode"."""
    config = PARTS["ItemProcessor"]["ProcessorConfig"]
    assert config == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert PARTS["ItemBatcher"]["MaxItemsPerBatch"] == 1
    assert PARTS["MaxConcurrencyPath"] == "$.concurrency"
    assert 0 < PARTS["ToleratedFailurePercentage"] < 100
    assert len(PARTS["Label"]) <= 40
    parameters = SOURCE["Parameters"]
    assert parameters["BatchSegments"]["MaxValue"] == MAX_SEGMENTS
    assert parameters["BatchConcurrency"]["MinValue"] == 1


def test_every_invocation_is_retried_within_bounds_and_waits_longer_each_time() -> None:
    tasks = [s for s in [*MACHINE["States"].values(), PART] if s["Type"] == "Task"]
    assert len(tasks) == 3
    timeout = RESOURCES["ScoreBatchFunction"]["Properties"]["Timeout"]
    for task in tasks:
        assert task["TimeoutSeconds"] > timeout
        for retry in task["Retry"]:
            assert retry["BackoffRate"] > 1
            assert retry["MaxAttempts"] <= 30
            assert retry["MaxDelaySeconds"] <= 60


def test_part_that_is_unfinished_goes_on_and_one_that_is_refused_does_not() -> None:
    retried = {name for retry in PART["Retry"] for name in retry["ErrorEquals"]}
    ours = {name for name in retried if not re.search(r"\.", name)}
    assert ours == {errors.RunUnfinished.__name__, errors.StoreUnavailable.__name__}
    assert "States.ALL" not in retried
    assert PARTS["Catch"][0]["Next"] == "Close"  # the report is written whatever became of parts
