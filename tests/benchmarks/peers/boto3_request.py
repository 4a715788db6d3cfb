"""boto3 as it comes, features ready in items, scikit-learn; CPU per request."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rounds import cpu_us, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from request import MODEL, boto3_and_scikit_learn, set_environment, traffic, wide

from headrace.model import load_bundle
from headrace.scoring import Scorer

REQUESTS, WARM = 60, 100


def main() -> None:
    """Say what the stub answers, then serve rounds."""
    event, _ = traffic(Scorer(load_bundle(MODEL)))
    ready = {"Responses": {"features": [wide(n) for n in range(2)]}, "UnprocessedKeys": {}}
    print(json.dumps(ready), flush=True)
    port = int(sys.stdin.readline())
    set_environment(port)
    score = boto3_and_scikit_learn(port, event)
    cpu_us(score, WARM)
    serve(lambda: cpu_us(score, REQUESTS))


if __name__ == "__main__":
    main()
