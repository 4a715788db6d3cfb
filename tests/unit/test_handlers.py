"""The handlers, with the events that AWS sends and the answers that it takes."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from headrace import bootstrap
from headrace.adapters.kinesis import decode_records, failures
from headrace.errors import BundleError, RunRejected, RunUnfinished
from headrace.events import Record
from headrace.imputation import Statistic
from headrace.loading import load_definition
from headrace.local.moto_server import serve_moto
from headrace.offline.bundle import write_bundle
from headrace.offline.splits import Split
from headrace.offline.train import Trained
from headrace.outcome import Outcome
from headrace.policies import steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATES, SCORES, BUCKET, STREAM = "h-states", "h-scores", "h-refused", "h-events"
NOW = datetime.now(UTC).replace(microsecond=0)


def context(left_ms: int = 60_000) -> Any:
    return SimpleNamespace(
        function_name="function",
        memory_limit_in_mb=1769,
        invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:function",
        aws_request_id="request-1",
        get_remaining_time_in_millis=lambda: left_ms,
    )


def transaction(number: int | str, **fields: Any) -> dict[str, Any]:
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": NOW.isoformat(),
        "customer_id": 1,
        "terminal_id": 2,
        "amount": 12.5,
    } | fields


def kinesis_event(payloads: list[bytes], first: int = 0) -> dict[str, Any]:
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": f"4959{number:052d}",
                    "data": base64.b64encode(payload).decode(),
                    "approximateArrivalTimestamp": NOW.timestamp() + number / 1_000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000006:4959{number:052d}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
                "awsRegion": "eu-west-1",
                "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/events",
            }
            for number, payload in enumerate(payloads, first)
        ]
    }


# Kinesis, without AWS


def test_kinesis_records_are_decoded_in_order() -> None:
    records = decode_records(kinesis_event([b"\xff\x00", b"{}"]))
    at = int(NOW.timestamp() * 1_000_000)
    first = f"4959{0:052d}"
    assert records[0] == Record(b"\xff\x00", at, f"shardId-000000000006:{first}", first)
    assert (records[1].data, records[1].arrival) == (b"{}", at + 1_000)


def test_arrival_is_exact_to_the_millisecond() -> None:
    event = kinesis_event([b""])
    event["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = 1545084650.987
    assert decode_records(event)[0].arrival == 1_545_084_650_987_000


def test_batch_without_a_failure_reports_none() -> None:
    assert failures(Outcome(records=3)) == {"batchItemFailures": []}


def test_first_failure_alone_is_reported() -> None:
    outcome = Outcome()
    outcome.fail_at(5, "s5", "first said")
    outcome.fail_at(2, "s2", "earlier")
    outcome.fail_at(3, "s3", "later")
    assert failures(outcome) == {"batchItemFailures": [{"itemIdentifier": "s2"}]}
    assert outcome.error == "earlier"


# The three functions on moto


@dataclass
class Functions:
    stream: Any
    request: Any
    batch: Any

    def send(self, *payloads: bytes | dict[str, Any], first: int = 0, left_ms: int = 60_000) -> Any:
        data = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in payloads]
        return self.stream.lambda_handler(kinesis_event(data, first), context(left_ms))

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, Any]]:
        """Status, JSON body and headers of an answer."""
        event = api_event(method, path, body, query)
        answer = self.request.lambda_handler(event, context())
        json.dumps(answer)  # Lambda sends it on as JSON
        headers = {name: values[0] for name, values in answer["multiValueHeaders"].items()}
        return int(answer["statusCode"]), json.loads(answer["body"]), headers


def api_event(
    method: str,
    path: str,
    body: str | bytes | dict[str, Any] | None = None,
    query: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What API Gateway sends."""
    encoded = isinstance(body, bytes)
    if isinstance(body, dict):
        text: str | None = json.dumps(body)
    else:
        text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {k: [v] for k, v in (query or {}).items()} or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"stage": "live", "requestId": "r", "path": f"/live{path}",
                           "httpMethod": method, "resourcePath": path},
        "body": text,
        "isBase64Encoded": encoded,
    }  # fmt: skip


def handler(root: Path, name: str) -> Any:
    path = root / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"function_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model_dir(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference definition with a small model, whatever bundle lies beside it."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(root / "layers" / "model" / "definition.py", folder)
    write_model(folder, LogisticRegression())
    return folder


