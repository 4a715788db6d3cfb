"""CPU of one request, from API Gateway's event to the answer, beside what it could be.

A stub answers every read with the same bytes, so that only the client counts. In one process, in
turns: the function as deployed; the same with botocore's own reads; what boto3 and scikit-learn
take without any features to compute (the items hold them ready); and a floor of a raw socket, a
signature made by hand, unpacking and the model, as the function has it and in onnxruntime. Also
what of the function is its own, without any store. Prints one JSON object.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import io
import json
import os
import socket
import struct
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import boto3
import joblib
import msgspec
import numpy as np
from stub import stub

from headrace.model import load_bundle
from headrace.offline.compile import onnx_of
from headrace.offline.feed import feed_of
from headrace.offline.replay import replay
from headrace.offline.simulator import Plan, simulate
from headrace.onnx_model import OnnxModel
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.model import Model

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "layers" / "model"
SMALL = Plan(customers=30, terminals=20, days=30, events_per_day=3)
ROUNDS, REQUESTS, WARM = 15, 60, 100
FEATURES = 12
Variant = tuple[str, "Callable[[], Any]"]


def main() -> None:
    """Measure all variants in turns."""
    scorer = Scorer(load_bundle(MODEL))
    event, states = traffic(scorer)
    ready = {"Responses": {"features": [wide(n) for n in range(2)]}, "UnprocessedKeys": {}}
    packed = struct.pack(f"<{FEATURES}d", *range(FEATURES))
    small = {"Responses": {"s": [{"e": {"S": "a"}, "f": {"B": b64(packed)}} for _ in range(2)]}}
    width = len(scorer.bundle.manifest.inputs)
    bodies = [encoded(each) for each in (states, ready, small)]
    with stub(bodies[0]) as state_port, stub(bodies[1]) as ready_port, stub(bodies[2]) as port:
        set_environment(state_port)
        handler = handler_of()
        request = api_event(event)
        variants: list[Variant] = [
            ("headrace", lambda: handler(request, Context())),
            ("boto3_and_scikit_learn", boto3_and_scikit_learn(ready_port, event)),
            ("floor", floor(port, event, scorer.bundle.model, width)),
            ("floor_in_onnxruntime", floor(port, event, in_onnxruntime(scorer), width)),
        ]
        expect_answers(variants)
        with redirect_stdout(io.StringIO()) as logs:
            found = in_turns(variants, logs)
            own = own_compute(event, handler, logs)
            with_botocore = botocore_reads(request, logs)
    us = {name: median(times) for name, times in found.items()}
    print(
        json.dumps(
            {
                **{f"{name}_us": round(value) for name, value in us.items()},
                "with_botocore_s_reads_us": round(with_botocore),
                "times_less_than_boto3_and_scikit_learn": round(
                    us["boto3_and_scikit_learn"] / us["headrace"], 2
                ),
                "times_the_floor": round(us["headrace"] / us["floor"], 2),
                "times_the_floor_in_onnxruntime": round(
                    us["headrace"] / us["floor_in_onnxruntime"], 2
                ),
                "times_less_than_with_botocore_s_reads": round(with_botocore / us["headrace"], 2),
                **own,
            }
        )
    )


def traffic(scorer: Scorer) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event of now, and what DynamoDB answers of its entities: the busiest of the last month."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = simulate(replace(SMALL, start=now - timedelta(days=SMALL.days)))
    definition = scorer.definition
    label = definition.label
    assert label is not None
    feeds = [feed_of(made.events, definition.scored), feed_of(made.labels, label.source)]
    items = replay(scorer, feeds).states.items
    keys = [
        max((key for key in items if key.startswith(entity)), key=lambda k: len(items[k].data))
        for entity in ("customer#", "terminal#")
    ]
    event = {
        "transaction_id": 10**6,
        "event_time": now.isoformat(),
        "customer_id": int(keys[0].partition("#")[2]),
        "terminal_id": int(keys[1].partition("#")[2]),
        "amount": 12.5,
    }
    found = [
        {
            "entity": {"S": key},
            "version": {"N": str(items[key].version)},
            "state": {"B": b64(items[key].data)},
        }
        for key in keys
    ]
    return event, {"Responses": {"states": found}, "UnprocessedKeys": {}}


def wide(number: int) -> dict[str, Any]:
    """An item with its features ready, as a feature store keeps them."""
    return {"id": {"S": f"e{number}"}, **{f"f{n}": {"N": f"{n}.5"} for n in range(FEATURES // 2)}}


def set_environment(port: int) -> None:
    """What the function finds on Lambda, but for the stub in place of DynamoDB."""
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        NO_PROXY="127.0.0.1",
        AWS_ACCESS_KEY_ID="A" * 20,
        AWS_SECRET_ACCESS_KEY="S" * 40,
        AWS_SESSION_TOKEN="T" * 400,  # roles have one
        AWS_REGION="eu-central-1",
        AWS_DEFAULT_REGION="eu-central-1",
        HEADRACE_STATE_TABLE="states",
        HEADRACE_FEATURE_TABLE="rows",
        HEADRACE_SCORE_TABLE="scores",
        HEADRACE_QUARANTINE_BUCKET="bucket",
        HEADRACE_STREAM="stream",
        HEADRACE_MODEL_DIR=str(MODEL),
        HEADRACE_STORE_BUDGET_MS="5000",  # a busy machine is no fault
        POWERTOOLS_SERVICE_NAME="headrace",
        POWERTOOLS_METRICS_NAMESPACE="Headrace",
    )


def handler_of() -> Callable[[dict[str, Any], Any], Any]:
    """The request function's handler."""
    sys.path.insert(0, str(ROOT / "functions" / "score_request"))
    found: Callable[[dict[str, Any], Any], Any] = importlib.import_module("app").lambda_handler
    return found


