"""Headrace: the request function as deployed, from API Gateway's event to the answer; CPU."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from rounds import cpu_us, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from request import MODEL, Context, api_event, handler_of, set_environment, traffic

from headrace.model import load_bundle
from headrace.scoring import Scorer

REQUESTS, WARM = 60, 100


def main() -> None:
    """Say what the stub answers, then serve rounds."""
    event, states = traffic(Scorer(load_bundle(MODEL)))
    print(json.dumps(states), flush=True)
    set_environment(int(sys.stdin.readline()))
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"  # standard output is for figures
    handler, request = handler_of(), api_event(event)
    with redirect_stdout(io.StringIO()):
        answer = handler(request, Context())
        assert json.loads(answer["body"])["rung"] == "real_time", answer
        cpu_us(lambda: handler(request, Context()), WARM)

    def measure() -> float:
        with redirect_stdout(io.StringIO()):
            return cpu_us(lambda: handler(request, Context()), REQUESTS)

    serve(measure)


if __name__ == "__main__":
    main()