def write_model(folder: Path, estimator: Any) -> None:
    """A bundle beside the definition, of an estimator fitted on next to nothing."""
    definition = load_definition(folder / "definition.py")
    rows = [[float(n % 7)] * len(definition.inputs) for n in range(20)]
    fitted = estimator.fit(rows, [int(row[0] > 3) for row in rows])
    statistics = {
        name: [Statistic(0.0) for _ in steps(definition.policy(name))]
        for name in definition.columns
    }
    write_bundle(
        folder, definition, Trained(fitted, statistics, rows, Split(NOW, NOW, NOW, NOW), 0.1, {})
    )


@pytest.fixture(scope="module")
def functions(root: Path, model_dir: Path) -> Iterator[Functions]:
    with serve_moto() as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "HEADRACE_STATE_TABLE": STATES,
            "HEADRACE_FEATURE_TABLE": "rows",
            "HEADRACE_SCORE_TABLE": SCORES,
            "HEADRACE_QUARANTINE_BUCKET": BUCKET,
            "HEADRACE_STREAM": STREAM,
            "HEADRACE_MODEL_DIR": str(model_dir),
            "HEADRACE_STORE_BUDGET_MS": "5000",  # moto on a loaded machine is no fault
            "POWERTOOLS_SERVICE_NAME": "headrace",
        }.items():
            environment.setenv(name, value)
        bootstrap.forget()
        create_resources()
        yield Functions(
            handler(root, "score_stream"),
            handler(root, "score_request"),
            handler(root, "score_batch"),
        )
        bootstrap.forget()


def create_resources() -> None:
    dynamodb = boto3.client("dynamodb")
    for name, key in ((STATES, "entity"), (SCORES, "id")):
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    boto3.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    boto3.client("kinesis").create_stream(StreamName=STREAM, ShardCount=1)


def assert_problem(answer: tuple[int, Any, dict[str, Any]], status: int) -> Any:
    code, body, headers = answer
    assert (code, body["status"], body["type"]) == (status, status, "about:blank")
    assert headers["Content-Type"] == "application/problem+json"
    assert body["title"]
    assert body["detail"]
    return body


def test_stream_event_is_scored_and_found_by_event_and_entity(functions: Functions) -> None:
    assert functions.send(transaction(100, customer_id=100)) == {"batchItemFailures": []}
    status, found, headers = functions.call("GET", "/scores/100")
    assert (status, found["id"], found["rung"]) == (200, "100", "real_time")
    assert headers["Content-Type"] == "application/json"
    status, entity, _ = functions.call("GET", "/entities/customer/100/score")
    assert (status, entity["rung"], entity["record"]) == (200, "last", found)


def test_poison_on_the_stream_goes_to_the_bucket_and_fails_nothing(functions: Functions) -> None:
    assert functions.send(b"{", transaction(101), b"\xff", first=50) == {"batchItemFailures": []}
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    reasons = {each["Key"].split("/")[1] for each in listed}
    assert reasons >= {"not_json", "not_utf8"}
    assert functions.call("GET", "/scores/101")[0] == 200


def test_posted_event_is_scored_and_leaves_no_trace(functions: Functions) -> None:
    event = transaction(200, customer_id=200)
    status, found, _ = functions.call("POST", "/scores", event)
    assert (status, found["id"], found["features"]["customer_count_1d"]) == (200, "200", 1.0)
    assert "recorded" not in found
    assert functions.call("GET", "/scores/200")[0] == 404
    assert functions.call("POST", "/scores", event)[1]["score"] == found["score"]


