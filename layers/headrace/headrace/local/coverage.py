"""What local mode plays of a template, and what it leaves out and why that is safe.

A resource type, property or attribute that is in none of these tables fails loudly. Whoever adds
one to template.yaml decides here: emulate it, or write down why local mode may do without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.local import NotEmulated

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_IAM = "nothing checks permissions locally; tests/unit/test_template.py checks the policies"
_NO_WATCH = "nothing is measured or alarmed locally"
_NEWEST = "the code of the project is the only version that there is; an alias leads to it"
_PLAIN = "data on one machine for one session needs no protection at rest"

IGNORED_TYPES: Mapping[str, str] = {
    "AWS::ApiGateway::Deployment": "the local HTTP front always serves the current routes",
    "AWS::CloudWatch::Alarm": _NO_WATCH,
    "AWS::CloudWatch::Dashboard": _NO_WATCH,
    "AWS::CodeDeploy::Application": _NEWEST,
    "AWS::CodeDeploy::DeploymentGroup": _NEWEST,
    "AWS::IAM::Role": _NO_IAM,
    "AWS::Lambda::Alias": _NEWEST,
    "AWS::Lambda::EventInvokeConfig": "a scheduled run that fails is shown at once, not retried",
    "AWS::Lambda::LayerVersion": "made of the project's folders, which functions are given",
    "AWS::Lambda::Permission": _NO_IAM,
    "AWS::Lambda::Version": _NEWEST,
    "AWS::Logs::LogGroup": "functions log to standard output",
    "AWS::S3::BucketPolicy": _NO_IAM,
}

REFUSED_TYPES: Mapping[str, str] = {
    "AWS::ApiGateway::ApiKey": "local mode checks IAM signatures only: leave ApiAuth at iam",
    "AWS::StepFunctions::StateMachine": (
        "local mode plays no state machines: leave BatchSegments at 0 and one function does the "
        "whole run"
    ),
}

ALARM_PATTERN = ["CloudWatch Alarm State Change"]

IGNORED_ATTRIBUTES = frozenset(
    {"Type", "Properties", "Condition", "DependsOn", "Metadata"}
    | {"DeletionPolicy", "UpdateReplacePolicy"}
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Properties of one resource type that local mode plays, and those it leaves out with why."""

    played: frozenset[str]
    ignored: Mapping[str, str] = field(default_factory=dict)


