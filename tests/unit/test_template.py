"""template.yaml as facts: what it must have, and what the local mode reads of it or refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace.local import NotEmulated
from headrace.local.intrinsics import Resolver
from headrace.local.template import read_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
SOURCE: dict[str, Any] = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
RESOURCES: dict[str, Any] = SOURCE["Resources"]

FUNCTION = "AWS::Serverless::Function"
STACK = {"Ref": "AWS::StackName"}
ASYNCHRONOUS = {"Schedule", "ScheduleV2", "S3", "SNS", "EventBridgeRule"}


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource.get("Properties", {})
        for name, resource in RESOURCES.items()
        if resource["Type"] == kind
    }


FUNCTIONS = of_type(FUNCTION)
TABLES = of_type("AWS::DynamoDB::Table")
ALARMS = of_type("AWS::CloudWatch::Alarm")


def statements(function: str) -> Iterator[dict[str, Any]]:
    """What a function's role allows, also what it allows by a parameter only."""
    role = RESOURCES[FUNCTIONS[function]["Role"]["Fn::GetAtt"][0]]
    assert role["Properties"].keys() == {"AssumeRolePolicyDocument", "Policies"}
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def alarmed(metric: str, **dimensions: Any) -> bool:
    wanted = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    return any(
        alarm.get("MetricName") == metric and alarm["Dimensions"] == wanted
        for alarm in ALARMS.values()
    )


def test_stream_that_stops_without_raising_is_alarmed() -> None:
    """A dependency that fails is reported as a failed item: Lambda's own Errors stay at 0."""
    assert alarmed("FailedBatches", service=STACK)


def test_quarantine_may_be_written_by_the_stream() -> None:
    may = [s for s in statements("ScoreStreamFunction") if s["Sid"] == "Quarantine"]
    assert [as_list(each["Action"]) for each in may] == [["s3:PutObject"]]