def test_recorded_event_goes_onto_the_stream(functions: Functions) -> None:
    event = transaction(201)
    del event["source"]
    status, found, _ = functions.call("POST", "/scores", event, {"record": "true"})
    assert status == 200
    kinesis = boto3.client("kinesis")
    shard = kinesis.list_shards(StreamName=STREAM)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(
        StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (put,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert found["recorded"] == put["SequenceNumber"]
    assert json.loads(put["Data"]) == transaction(201)


@pytest.mark.parametrize(
    "body",
    [transaction(215), transaction(216, amount="much"), "{", "", None, "[]", "\u00fc" * 40_000],
)
def test_score_is_answered_as_by_its_route(
    functions: Functions, body: str | dict[str, Any] | None
) -> None:
    event = api_event("POST", "/scores", body)
    answers = [
        functions.request.lambda_handler(event, context()),
        functions.request.routes().resolve(event, context()),
    ]
    bodies = [json.loads(answer.pop("body")) for answer in answers]
    assert answers[0] == answers[1]
    assert [each.pop("scored_at", "") > "" for each in bodies] == [
        answers[0]["statusCode"] == 200
    ] * 2
    assert bodies[0] == bodies[1]


def test_refused_event_is_a_422_with_every_fault(functions: Functions) -> None:
    event = transaction("", customer_id=None, terminal_id=1.5)
    body = assert_problem(functions.call("POST", "/scores", event), 422)
    found = {fault["field"]: fault["reason"] for fault in body["faults"]}
    assert found == {
        "transaction_id": "out_of_bounds", "customer_id": "missing", "terminal_id": "wrong_type",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 400),
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (b'{"transaction_id": "\xff"}', 400),
        (b"\xff\xfe", 400),
        ('{"zone": "' + "x" * 70_000 + '"}', 413),
        ('{"source": "labels"}', 422),
        ("{}", 422),
        ('{"zone": 1' + "0" * 30 + "}", 422),
    ],
    ids=["none", "empty", "cut", "array", "bytes-inside", "bytes", "large", "labels", "nothing",
         "integer"],
)  # fmt: skip
def test_body_that_is_no_event_is_a_problem(
    functions: Functions, body: str | bytes | None, status: int
) -> None:
    found = assert_problem(functions.call("POST", "/scores", body), status)
    assert found["faults"]


def test_body_in_base64_is_read(functions: Functions) -> None:
    body = json.dumps(transaction(203)).encode()
    assert functions.call("POST", "/scores", body)[0] == 200


def test_batch_answers_each_event_with_a_status_of_its_own(functions: Functions) -> None:
    events = [transaction(300), transaction(301, terminal_id=1.5), 17, transaction(302)]
    status, found, _ = functions.call("POST", "/scores/batch", {"events": events})
    assert (status, [each["status"] for each in found["scores"]]) == (200, [200, 422, 400, 200])
    assert found["scores"][0]["record"]["id"] == "300"
    assert found["scores"][1]["faults"][0]["field"] == "terminal_id"


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"events": 1}', b"\xff"], ids=repr)
def test_batch_body_of_another_shape_is_a_problem(functions: Functions, body: str | bytes) -> None:
    assert_problem(functions.call("POST", "/scores/batch", body), 400)


def test_batch_of_more_than_a_hundred_is_too_large(functions: Functions) -> None:
    events = [transaction(n) for n in range(101)]
    body = assert_problem(functions.call("POST", "/scores/batch", {"events": events}), 413)
    assert body["detail"] == "events in a batch: got 101; expected at most 100"


def test_score_that_is_not_there_is_a_404(functions: Functions) -> None:
    body = assert_problem(functions.call("GET", "/scores/nonesuch"), 404)
    assert "'nonesuch' has no score" in body["detail"]


@pytest.mark.parametrize(
    ("number", "path"), [("a b", "a%20b"), ("é", "%C3%A9"), ("a/b", "a%2Fb"), ("50%", "50%25")]
)
def test_score_is_found_whatever_characters_its_id_has(
    functions: Functions, number: str, path: str
) -> None:
    """A REST API hands the path over as it came, percent-encoded."""
    functions.send(transaction(number, customer_id=number))
    assert functions.call("GET", f"/scores/{path}")[0] == 200
    status, found, _ = functions.call("GET", f"/entities/customer/{path}/score")
    assert (status, found["entity_id"], found["rung"]) == (200, number, "last")


def test_entity_that_was_never_seen_has_the_prior(functions: Functions) -> None:
    status, found, _ = functions.call("GET", "/entities/terminal/nobody/score")
    assert (status, found["rung"], found["age"], found["record"]) == (200, "prior", None, None)


def test_entity_that_the_definition_does_not_know_is_a_404(functions: Functions) -> None:
    body = assert_problem(functions.call("GET", "/entities/person/1/score"), 404)
    assert "no entity 'person'" in body["detail"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("DELETE", "/scores")])
def test_route_that_is_not_there_is_a_problem(functions: Functions, method: str, path: str) -> None:
    assert_problem(functions.call(method, path), 404)


