"""What template.yaml becomes by SAM's transform: versions, aliases, and deployments by canary."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace.local.template import read_stack, transformed

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
SHIFTED = ("ScoreStreamFunction", "ScoreRequestFunction")


@cache
def resources(canary: str, changed: str = "", place: str = "s3://bucket/other") -> dict[str, Any]:
    """The plain resources, after the content of a layer or function may have changed."""
    contents = {changed: place} if changed else {}
    found: dict[str, Any] = transformed(TEMPLATE, {"CanaryDeployment": canary}, contents)[
        "Resources"
    ]
    return found


def of_type(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in found.items() if each["Type"] == kind}


def versions(found: dict[str, Any]) -> dict[str, str]:
    """Function -> logical id of its version; another id is another version."""
    published = of_type("AWS::Lambda::Version", found)
    return {each["Properties"]["FunctionName"]["Ref"]: name for name, each in published.items()}


@pytest.mark.parametrize(
    "changed", ["HeadraceLayer", "RuntimeLayer", "ModelLayer", "ScoreStreamFunction"]
)
def test_change_of_code_library_or_model_is_a_new_version(changed: str) -> None:
    before, after = versions(resources("false")), versions(resources("false", changed))
    assert before.keys() == after.keys() == set(SHIFTED)
    assert before["ScoreStreamFunction"] != after["ScoreStreamFunction"]
    both = changed != "ScoreStreamFunction"
    assert (before["ScoreRequestFunction"] != after["ScoreRequestFunction"]) is both


def test_stream_and_routes_lead_to_the_aliases() -> None:
    found = resources("false")
    (mapping,) = of_type("AWS::Lambda::EventSourceMapping", found).values()
    assert mapping["Properties"]["FunctionName"] == {"Fn::Sub": "${ScoreStreamFunction.Arn}:live"}
    assert mapping["DependsOn"] == "ScoreStreamFunctionAliaslive"
    assert "ScoreStreamFunctionAliaslive" in found
    (api,) = of_type("AWS::ApiGateway::RestApi", found).values()
    for path in api["Properties"]["Body"]["paths"].values():
        for operation in path.values():
            uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
            assert uri.endswith("/functions/${ScoreRequestFunction.Arn}:live/invocations")


def test_deployments_by_canary_roll_back_on_alarms_of_what_they_deploy() -> None:
    found = resources("true")
    groups = of_type("AWS::CodeDeploy::DeploymentGroup", found)
    named = {
        alarm["Properties"].get("AlarmName", {}).get("Fn::Sub")
        for alarm in of_type("AWS::CloudWatch::Alarm", found).values()
        if "Condition" not in alarm
    }
    assert groups.keys() == {f"{name}DeploymentGroup" for name in SHIFTED}
    for group in groups.values():
        properties = group["Properties"]
        rolled_back = properties["AutoRollbackConfiguration"]
        assert rolled_back["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in rolled_back["Events"]
        assert properties["AlarmConfiguration"]["Enabled"] is True
        wanted = [alarm["Name"]["Fn::Sub"] for alarm in properties["AlarmConfiguration"]["Alarms"]]
        assert wanted
        assert set(wanted) <= named
        role = properties["ServiceRoleArn"]["Fn::If"]
        assert role[:2] == ["ShiftsTraffic", {"Fn::GetAtt": ["DeploymentRole", "Arn"]}]
    assert "CodeDeployServiceRole" not in found  # SAM's, which may do it to any function


def test_function_names_its_alarms_without_reference_since_they_refer_to_it() -> None:
    """A circle only before the transform, where LocalStack resolves it without end."""
    source = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))["Resources"]
    for name in SHIFTED:
        preference = source[name]["Properties"]["DeploymentPreference"]
        assert all(alarm.keys() == {"Fn::Sub"} for alarm in preference["Alarms"])


def test_without_canary_codedeploy_has_no_part_in_it() -> None:
    found = resources("false")
    assert not [name for name, each in found.items() if "CodeDeploy" in each["Type"]]
    assert not [name for name, each in found.items() if "UpdatePolicy" in each]


@pytest.mark.parametrize("canary", ["true", "false"])
def test_local_mode_finds_the_functions_behind_their_aliases(canary: str) -> None:
    stack = read_stack(TEMPLATE, {"CanaryDeployment": canary})
    (mapping,) = stack.mappings
    assert mapping.function == "ScoreStreamFunction"
    assert {route.function for route in stack.routes} == {"ScoreRequestFunction"}
    assert "the only version that there is" in stack.left_out["ScoreStreamFunctionAliaslive"]


def test_snapshots_are_taken_of_published_versions_where_asked() -> None:
    found = transformed(TEMPLATE, {}, {})
    for name in SHIFTED:
        taken = found["Resources"][name]["Properties"]["SnapStart"]["ApplyOn"]
        assert taken == {"Fn::If": ["Snaps", "PublishedVersions", "None"]}
    assert found["Conditions"]["Snaps"] == {"Fn::Equals": [{"Ref": "SnapStart"}, "on"]}


def test_only_the_request_function_is_kept_warm_where_asked() -> None:
    found = transformed(TEMPLATE, {}, {})["Resources"]
    kept = {
        name: each["Properties"].get("ProvisionedConcurrencyConfig")
        for name, each in of_type("AWS::Lambda::Alias", found).items()
    }
    assert kept["ScoreStreamFunctionAliaslive"] is None
    assert kept["ScoreRequestFunctionAliaslive"]["Fn::If"][:2] == [
        "Provisions",
        {"ProvisionedConcurrentExecutions": {"Ref": "ProvisionedConcurrency"}},
    ]