class Context:
    """Of an invocation."""

    function_name, function_version, memory_limit_in_mb = "f", "1", 1769
    invoked_function_arn, aws_request_id = "arn:aws:lambda:eu-central-1:1:function:f", "r"
    log_group_name, log_stream_name = "g", "s"

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


def api_event(event: dict[str, Any]) -> dict[str, Any]:
    """What API Gateway sends."""
    request = {"resourcePath": "/scores", "httpMethod": "POST", "path": "/live/scores"}
    return {
        "resource": "/scores",
        "path": "/scores",
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {**request, "requestId": "r", "stage": "live", "identity": {}},
        "body": json.dumps(event),
        "isBase64Encoded": False,
    }


def boto3_and_scikit_learn(port: int, event: dict[str, Any]) -> Callable[[], Any]:
    """What one writes first: a client as it comes, features ready in items, predict_proba."""
    client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}")
    model = joblib.load(MODEL / "bundle" / "model.joblib")
    width = len(load_bundle(MODEL).manifest.inputs)
    body = json.dumps(event)

    def score() -> dict[str, Any]:
        values = json.loads(body)
        keys = [{"id": {"S": str(values[name])}} for name in ("customer_id", "terminal_id")]
        found = client.batch_get_item(RequestItems={"features": {"Keys": keys}})
        row = [
            float(value["N"])
            for item in found["Responses"]["features"]
            for value in item.values()
            if "N" in value
        ]
        row = (row + [values["amount"]] * width)[:width]
        given = float(model.predict_proba(np.array([row]))[0, 1])
        return {
            "statusCode": 200,
            "body": json.dumps({"id": event["transaction_id"], "score": given}),
        }

    return score


def in_onnxruntime(scorer: Scorer) -> OnnxModel:
    """The same model as one writes it for onnxruntime."""
    original = joblib.load(MODEL / "bundle" / "model.joblib")
    return OnnxModel(onnx_of(original, np.zeros((1, len(scorer.bundle.manifest.inputs)))))