def test_health_names_the_bundle(functions: Functions) -> None:
    status, found, _ = functions.call("GET", "/health")
    assert status == 200
    assert set(found) == {"model_version", "definition"}


def test_stream_reports_what_it_has_no_time_for(functions: Functions) -> None:
    payloads = [transaction(f"t{n}", customer_id=1_000 + n % 7) for n in range(501)]
    answer = functions.send(*payloads, first=9_000, left_ms=0)
    assert answer == {"batchItemFailures": [{"itemIdentifier": f"4959{9_500:052d}"}]}
    assert functions.send(payloads[500], first=9_500) == {"batchItemFailures": []}
    assert functions.call("GET", "/scores/t500")[0] == 200


def days_later(days: float) -> str:
    return (NOW + timedelta(days=days)).isoformat().replace("+00:00", "Z")


def metrics_of(printed: str) -> list[dict[str, Any]]:
    """Lines in the embedded metric format."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [line for line in lines if "_aws" in line]


def test_scheduled_run_scores_what_real_time_did_not(
    functions: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    functions.send(transaction(400, customer_id=400))
    event = {
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "time": days_later(3),
        "detail": {},
    }
    capsys.readouterr()
    report = functions.batch.lambda_handler(event, context(900_000))
    (metrics,) = metrics_of(capsys.readouterr().out)
    assert (report["end"], report["complete"], report["trigger"]) == ("complete", True, "schedule")
    assert report["scored"] == report["entities"] > 0
    assert metrics["BatchScored"] == metrics["BatchEntities"] == [report["scored"]]
    assert metrics["BatchRunSeconds"] == [report["seconds"]]
    again = functions.batch.lambda_handler(event, context(900_000))
    (metrics,) = metrics_of(capsys.readouterr().out)
    assert again == {**report, "end": "repeated"}
    assert metrics["BatchScored"] == [0]
    assert "BatchRunSeconds" not in metrics
    json.dumps(report)


def test_alarm_starts_a_run_on_demand(functions: Functions) -> None:
    event = {
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "time": days_later(4),
        "detail": {"alarmName": "prior", "state": {"value": "ALARM"}},
    }
    report = functions.batch.lambda_handler(event, context(900_000))
    assert (report["end"], report["complete"], report["trigger"]) == ("complete", True, "demand")


def test_parts_of_a_run_sum_up_to_its_report(
    functions: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    order = {"time": days_later(5), "segments": 3, "trigger": "schedule"}
    capsys.readouterr()
    opened = functions.batch.lambda_handler({**order, "step": "open"}, context(900_000))
    parts = [
        functions.batch.lambda_handler({**order, "segment": number}, context(900_000))
        for number in range(3)
    ]
    report = functions.batch.lambda_handler({**order, "step": "close"}, context(900_000))
    lines = metrics_of(capsys.readouterr().out)
    assert {each["end"] for each in (opened, *parts, report)} == {"complete"}
    assert report["scored"] == sum(part["scored"] for part in parts) > 0
    assert sum(line["BatchScored"][0] for line in lines) == report["scored"]
    assert sum("BatchRunSeconds" in line for line in lines) == 1
    assert report["complete"]


def test_run_that_lacks_a_part_is_told_and_not_raised(functions: Functions) -> None:
    """The state machine goes on to fail by itself, with the report as its cause."""
    order = {"time": days_later(6), "segments": 2}
    functions.batch.lambda_handler({**order, "step": "open"}, context(900_000))
    functions.batch.lambda_handler({**order, "segment": 1}, context(900_000))
    report = functions.batch.lambda_handler({**order, "step": "close"}, context(900_000))
    assert (report["end"], report["complete"], report["segments_left"]) == ("unfinished", False, 1)
    functions.batch.lambda_handler({**order, "segment": 0}, context(900_000))
    report = functions.batch.lambda_handler({**order, "step": "close"}, context(900_000))
    assert (report["end"], report["complete"]) == ("complete", True)


def test_run_that_ran_out_of_time_fails_so_that_lambda_invokes_again(functions: Functions) -> None:
    event = {"time": days_later(9), "trigger": "schedule"}
    with pytest.raises(RunUnfinished, match="will go on where it stopped"):
        functions.batch.lambda_handler(event, context(left_ms=100))
    report = functions.batch.lambda_handler(event, context(900_000))
    assert (report["complete"], report["resumed"]) == (True, 1)


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_order_that_cannot_be_done_is_refused(functions: Functions) -> None:
    with pytest.raises(RunRejected, match="segment: got 3; expected a whole number, 0 to 2"):
        functions.batch.lambda_handler(
            {"time": days_later(1), "segment": 3, "segments": 3}, context()
        )


@pytest.fixture
def broken(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """The same functions, with tables that are not there."""
    monkeypatch.setenv("HEADRACE_STATE_TABLE", "nonesuch")
    monkeypatch.setenv("HEADRACE_SCORE_TABLE", "nonesuch")
    bootstrap.forget()
    yield functions
    monkeypatch.undo()
    bootstrap.forget()


def test_store_that_is_down_fails_the_batch_at_its_first_record(broken: Functions) -> None:
    found = broken.send(transaction(500), transaction(501), first=500)
    assert found == {"batchItemFailures": [{"itemIdentifier": f"4959{500:052d}"}]}


def test_store_that_is_down_is_answered_from_the_ladder(broken: Functions) -> None:
    status, found, _ = broken.call("POST", "/scores", transaction(502))
    assert (status, found["rung"], found["reason"]) == (200, "prior", "store_unavailable")
    assert found["causes"] == {"last": "not_read", "batch": "not_read"}
    status, found, _ = broken.call("GET", "/entities/customer/1/score")
    assert (status, found["rung"], found["reason"]) == (200, "prior", "store_unavailable")


def test_score_that_cannot_be_read_is_a_503_with_a_time_to_retry(broken: Functions) -> None:
    answer = broken.call("GET", "/scores/502")
    assert "may succeed later" in assert_problem(answer, 503)["detail"]
    assert answer[2]["Retry-After"] == "1"


def test_state_that_is_down_is_answered_with_the_last_score(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.send(transaction(510, customer_id=510))
    stored = functions.call("GET", "/scores/510")[1]
    monkeypatch.setenv("HEADRACE_STATE_TABLE", "nonesuch")
    bootstrap.forget()
    status, found, _ = functions.call("POST", "/scores", transaction(511, customer_id=510))
    assert (status, found["rung"], found["given"]) == (200, "last", "510")
    assert (found["score"], found["features"]) == (stored["score"], {})
    events = [transaction(n, customer_id=n) for n in (510, 512)]
    answers = functions.call("POST", "/scores/batch", {"events": events})[1]["scores"]
    assert [each["record"]["rung"] for each in answers] == ["last", "prior"]
    status, found, _ = functions.call("GET", "/entities/customer/510/score")
    assert (status, found["rung"], found["record"]["id"]) == (200, "last", "510")
    monkeypatch.undo()
    bootstrap.forget()


def test_answer_from_real_time_names_every_field_of_the_ladder(functions: Functions) -> None:
    found = functions.call("POST", "/scores", transaction(520))[1]
    assert [found[name] for name in ("rung", "reason", "age", "given", "causes", "degraded")] == [
        "real_time", None, None, "", {}, [],
    ]  # fmt: skip


def emitted(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The metrics that functions wrote since the last call."""
    lines = capfd.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def total(lines: list[dict[str, Any]], metric: str) -> float:
    return sum(sum(line[metric]) for line in lines if isinstance(line.get(metric), list))


