"""template.yaml on LocalStack 4.14: CloudFormation, the real mapping, the gateway and the schedule.

LocalStack transforms the template itself and fires its triggers itself; nothing of Headrace's local
mode has a part in it but the process that a function runs in (infra/localstack). Uses a LocalStack
that runs already, where localstack-client or AWS_ENDPOINT_URL says, or starts one.
"""

from __future__ import annotations

import json
import time
import uuid
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import served
from tests.deployed import Deployed, awaited, deploy, transaction
from tests.localstack import running_localstack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.localstack]

PARAMETERS = {"BatchSchedule": "rate(1 minute)", "StoreBudgetMs": "2000"}
LATENCIES = 10
BURST = 200


@pytest.fixture(scope="module")
def stack(root: Path, layers: dict[str, Path], tell: Callable[[str], None]) -> Iterator[Deployed]:
    with served("LocalStack", running_localstack) as endpoint:
        deployed = Deployed(endpoint, f"headrace-{uuid.uuid4().hex[:6]}")
        began = time.monotonic()
        deploy(deployed, root / "template.yaml", layers, PARAMETERS)
        tell(f"deployed in {time.monotonic() - began:.0f} s")
        yield deployed


@pytest.fixture(scope="module")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes into the log of the run, whatever pytest captures."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nlocalstack: {line}")  # noqa: T201 - the run's figures

    return write


def stored(stack: Deployed, name: str, seconds: float = 60) -> dict[str, Any]:
    """The score record of an event, once it is stored."""
    item = awaited(lambda: stack.score(f"event#{name}"), seconds)
    record: dict[str, Any] = json.loads(item["record"]["S"])
    return record


def test_every_resource_of_the_template_is_made(stack: Deployed, root: Path) -> None:
    text = (root / "template.yaml").read_text(encoding="utf-8")
    assert "ScoreStreamMapping:" in text
    wanted = {"ScoreStreamMapping", "ScoreBatchRetries", "ScoringApi", "EventStream", "ScoreTable"}
    assert wanted <= set(stack.resources)


def test_record_on_the_stream_is_scored_by_the_mapping(stack: Deployed) -> None:
    stack.put(json.dumps(transaction("first")).encode())
    assert stored(stack, "first")["rung"] == "real_time"


def test_records_are_scored_within_seconds_of_their_put(
    stack: Deployed, tell: Callable[[str], None]
) -> None:
    latencies = []
    for number in range(LATENCIES):
        began = time.monotonic()
        stack.put(json.dumps(transaction(f"timed-{number}")).encode())
        stored(stack, f"timed-{number}")
        latencies.append(time.monotonic() - began)
    tell(f"put to score: median {median(latencies):.2f} s, most {max(latencies):.2f} s")
    assert median(latencies) < 5


def test_each_record_of_a_burst_counts_once(stack: Deployed, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    events = [transaction(f"burst-{number}", customer=7) for number in range(BURST)]
    stack.put(*(json.dumps(each).encode() for each in events), key="7")
    records = [stored(stack, f"burst-{number}") for number in range(BURST)]
    tell(f"{BURST} records put and scored in {time.monotonic() - began:.1f} s")
    counts = [record["features"]["customer_count_1d"] for record in records]
    assert counts == [float(number + 1) for number in range(BURST)]


def test_endpoint_scores_looks_up_and_refuses(stack: Deployed) -> None:
    assert stack.ask("GET", "/health").status == 200
    answer = stack.ask("POST", "/scores", transaction("asked"))
    assert (answer.status, answer.json()["rung"]) == (200, "real_time")
    assert stack.ask("GET", "/scores/first").json()["id"] == "first"
    latest = stack.ask("GET", "/entities/customer/596/score")
    assert latest.json()["rung"] in {"last", "real_time"}
    assert stack.ask("GET", "/scores/nobody").status == 404
    assert stack.ask("POST", "/scores", {"source": "transactions"}).status == 422
    assert stack.ask("POST", "/scores?record=true", transaction("recorded")).status == 200
    assert stored(stack, "recorded")["entities"]["customer"] == "596"


def test_localstack_lets_unsigned_requests_in_unlike_aws(stack: Deployed) -> None:
    """The free edition checks no IAM; local mode's own front does (test_local_aws)."""
    assert stack.ask_unsigned("/health") == 200


def test_bad_record_goes_to_quarantine_and_the_others_are_scored(stack: Deployed) -> None:
    stack.put(b"not JSON")
    stack.put(json.dumps(transaction("after-a-bad-one")).encode())
    assert stored(stack, "after-a-bad-one")
    (kept,) = stack.kept("quarantine/not_json/")
    assert kept["data"] == "bm90IEpTT04="


def test_failed_invocation_goes_to_the_bucket_after_its_retries(stack: Deployed) -> None:
    function = stack.resources["ScoreBatchFunction"]
    stack.client("lambda").invoke(
        FunctionName=function, InvocationType="Event", Payload=b'{"as_of": "yesterday"}'
    )
    (failed,) = awaited(lambda: stack.kept(f"aws/lambda/async/{function}/") or None, 60)
    assert failed["requestContext"]["condition"] == "RetriesExhausted"
    assert failed["requestContext"]["approximateInvokeCount"] == 3
    assert failed["requestPayload"] == {"as_of": "yesterday"}
    assert failed["responsePayload"]["errorType"] == "RunRejected"


def test_batch_that_fails_every_retry_goes_to_the_failure_destination(
    stack: Deployed, tell: Callable[[str], None]
) -> None:
    """The function is deployed with a state table that is not there, and mended afterwards."""
    functions, name = stack.client("lambda"), stack.resources["ScoreStreamFunction"]
    mapping = stack.resources["ScoreStreamMapping"]
    described = functions.get_function_configuration(FunctionName=name)
    variables = described["Environment"]["Variables"]
    configure(functions, name, variables | {"HEADRACE_STATE_TABLE": "gone"})
    stack.put(json.dumps(transaction("lost")).encode())
    began = time.monotonic()
    (failed,) = awaited(lambda: stack.kept(f"aws/lambda/{mapping}/") or None, 180)
    tell(f"failed batch in its bucket after {time.monotonic() - began:.0f} s")
    assert failed["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert failed["requestContext"]["approximateInvokeCount"] == 11
    (record,) = failed["payload"]["Records"]
    assert record["kinesis"]["partitionKey"] == "596"

    configure(functions, name, variables)
    stack.put(json.dumps(transaction("mended")).encode())
    assert stored(stack, "mended")
    assert stack.score("event#lost") is None


def test_schedule_starts_a_batch_run(stack: Deployed) -> None:
    assert awaited(lambda: stack.score("run#current"), 90)


def configure(functions: Any, name: str, variables: dict[str, str]) -> None:
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
    functions.get_waiter("function_updated").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    version = functions.publish_version(FunctionName=name)["Version"]
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
