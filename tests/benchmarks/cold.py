"""A fresh process from its start to its first score: CPU of the whole process.

In turns: the request function as deployed, and what one writes first (boto3, scikit-learn,
Powertools and, where it is installed, pydantic; features ready in items). Both read once from a
stub, with bytecode made before. Then where the time of the first goes. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from request import (
    MODEL,
    ROOT,
    api_event,
    encoded,
    set_environment,
    traffic,
    wide,
)
from stub import stub

from headrace.model import load_bundle
from headrace.scoring import Scorer

TURNS = 7

OURS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from app import lambda_handler
from request_context import Context
answer = lambda_handler(json.loads(sys.argv[2]), Context())
assert json.loads(answer["body"])["rung"] == "real_time", answer
"""

TYPICAL = """
import json, sys
import boto3, joblib
import numpy as np
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
{imports}
from request_context import Context

app, logger, metrics = APIGatewayRestResolver(), Logger(), Metrics()
table = boto3.client("dynamodb")
model = joblib.load(sys.argv[1])
{model}

@app.post("/scores")
def score():
    values = {parse}
    keys = [{{"id": {{"S": str(values[name])}}}} for name in ("customer_id", "terminal_id")]
    found = table.batch_get_item(RequestItems={{"features": {{"Keys": keys}}}})
    items = found["Responses"]["features"]
    row = [float(v["N"]) for item in items for v in item.values() if "N" in v]
    row = (row + [values["amount"]] * {width})[:{width}]
    score = float(model.predict_proba(np.array([row]))[0, 1])
    return Response(200, "application/json", json.dumps({{"score": score}}))

@logger.inject_lambda_context
@metrics.log_metrics
def handler(event, context):
    return app.resolve(event, context)

answer = handler(json.loads(sys.argv[2]), Context())
assert 0 <= json.loads(answer["body"])["score"] <= 1, answer
"""

CONTEXT = """
class Context:
    function_name, function_version, memory_limit_in_mb = "f", "1", 1769
    invoked_function_arn, aws_request_id = "arn:aws:lambda:eu-central-1:1:function:f", "r"
    log_group_name, log_stream_name = "g", "s"
    def get_remaining_time_in_millis(self):
        return 10_000
"""

PARTS = {
    "python": "pass",
    "botocore": "import botocore.session, botocore.auth",
    "boto3_client": "import boto3; boto3.client('dynamodb')",
    "powertools": "from aws_lambda_powertools.event_handler import APIGatewayRestResolver",
    "program": "import headrace.program",
    "bundle": "from pathlib import Path; from headrace.model import load_bundle; "
    f"load_bundle(Path({str(MODEL)!r}))",
}


def main() -> None:
    """Measure both in turns, then the parts."""
    scorer = Scorer(load_bundle(MODEL))
    event, states = traffic(scorer)
    ready = {"Responses": {"features": [wide(n) for n in range(2)]}, "UnprocessedKeys": {}}
    request = json.dumps(api_event(event))
    ours = ["-c", OURS, str(ROOT / "functions" / "score_request"), request]
    typical = typical_app(len(scorer.bundle.manifest.inputs))
    theirs = ["-c", typical, str(MODEL / "bundle" / "model.joblib"), request]
    with (
        stub(encoded(states)) as state_port,
        stub(encoded(ready)) as ready_port,
        TemporaryDirectory() as folder,
    ):
        set_environment(state_port)
        prepare(Path(folder))
        found = in_turns([(ours, state_port), (theirs, ready_port)])
        parts = {
            name: median(cpu_ms(["-c", code]) for _ in range(3)) for name, code in PARTS.items()
        }
    print(
        json.dumps(
            {
                "headrace_ms": round(found[0]),
                "typical_ms": round(found[1]),
                "times_less_than_typical": round(found[1] / found[0], 2),
                "typical_has_pydantic": find_spec("pydantic") is not None,
                "parts_ms": {name: round(value) for name, value in parts.items()},
            }
        )
    )


def prepare(folder: Path) -> None:
    """Where the processes find a context and keep bytecode: layers for Lambda are compiled."""
    (folder / "request_context.py").write_text(CONTEXT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "layers" / "headrace"), str(folder), os.environ.get("PYTHONPATH", "")]
    )


def in_turns(variants: list[tuple[list[str], int]]) -> list[float]:
    """Median milliseconds of each command with the port of its stub; a first turn warms up."""
    found: list[list[float]] = [[] for _ in variants]
    for turn in range(TURNS + 1):
        for (command, port), times in zip(variants, found, strict=True):
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
            milliseconds = cpu_ms(command)
            if turn:
                times.append(milliseconds)
    return [median(times) for times in found]


def typical_app(width: int) -> str:
    """What one writes first, with pydantic where it is here."""
    model = """
class Event(BaseModel):
    transaction_id: int
    event_time: datetime
    customer_id: int
    terminal_id: int
    amount: float = Field(ge=0)
"""
    has = find_spec("pydantic") is not None
    return TYPICAL.format(
        imports="from datetime import datetime\nfrom pydantic import BaseModel, Field"
        if has
        else "",
        model=model if has else "",
        parse="Event.model_validate_json(app.current_event.body).model_dump()"
        if has
        else "json.loads(app.current_event.body)",
        width=width,
    )


def cpu_ms(arguments: list[str]) -> float:
    """CPU milliseconds of a process and all its threads."""
    command = [sys.executable, "-W", "ignore", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        msg = f"{arguments[1][:60]!r} ended with {process.returncode}"
        raise RuntimeError(msg)
    return (usage.ru_utime + usage.ru_stime) * 1_000


if __name__ == "__main__":
    main()