def test_rungs_are_counted_per_event_with_their_reasons(
    functions: Functions, capfd: pytest.CaptureFixture[str]
) -> None:
    time.sleep(1)  # metrics of requests are told once a second
    functions.call("GET", "/health")  # tells what there was before
    time.sleep(1)
    emitted(capfd)
    functions.call("POST", "/scores/batch", {"events": [transaction(n) for n in (530, 531)]})
    functions.call("GET", "/entities/terminal/nobody/score")
    lines = emitted(capfd)
    rungs = ("RealTime", "Last", "Batch", "Prior")
    assert [total(lines, f"Rung{rung}") for rung in rungs] == [2, 0, 0, 0]
    assert total(lines, "LookUpPrior") == 1
    causes = {line["cause"]: line["Imputed"] for line in lines if "cause" in line}
    assert 2 * sum(count for (count,) in causes.values()) == total(lines, "Imputed") > 0
    assert total(lines, "CircuitOpen") == total(lines, "CircuitOpened") == 0
    waits = [ms for line in lines for ms in line.get("StoreMs", [])]
    assert len(waits) == 1
    assert min(waits) > 0


def test_stream_counts_what_it_scored_as_real_time(
    functions: Functions, capfd: pytest.CaptureFixture[str]
) -> None:
    emitted(capfd)
    functions.send(transaction(540), transaction(541), b"{", first=12_000)
    assert total(emitted(capfd), "RungRealTime") == 2


