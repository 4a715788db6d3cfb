"""What rings has a page that helps, and the dashboard shows what the code emits."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace.adapters import telemetry
from headrace.adapters.lookups import Report as Lookups
from headrace.batch import End, Ran
from headrace.errors import BundleError
from headrace.outcome import Outcome
from headrace.requests import EntityScore
from headrace.runs import Order, Report, Start, Step, Trigger
from headrace.scores import Reason, Rung, ScoreRecord
from headrace.table_load import LoadEnd, TableLoad
from headrace.watch import Finding, Kind
from tests.fakes import NOON, iso

ROOT = Path(__file__).resolve().parents[2]
SOURCE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
ALARMS = {
    name: resource["Properties"]
    for name, resource in SOURCE["Resources"].items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
}
RUNBOOKS = ROOT / "infra" / "runbooks"
PROPERTIES = {"MaximumRecordAgeInSeconds"}
PARTS = ["What it means", "What is felt", "Look", "Mend", "Over when"]

Emitted = set[tuple[str, frozenset[str]]]

AWS_METRICS = {
    "AWS/ApiGateway": {"Count", "4XXError", "5XXError", "Latency"},
    "AWS/DynamoDB": {"ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"},
    "AWS/Kinesis": {"IncomingRecords", "WriteProvisionedThroughputExceeded"},
    "AWS/Lambda": {
        "DestinationDeliveryFailures",
        "Duration",
        "Errors",
        "IteratorAge",
        "OnFailureDestinationDeliveredEventCount",
        "Throttles",
    },
    "AWS/States": {"ExecutionsFailed", "ExecutionsTimedOut"},
}
"""Of AWS's own, those that are used here. Source: each service's page on CloudWatch metrics."""


def page_of(alarm: str) -> Path:
    """The runbook that an alarm names."""
    said = str(ALARMS[alarm]["AlarmDescription"]["Fn::Sub"])
    return RUNBOOKS / said.rpartition("${RunbookBase}/")[2]


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarm_names_its_page_and_the_page_its_alarm(alarm: str) -> None:
    text = page_of(alarm).read_text(encoding="utf-8")
    assert f"\nAlarm `{alarm}`.\n" in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS


def test_every_page_has_its_alarm() -> None:
    assert {page_of(alarm) for alarm in ALARMS} == set(RUNBOOKS.glob("*.md"))
    assert SOURCE["Parameters"]["RunbookBase"]["Default"] == "infra/runbooks"


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_page_links_to_pages_that_are_there_and_names_what_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / link).is_file(), link
    named = set(
        re.findall(r"`([A-Z]\w+(?:Function|Seconds|Percent|Schedule|Segments|Bucket))`", text)
    )
    assert named <= SOURCE["Resources"].keys() | SOURCE["Parameters"].keys() | PROPERTIES


FALLEN = ScoreRecord(
    id="1", source="payments", event_time=iso(NOON), score=0.1, rung=Rung.PRIOR, model_version="1",
    definition_hash="h", late=False, entities={}, features={}, imputed={}, ages={},
    scored_at=iso(NOON), reason=Reason.STORE_SLOW,
)  # fmt: skip


def looked_up(rung: Rung) -> EntityScore:
    return EntityScore(
        entity="customer", entity_id="1", score=0.1, rung=rung, age=None, model_version="1",
        definition_hash="h", record=None, reason=Reason.STORE_SLOW,
    )  # fmt: skip


@pytest.fixture
def emitted(capsys: pytest.CaptureFixture[str]) -> Emitted:
    """Name and dimensions of every metric that the code can emit.

    Powertools adds the service, whose name the template gives, to all of them.
    """
    assert "POWERTOOLS_SERVICE_NAME" in SOURCE["Globals"]["Function"]["Environment"]["Variables"]
    some = Counter(some=1)
    finding = Finding("amount", Kind.CONSTANT, NOON, 100, 1.0, 0.1)
    outcome = Outcome(
        records=1, scored=1, quarantined=some, imputed=some, invalid=some, accepted=some,
        ages={"customer": [1.0]}, stale=some, findings=[finding], lags=[1.0], lateness=[1.0],
        late=1, unknown_fields=some, degraded=some, rungs=Counter(Rung),
    )  # fmt: skip
    telemetry.note_outcome(outcome)
    answered = Outcome(records=1)
    answered.note([FALLEN], {})
    telemetry.note_answers(answered)
    telemetry.note_lookups(Lookups([1.0], 1, is_open=True))
    for rung in Rung:
        if rung is not Rung.REAL_TIME:
            telemetry.note_look_up(looked_up(rung))
    telemetry.note_model_not_loaded(BundleError("altered"))
    telemetry.note_not_compiled("too far off")
    report = Report(
        as_of="2026-05-01T00:00:00Z", trigger=Trigger.SCHEDULE, complete=True, segments=1,
        segments_left=0, resumed=0, seconds=1.0, read_share=0.5,
    )  # fmt: skip
    order = Order(Step.RUN, Start(NOON, Trigger.SCHEDULE))
    telemetry.note_run(order, Ran(End.COMPLETE, report))
    telemetry.note_loads([TableLoad("profile", LoadEnd.LOADED, 1)])
    telemetry.metrics.flush_metrics()
    lines = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    return {
        (metric["Name"], frozenset({*names, "service"}))
        for line in lines
        for told in line.get("_aws", {}).get("CloudWatchMetrics", ())
        for names in told["Dimensions"]
        for metric in told["Metrics"]
    }


def widgets() -> list[dict[str, Any]]:
    """The dashboard's, as CloudWatch gets them but for references to alarms."""
    body = SOURCE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    named = re.findall(r"\$\{(\w+Alarm)\.Arn\}", body)
    assert set(named) <= ALARMS.keys()
    assert not [name for name in named if "Condition" in SOURCE["Resources"][name]]
    text = body.replace("${AWS::StackName}", "stack")
    found: list[dict[str, Any]] = json.loads(re.sub(r"\$\{([\w:.]+)\}", r"\1", text))["widgets"]
    return found