def test_template_has_the_functions_that_score_and_the_one_that_loads_tables() -> None:
    assert {properties["CodeUri"] for properties in FUNCTIONS.values()} == {
        "functions/score_stream/",
        "functions/score_request/",
        "functions/score_batch/",
        "functions/load_batch/",
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_names_its_layers_and_only_what_scores_has_the_model_s_libraries(
    function: str,
) -> None:
    """Layers under Globals would be added to: a function with two sets of wheels is too large."""
    assert "Layers" not in SOURCE["Globals"]["Function"]
    wheels = "TableLayer" if function == "LoadBatchFunction" else "RuntimeLayer"
    assert FUNCTIONS[function]["Layers"] == [
        {"Ref": name} for name in ("HeadraceLayer", wheels, "ModelLayer")
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_may_do_only_what_it_names_to_what_it_names(function: str) -> None:
    for statement in statements(function):
        assert statement["Effect"] == "Allow"
        assert [action for action in as_list(statement["Action"]) if "*" in action] == []
        if statement["Sid"] == "Trace":
            assert statement["Resource"] == "*"  # X-Ray knows no resources
            continue
        for resource in as_list(statement["Resource"]):
            assert isinstance(resource, dict), f"{function}: {resource!r} names no resource"
            ((kind, value),) = resource.items()
            text = ".".join(value) if isinstance(value, list) else value
            assert kind in {"Fn::GetAtt", "Fn::Sub"} or resource == {"Ref": "KeyArn"}
            # Within a bucket, everything under a named prefix.
            assert "*" not in text or text in {
                "${QuarantineBucket.Arn}/quarantine/*",
                "${QuarantineBucket.Arn}/aws/lambda/*",
                "arn:${AWS::Partition}:s3:::${TableBucket}/${TablePrefix}*",
            }


def test_every_function_has_a_role_of_its_own() -> None:
    roles = {properties["Role"]["Fn::GetAtt"][0] for properties in FUNCTIONS.values()}
    assert len(roles) == len(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_logs_to_a_group_of_its_own_with_an_end(function: str) -> None:
    group = FUNCTIONS[function]["LoggingConfig"]["LogGroup"]["Ref"]
    assert RESOURCES[group]["Type"] == "AWS::Logs::LogGroup"
    assert "RetentionInDays" in RESOURCES[group]["Properties"]
    users = [f for f, p in FUNCTIONS.items() if p["LoggingConfig"]["LogGroup"]["Ref"] == group]
    assert users == [function]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_that_nobody_waits_for_has_a_failure_destination(function: str) -> None:
    events = {event["Type"] for event in FUNCTIONS[function].get("Events", {}).values()}
    sources = of_type("AWS::Lambda::EventSourceMapping")
    invokes = of_type("AWS::Lambda::EventInvokeConfig")
    mine = [
        each
        for each in [*sources.values(), *invokes.values()]
        if each["FunctionName"] in ({"Ref": function}, {"Fn::Sub": f"${{{function}.Arn}}:live"})
    ]
    assert bool(mine) == (bool(events & ASYNCHRONOUS) or not events)
    for each in mine:
        destination = each["DestinationConfig"]["OnFailure"]["Destination"]
        assert destination == {"Fn::GetAtt": ["QuarantineBucket", "Arn"]}
        writes = [s for s in statements(function) if s["Action"] == "s3:PutObject"]
        assert any("/aws/lambda/*" in str(s["Resource"]) for s in writes)


def test_stream_mapping_retries_within_bounds_and_moves_on() -> None:
    (mapping,) = of_type("AWS::Lambda::EventSourceMapping").values()
    assert 0 <= mapping["MaximumRetryAttempts"] <= 100
    assert mapping["MaximumRecordAgeInSeconds"] > 0
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize("table", TABLES)
def test_table_expires_items_recovers_and_is_encrypted(table: str) -> None:
    properties = TABLES[table]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert properties["SSESpecification"]["SSEEnabled"] is True
    assert properties["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("resource", [*TABLES, "EventStream", "QuarantineBucket"])
def test_data_outlives_the_stack(resource: str) -> None:
    assert RESOURCES[resource]["DeletionPolicy"] == "Retain"
    assert RESOURCES[resource]["UpdateReplacePolicy"] == "Retain"


def test_bucket_refuses_whatever_comes_without_tls() -> None:
    (policy,) = of_type("AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert policy["Bucket"] == {"Ref": "QuarantineBucket"}
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == (
        "Deny", "*", "s3:*",
    )  # fmt: skip
    assert statement["Resource"] == [
        {"Fn::GetAtt": ["QuarantineBucket", "Arn"]},
        {"Fn::Sub": "${QuarantineBucket.Arn}/*"},
    ]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_customer_s_key_encrypts_whatever_holds_events_or_what_came_of_them() -> None:
    """Read back from the template as CloudFormation would, with a key and without."""
    arn = "arn:aws:kms:us-east-1:123456789012:key/1"
    kept = (
        "AWS::DynamoDB::Table",
        "AWS::Kinesis::Stream",
        "AWS::S3::Bucket",
        "AWS::Logs::LogGroup",
    )
    for given, uses in ((arn, 1), ("", 0)):
        resolver = Resolver(SOURCE, {"KeyArn": given}, "s")
        for kind in kept:
            for name, properties in of_type(kind).items():
                assert str(resolver.resolve(properties)).count(f"'{arn}'") == uses, name


def test_bucket_and_stream_are_encrypted_and_the_bucket_is_private() -> None:
    (bucket,) = of_type("AWS::S3::Bucket").values()
    (stream,) = of_type("AWS::Kinesis::Stream").values()
    assert "BucketEncryption" in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert stream["StreamEncryption"]["EncryptionType"] == "KMS"


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration"])
def test_function_is_watched(function: str, metric: str) -> None:
    assert alarmed(metric, FunctionName={"Ref": function})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_duration_alarm_rings_before_the_time_out(function: str) -> None:
    (alarm,) = (
        alarm
        for alarm in ALARMS.values()
        if alarm.get("MetricName") == "Duration"
        and alarm["Dimensions"][0]["Value"] == {"Ref": function}
    )
    assert alarm["Threshold"] == FUNCTIONS[function]["Timeout"] * 800


def test_stream_and_quarantine_are_watched() -> None:
    assert alarmed("IteratorAge", FunctionName={"Ref": "ScoreStreamFunction"})
    assert alarmed("Quarantined", service=STACK)
    assert alarmed(
        "OnFailureDestinationDeliveredEventCount",
        EventSourceMappingUUID={"Ref": "ScoreStreamMapping"},
    )
    (quarantined,) = (a for a in ALARMS.values() if a.get("MetricName") == "Quarantined")
    assert quarantined["Namespace"] == "Headrace"


@pytest.mark.parametrize("metric", ["5XXError", "Latency"])
def test_endpoint_is_watched(metric: str) -> None:
    api = {"Fn::Sub": "${AWS::StackName}-scoring"}
    assert alarmed(metric, ApiName=api, Stage={"Ref": "StageName"})


@pytest.mark.parametrize(
    ("alarm", "rung"), [("LastRungAlarm", "last"), ("BatchRungAlarm", "batch")]
)
def test_share_of_a_rung_is_watched_over_all_answers(alarm: str, rung: str) -> None:
    queries = {query["Id"]: query for query in ALARMS[alarm]["Metrics"]}
    assert [name for name, query in queries.items() if query["ReturnData"]] == ["share"]
    assert queries["share"]["Expression"] == (
        f"IF(answers >= 100, 100 * FILL({rung}, 0) / answers, 0)"
    )
    measured = {
        name: query["MetricStat"]["Metric"]["MetricName"]
        for name, query in queries.items()
        if "MetricStat" in query
    }
    assert measured == {
        "real": "RungRealTime", "last": "RungLast", "batch": "RungBatch", "prior": "RungPrior",
    }  # fmt: skip
    summed = re.findall(r"FILL\((\w+), 0\)", queries["answers"]["Expression"])
    assert summed == list(measured)
    for name in measured:
        stat = queries[name]["MetricStat"]
        assert (stat["Stat"], stat["Period"], stat["Metric"]["Namespace"]) == (
            "Sum", 300, "Headrace",
        )  # fmt: skip
        assert stat["Metric"]["Dimensions"] == [{"Name": "service", "Value": STACK}]
    assert ALARMS[alarm]["Threshold"] == {"Ref": "RungSharePercent"}


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarm_says_what_is_wrong_and_notifies(alarm: str) -> None:
    said, _, runbook = ALARMS[alarm]["AlarmDescription"]["Fn::Sub"].partition(" Runbook: ")
    assert said.endswith(".")
    assert runbook.startswith("${RunbookBase}/")
    assert ALARMS[alarm]["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"


def test_every_route_wants_a_signature() -> None:
    stack = read_stack(TEMPLATE)
    assert {route.signed for route in stack.routes} == {True}
    assert {f"{route.method} {route.resource}" for route in stack.routes} == {
        "POST /scores",
        "POST /scores/batch",
        "GET /scores/{id}",
        "GET /entities/{entity}/{id}/score",
        "GET /health",
    }


@pytest.mark.parametrize(
    ("auth", "named"), [("iam", "AWS_IAM"), ("jwt", "JWT"), ("key", "KEY"), ("other", "AWS_IAM")]
)
def test_every_route_wants_what_a_parameter_says_and_none_is_open(auth: str, named: str) -> None:
    pool = "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_pool"
    resolver = Resolver(SOURCE, {"ApiAuth": auth, "UserPoolArn": pool}, "s")
    body = of_type("AWS::Serverless::Api")["ScoringApi"]["DefinitionBody"]
    operations = [operation for path in body["paths"].values() for operation in path.values()]
    assert len(operations) == 5
    for operation in operations:
        assert resolver.resolve(operation["security"]) == [{named: []}]
    schemes = resolver.resolve(body["components"]["securitySchemes"])
    assert named in schemes
    assert ("JWT" in schemes) == (auth == "jwt")
    keys = {name for name, each in RESOURCES.items() if each.get("Condition") == "TakesKeys"}
    assert keys == {"ScoringApiKey", "ScoringUsagePlan", "ScoringUsagePlanKey"}


@pytest.mark.parametrize(("auth", "told"), [("jwt", "security"), ("key", "leave ApiAuth at iam")])
def test_local_mode_refuses_callers_that_it_cannot_check(auth: str, told: str) -> None:
    with pytest.raises(NotEmulated, match=told):
        read_stack(TEMPLATE, {"ApiAuth": auth})


def test_routes_are_those_of_the_function_s_events_that_permit_them() -> None:
    events = FUNCTIONS["ScoreRequestFunction"]["Events"].values()
    permitted = {f"{e['Properties']['Method']} {e['Properties']['Path']}" for e in events}
    assert permitted == {f"{r.method} {r.resource}" for r in read_stack(TEMPLATE).routes}


def test_local_mode_reads_the_settings_of_the_stream_s_mapping() -> None:
    (mapping,) = read_stack(TEMPLATE, {"BatchSize": "77", "BatchWindowSeconds": "3"}).mappings
    assert (mapping.batch_size, mapping.window_seconds) == (77, 3.0)
    assert (mapping.bisect, mapping.reports_item_failures) == (True, True)
    assert (mapping.max_retries, mapping.max_record_age_seconds) == (10, 21600)
    assert mapping.failure_bucket == "headrace-local-quarantinebucket"
    assert (mapping.starting_position, mapping.starting_timestamp) == ("TRIM_HORIZON", None)
    assert (mapping.parallelization, mapping.filters) == (1, ())


def test_local_mode_reads_what_else_a_mapping_may_say(tmp_path: Path) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("StartingPosition: TRIM_HORIZON", "StartingPosition: AT_TIMESTAMP", 1)
    text = text.replace(
        "ParallelizationFactor: 1",
        """ParallelizationFactor: 10
      StartingPositionTimestamp: 1700000000.5
      TumblingWindowInSeconds: 0
      FilterCriteria: { Filters: [{ Pattern: '{"data": {"source": ["transactions"]}}' }] }""",
        1,
    )
    changed = tmp_path / "template.yaml"
    changed.write_text(text, encoding="utf-8")
    (mapping,) = read_stack(changed).mappings
    assert (mapping.starting_position, mapping.starting_timestamp) == ("AT_TIMESTAMP", 1700000000.5)
    assert mapping.parallelization == 10
    assert mapping.filters == ('{"data": {"source": ["transactions"]}}',)


def test_mapping_that_says_nothing_has_the_defaults_of_aws(tmp_path: Path) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    start = text.index("      BatchSize: !Ref BatchSize")
    end = text.index("      MetricsConfig:", start)
    changed = tmp_path / "template.yaml"
    changed.write_text(text[:start] + text[end:], encoding="utf-8")
    (mapping,) = read_stack(changed).mappings
    assert (mapping.batch_size, mapping.window_seconds, mapping.parallelization) == (100, 0.0, 1)
    assert (mapping.bisect, mapping.reports_item_failures) == (False, False)
    assert (mapping.max_retries, mapping.max_record_age_seconds) == (None, None)
    assert mapping.failure_destination is None


def test_local_mode_gives_all_functions_the_same_environment() -> None:
    stack = read_stack(TEMPLATE, {"TableBucket": "lake"})
    environments = [dict(each.environment) for each in stack.functions.values()]
    assert len(environments) == len(FUNCTIONS)
    assert all(each == environments[0] for each in environments)
    assert environments[0]["HEADRACE_STATE_TABLE"] == "headrace-local-StateTable"
    assert environments[0]["HEADRACE_STREAM"] == "headrace-local-EventStream"


def test_local_mode_reads_tables_stream_and_schedule() -> None:
    stack = read_stack(TEMPLATE, {"BatchSchedule": "rate(2 hours)", "StreamShards": "3"})
    keys = {table.name: dict(table.key_roles) for table in stack.tables}
    assert keys == {
        "headrace-local-StateTable": {"entity": "HASH"},
        "headrace-local-FeatureTable": {"row": "HASH"},
        "headrace-local-ScoreTable": {"id": "HASH"},
    }
    assert {table.ttl_attribute for table in stack.tables} == {"expires"}
    assert [stream.shard_count for stream in stack.streams] == [3]
    assert [each.expression for each in stack.schedules] == ["rate(2 hours)"]


def test_tables_are_loaded_on_a_schedule_only_where_there_is_a_bucket_of_files() -> None:
    assert "LoadBatchFunction" not in read_stack(TEMPLATE).functions
    stack = read_stack(TEMPLATE, {"TableBucket": "lake", "LoadSchedule": "rate(2 hours)"})
    schedules = {each.function: each.expression for each in stack.schedules}
    assert schedules["LoadBatchFunction"] == "rate(2 hours)"
    assert len(schedules) == 2


def test_everything_that_local_mode_leaves_out_has_a_reason() -> None:
    left_out = read_stack(TEMPLATE).left_out
    assert all(left_out.values())
    always = {alarm for alarm in ALARMS if RESOURCES[alarm].get("Condition") in {None, "RunsAlone"}}
    assert {"ScoreStreamLogGroup", "QuarantineBucketPolicy", *always} <= left_out.keys()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("Type: AWS::Kinesis::Stream", "Type: AWS::SQS::Queue"), "type is AWS::SQS::Queue"),
        (("      ShardCount: !Ref StreamShards", "      DesiredShardLevelMetrics: []"), "Desired"),
        (("ParallelizationFactor: 1", "ParallelizationFactor: 11"), "is 11; expected 1 to 10"),
        (
            ("ParallelizationFactor: 1", "TumblingWindowInSeconds: 5"),
            "ScoreStreamMapping: TumblingWindowInSeconds is 5; .*Leave it out: .*views",
        ),
        (("ParallelizationFactor: 1", "Enabled: false"), "Enabled is False; local mode plays True"),
        (("MaximumRecordAgeInSeconds: 21600", "MaximumRecordAgeInSeconds: 59"), "60 and more"),
        (("MaximumRetryAttempts: 10", "MaximumRetryAttempts: 10001"), "expected -1 to 10000"),
        (("      BatchSize: !Ref BatchSize", "      BatchSize: 10001"), "expected 1 to 10000"),
        (("StartingPosition: TRIM_HORIZON", "StartingPosition: AT_TIMESTAMP"), "is None; expected"),
        (
            ("ParallelizationFactor: 1", "StartingPositionTimestamp: 1700000000"),
            "StartingPosition is TRIM_HORIZON and StartingPositionTimestamp is 1700000000",
        ),
        (
            ("ParallelizationFactor: 1", "FilterCriteria: { Filters: [{ Pattern: '{}' }] }"),
            "mapping ScoreStreamMapping: filter: got {}; local mode plays at least one field",
        ),
        (
            ("Destination: !GetAtt QuarantineBucket.Arn #", "Destination: 'arn:aws:sqs:x:1:q' #"),
            "failure destination is 'sqs'; local mode plays 's3'",
        ),
        (
            (
                "      EventSourceArn: !GetAtt EventStream.Arn",
                "      EventSourceArn: !Sub '${EventStream.Arn}/consumer/fan:1'",
            ),
            "no enhanced fan-out. Name the stream itself",
        ),
        (
            (
                "      EventSourceArn: !GetAtt EventStream.Arn",
                "      EventSourceArn: arn:aws:kinesis:us-east-1:123456789012:stream/elsewhere",
            ),
            "stream is 'elsewhere'; local mode plays 'headrace-local-EventStream'",
        ),
        (("BillingMode: PAY_PER_REQUEST", "BillingMode: PROVISIONED"), "BillingMode"),
        (("StreamMode: PROVISIONED", "StreamMode: ON_DEMAND"), "StreamMode"),
        (("          /health:\n", "          /health/{all+}:\n"), "greedy"),
        (("[{ AWS_IAM: [] }]]]", "[{ KEY: [] }]]]"), "security"),
    ],
)
def test_what_local_mode_does_not_play_is_refused(
    change: tuple[str, str], expected: str, tmp_path: Path
) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert change[0] in text
    changed = tmp_path / "template.yaml"
    changed.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(NotEmulated, match=expected):
        read_stack(changed)


def test_template_that_is_not_sam_is_refused_with_the_reason(tmp_path: Path) -> None:
    changed = tmp_path / "template.yaml"
    changed.write_text("Resources:\n  F:\n    Type: AWS::Serverless::Function\n", encoding="utf-8")
    with pytest.raises(NotEmulated, match="not a valid SAM template: Resource with id"):
        read_stack(changed)


def test_unknown_parameter_is_refused() -> None:
    with pytest.raises(NotEmulated, match="parameter 'BatchSzie'"):
        read_stack(TEMPLATE, {"BatchSzie": "1"})