def test_circuit_opens_after_failures_in_a_row_and_says_so(
    broken: Functions, capfd: pytest.CaptureFixture[str]
) -> None:
    emitted(capfd)
    reasons = [broken.call("POST", "/scores", transaction(550))[1]["reason"] for _ in range(7)]
    assert reasons == ["store_unavailable"] * 5 + ["circuit_open"] * 2
    lines = emitted(capfd)
    assert (total(lines, "CircuitOpened"), total(lines, "CircuitOpen")) == (1, 3)
    assert total(lines, "RungPrior") == 7
    by_reason = {line["reason"]: line["Fallbacks"] for line in lines if "Fallbacks" in line}
    assert set(by_reason) == {"store_unavailable", "circuit_open"}


@pytest.fixture
def without_model(
    functions: Functions, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """The same functions, with a model that was altered."""
    functions.send(transaction(600, customer_id=600), first=13_000)
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    (folder / "bundle" / "model.program").write_bytes(b"altered")
    monkeypatch.setenv("HEADRACE_MODEL_DIR", str(folder))
    bootstrap.forget()
    yield functions
    monkeypatch.undo()
    bootstrap.forget()


def test_model_that_does_not_load_is_told_once_and_the_ladder_answers(
    without_model: Functions,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    emitted(capfd)
    for _ in range(2):
        status, found, _ = without_model.call("POST", "/scores", transaction(601, customer_id=600))
        assert (status, found["rung"], found["reason"]) == (200, "last", "model_not_loadable")
    found = without_model.call("POST", "/scores", transaction(602, customer_id=699))[1]
    assert (found["rung"], found["score"]) == ("prior", 0.1)
    assert total(emitted(capfd), "ModelNotLoadable") == 1
    (told,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert "model.program: SHA-256" in told.__dict__["error"]


def test_health_says_that_the_model_is_not_loaded(without_model: Functions) -> None:
    body = assert_problem(without_model.call("GET", "/health"), 503)
    assert "model is not loaded" in body["detail"]


def test_stream_fails_loudly_without_its_model(without_model: Functions) -> None:
    with pytest.raises(BundleError, match=r"model\.program"):
        without_model.send(transaction(603), first=13_100)


@pytest.mark.parametrize("lost", ["definition.py", "bundle/manifest.json"])
def test_without_definition_or_manifest_there_is_no_answer_and_nothing_is_told(
    functions: Functions,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    (folder / lost).unlink()
    monkeypatch.setenv("HEADRACE_MODEL_DIR", str(folder))
    bootstrap.forget()
    for call in (("POST", "/scores", transaction(503)), ("GET", "/health")):
        body = assert_problem(functions.call(*call), 503)
        assert str(tmp_path) not in json.dumps(body)
    monkeypatch.undo()
    bootstrap.forget()


def test_misconfiguration_is_a_500_that_tells_nothing(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_STORE_BUDGET_MS", "soon")
    bootstrap.forget()
    body = assert_problem(functions.call("POST", "/scores", transaction(503)), 500)
    assert "soon" not in json.dumps(body)
    monkeypatch.undo()
    bootstrap.forget()


def test_model_that_scikit_learn_serves_is_told_when_a_function_starts(
    functions: Functions,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = (root / "layers" / "model" / "definition.py").read_text()
    allowing = text.replace("batch_entity=", 'if_not_compiled="scikit-learn", batch_entity=')
    (tmp_path / "definition.py").write_text(allowing)
    write_model(tmp_path, GaussianNB())
    monkeypatch.setenv("HEADRACE_MODEL_DIR", str(tmp_path))
    bootstrap.forget()
    emitted(capfd)
    for number in (701, 702):
        assert functions.call("POST", "/scores", transaction(number))[1]["rung"] == "real_time"
    assert total(emitted(capfd), "ServedByScikitLearn") == 1
    (told,) = (each for each in caplog.records if "why" in each.__dict__)
    assert told.__dict__["why"].startswith("GaussianNB: no converter")
    monkeypatch.undo()
    bootstrap.forget()