def shown() -> Emitted:
    """Namespace and name of every metric on the dashboard, with its dimensions."""
    found: Emitted = set()
    for widget in widgets():
        for metric in widget["properties"].get("metrics", ()):
            if isinstance(metric[0], str):
                names = [part for part in metric[2:] if isinstance(part, str)][::2]
                found.add((f"{metric[0]}:{metric[1]}", frozenset(names)))
            else:
                found |= searched(metric[0]["expression"])
    return found


def searched(expression: str) -> Emitted:
    schema = r"SEARCH\('\{Headrace,([\w,]+)\} MetricName=\"(\w+)\" service=\"stack\"'"
    return {
        (f"Headrace:{name}", frozenset(dimensions.split(",")))
        for dimensions, name in re.findall(schema, expression)
    }


def alarmed() -> Emitted:
    stats = [
        query["MetricStat"]["Metric"]
        for alarm in ALARMS.values()
        for query in alarm.get("Metrics", ())
        if "MetricStat" in query
    ]
    plain = [alarm for alarm in ALARMS.values() if "MetricName" in alarm]
    return {
        (
            f"{metric['Namespace']}:{metric['MetricName']}",
            frozenset(dimension["Name"] for dimension in metric["Dimensions"]),
        )
        for metric in [*stats, *plain]
    }


def test_whatever_is_shown_or_alarmed_is_emitted(emitted: Emitted) -> None:
    ours = {(f"Headrace:{name}", dimensions) for name, dimensions in emitted}
    aws = {f"{namespace}:{name}" for namespace, names in AWS_METRICS.items() for name in names}
    used = shown() | alarmed()
    assert {each for each in used if each[0].startswith("Headrace:")} <= ours
    assert {name for name, _ in used if not name.startswith("Headrace:")} == aws


def test_dashboard_answers_four_questions() -> None:
    texts = [w["properties"]["markdown"] for w in widgets() if w["type"] == "text"]
    assert texts == [
        "## Are scores right?",
        "## Are they fresh?",
        "## Are they fast?",
        "## Are they cheap?",
    ]
    names = {name.partition(":")[2] for name, _ in shown()}
    assert names >= {
        *("RungRealTime", "Quarantined", "Imputed", "Repeated", "Late", "Findings"),
        *("ScoreLag", "IteratorAge", "Freshness", "Lateness", "Stale"),
        *("Latency", "StoreMs", "Fallbacks", "5XXError"),
        *("ConsumedWriteCapacityUnits", "Duration", "Conflicts", "Scored"),
    }


def test_widgets_lie_side_by_side_and_every_expression_has_its_terms() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets():
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        cells = {(x + i, y + j) for i in range(width) for j in range(height)}
        assert x + width <= 24
        assert not cells & taken
        taken |= cells
        metrics = widget["properties"].get("metrics", [])
        ids = {part["id"] for m in metrics for part in m if isinstance(part, dict) and "id" in part}
        for expression in [m[0]["expression"] for m in metrics if isinstance(m[0], dict)]:
            if not expression.startswith("SEARCH"):
                assert set(re.findall(r"\b[a-z]\w*", expression)) <= ids