PLAYED_TYPES: Mapping[str, Coverage] = {
    "AWS::Lambda::Function": Coverage(
        frozenset({"Code", "FunctionName", "Handler", "Timeout", "MemorySize", "Environment"})
        | {"Runtime"},  # by run_lambda; in this process handlers run on its own Python
        {
            "Architectures": "handlers run on this machine",
            "Description": "for people",
            "Layers": "read before the transform, which renames them",
            "LoggingConfig": IGNORED_TYPES["AWS::Logs::LogGroup"],
            "Role": _NO_IAM,
            "Tags": "for people",
            "TracingConfig": _NO_WATCH,
        },
    ),
    "AWS::Lambda::EventSourceMapping": Coverage(
        frozenset(
            {"FunctionName", "EventSourceArn", "StartingPosition", "BatchSize", "Enabled"}
            | {"MaximumBatchingWindowInSeconds", "ParallelizationFactor", "FunctionResponseTypes"}
            | {"BisectBatchOnFunctionError", "MaximumRetryAttempts", "DestinationConfig"}
            | {"MaximumRecordAgeInSeconds", "StartingPositionTimestamp", "FilterCriteria"}
            | {"TumblingWindowInSeconds"}
        ),
        {"MetricsConfig": _NO_WATCH, "Tags": "for people"},
    ),
    "AWS::Kinesis::Stream": Coverage(
        frozenset({"Name", "ShardCount", "StreamModeDetails", "RetentionPeriodHours"}),
        {"StreamEncryption": _PLAIN, "Tags": "for people"},
    ),
    "AWS::DynamoDB::Table": Coverage(
        frozenset({"TableName", "BillingMode", "AttributeDefinitions", "KeySchema"})
        | {"TimeToLiveSpecification"},
        {
            "PointInTimeRecoverySpecification": _PLAIN,
            "SSESpecification": _PLAIN,
            "DeletionProtectionEnabled": _PLAIN,
            "Tags": "for people",
        },
    ),
    "AWS::S3::Bucket": Coverage(
        frozenset({"BucketName"}),
        {
            "BucketEncryption": _PLAIN,
            "LifecycleConfiguration": "a local session is shorter than any expiry",
            "OwnershipControls": _NO_IAM,
            "PublicAccessBlockConfiguration": _NO_IAM,
            "Tags": "for people",
        },
    ),
    "AWS::Events::Rule": Coverage(
        frozenset({"Name", "ScheduleExpression", "State", "Targets"}),
        {"Description": "for people"},
    ),
    "AWS::ApiGateway::RestApi": Coverage(
        frozenset({"Body", "Name"}),
        {
            "Description": "for people",
            "EndpointConfiguration": "the local front listens on this machine only",
            "Parameters": "the local front listens on this machine only",
        },
    ),
    "AWS::ApiGateway::Stage": Coverage(
        frozenset({"RestApiId", "StageName"}),
        {
            "DeploymentId": IGNORED_TYPES["AWS::ApiGateway::Deployment"],
            "Description": "for people",
            "AccessLogSetting": _NO_WATCH,
            "TracingEnabled": _NO_WATCH,
            "MethodSettings": "one caller on one machine is not throttled, and " + _NO_WATCH,
        },
    ),
}


def reason_left_out(resource: Mapping[str, Any]) -> str | None:
    """Why local mode may do without a resource; None where it must play it."""
    kind, pattern = resource["Type"], resource.get("Properties", {}).get("EventPattern", {})
    if kind == "AWS::Events::Rule" and pattern.get("detail-type") == ALARM_PATTERN:
        return f"no alarm rings: {_NO_WATCH}; `headrace batch run` starts what it would start"
    return IGNORED_TYPES.get(kind)


def require_played(logical_id: str, resource: Mapping[str, Any]) -> None:
    """Refuse a resource that local mode neither plays nor knowingly leaves out.

    Raises:
        NotEmulated: Its type, a property or an attribute is in no table of this module.
    """
    kind = resource["Type"]
    if reason_left_out(resource):
        return
    if kind in REFUSED_TYPES:
        msg = f"resource {logical_id}: type is {kind}; {REFUSED_TYPES[kind]}"
        raise NotEmulated(msg)
    if kind not in PLAYED_TYPES:
        msg = (
            f"resource {logical_id}: type is {kind}; local mode plays "
            f"{', '.join(sorted(PLAYED_TYPES))}. Play it, or say in headrace/local/coverage.py "
            "why it can be left out"
        )
        raise NotEmulated(msg)
    coverage = PLAYED_TYPES[kind]
    known = coverage.played | coverage.ignored.keys()
    _refuse_unknown(f"property of {kind}", logical_id, resource.get("Properties", {}), known)
    _refuse_unknown("attribute", logical_id, resource, IGNORED_ATTRIBUTES)


def require_value(where: str, what: str, got: object, played: Any) -> None:
    """Refuse a value that local mode does not play.

    Raises:
        NotEmulated: It is not in ``played``.
    """
    if got not in played:
        options = ", ".join(repr(each) for each in sorted(played, key=repr))
        msg = f"{where}: {what} is {got!r}; local mode plays {options}"
        raise NotEmulated(msg)


def _refuse_unknown(
    what: str, logical_id: str, got: Mapping[str, Any], known: frozenset[str]
) -> None:
    for name in sorted(got.keys() - known):
        msg = (
            f"resource {logical_id}: local mode does not know the {what} {name}; expected one of "
            f"{', '.join(sorted(known))}"
        )
        raise NotEmulated(msg)