def floor(port: int, event: dict[str, Any], model: Model, width: int) -> Callable[[], Any]:
    """As little as can be done: no limits, no errors, no time-outs, no log."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    day = datetime.now(UTC)
    key = signing_key(f"{day:%Y%m%d}")
    body, host, unpack = (
        json.dumps(event).encode(),
        f"127.0.0.1:{port}",
        struct.Struct("<12d").unpack,
    )
    scope = f"{day:%Y%m%d}/eu-central-1/dynamodb/aws4_request"
    names = "content-type;host;x-amz-date;x-amz-target"

    def score() -> dict[str, Any]:
        values = msgspec.json.decode(body)
        keys = [{"id": {"S": str(values[name])}} for name in ("customer_id", "terminal_id")]
        payload = msgspec.json.encode({"RequestItems": {"s": {"Keys": keys}}})
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        head = (
            f"content-type:application/x-amz-json-1.0\nhost:{host}\nx-amz-date:{now}\n"
            "x-amz-target:DynamoDB_20120810.BatchGetItem\n"
        )
        canonical = f"POST\n/\n\n{head}\n{names}\n{hashlib.sha256(payload).hexdigest()}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        connection.sendall(
            f"POST / HTTP/1.1\r\n{head.replace(chr(10), chr(13) + chr(10))}"
            f"Authorization: AWS4-HMAC-SHA256 Credential={'A' * 20}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        found = msgspec.json.decode(connection.recv(65_536).partition(b"\r\n\r\n")[2])
        row = [
            value for item in found["Responses"]["s"]
            for value in unpack(base64.b64decode(item["f"]["B"]))
        ]  # fmt: skip
        (given,) = model.score([(row + [0.0] * width)[:width]])
        answer = msgspec.json.encode({"id": values["transaction_id"], "score": given})
        return {"statusCode": 200, "body": answer.decode()}

    return score


def signing_key(day: str) -> bytes:
    """AWS's signature version 4, the part that holds for a day."""
    key = b"AWS4" + b"S" * 40
    for part in (day, "eu-central-1", "dynamodb", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def expect_answers(variants: Sequence[Variant]) -> None:
    """Each must answer with a score, or nothing is measured."""
    for name, call in variants:
        with redirect_stdout(io.StringIO()):
            answer = call()
        told = json.loads(answer["body"])
        assert answer["statusCode"] == 200, (name, answer)
        assert 0 <= told["score"] <= 1, (name, told)
        assert told.get("rung", "real_time") == "real_time", told


def in_turns(variants: Sequence[Variant], logs: io.StringIO) -> dict[str, list[float]]:
    """CPU microseconds per call of each variant: one figure a round."""
    found: dict[str, list[float]] = {name: [] for name, _ in variants}
    for _, call in variants:
        cpu_us(call, WARM)
    for _ in range(ROUNDS):
        for name, call in variants:
            found[name].append(cpu_us(call, REQUESTS))
        logs.seek(0)
        logs.truncate()
    return found


def cpu_us(call: Callable[[], Any], times: int) -> float:
    """Of the whole process: threads count."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


def botocore_reads(request: dict[str, Any], logs: io.StringIO) -> float:
    """The same function with reads as boto3 does them."""
    from headrace import bootstrap

    os.environ["HEADRACE_LEAN_READS"] = "off"
    bootstrap.forget()
    handler = handler_of()
    return median(in_turns([("off", lambda: handler(request, Context()))], logs)["off"])


def own_compute(
    event: dict[str, Any], handler: Callable[[dict[str, Any], Any], Any], logs: io.StringIO
) -> dict[str, float]:
    """The handler without the store: what it waits for is there at once. Wall time, for a p99."""
    from headrace import bootstrap

    scorer = bootstrap.request_scorer()
    wanted = [f"customer#{event['customer_id']}", f"terminal#{event['terminal_id']}"]
    stored = bootstrap.lookups().states.read(wanted)

    class There:
        def states(self) -> Any:
            return stored

    class Lookups:
        def begin(self, states: Sequence[str], known: Sequence[str]) -> There:
            return There()

    real, scorer._lookups = scorer._lookups, Lookups()  # type: ignore[assignment]
    request, times = api_event(event), []
    try:
        for _ in range(4 * REQUESTS * ROUNDS):
            began = time.thread_time()
            handler(request, Context())
            times.append((time.thread_time() - began) * 1e6)
            if len(times) % REQUESTS == 0:
                logs.seek(0)
                logs.truncate()
    finally:
        scorer._lookups = real
    times.sort()
    return {
        "without_store_median_us": round(median(times)),
        "without_store_p99_us": round(times[len(times) * 99 // 100]),
    }


def b64(data: bytes) -> str:
    """As DynamoDB's JSON has bytes."""
    return base64.b64encode(data).decode()


def encoded(answer: dict[str, Any]) -> bytes:
    """The body of an answer."""
    return json.dumps(answer).encode()


if __name__ == "__main__":
    main()
