"""Tries the endpoint of local AWS with schemathesis and infra/openapi.json: `make fuzz`.

Schemathesis has an environment of its own, beside the project's: what it needs and what the
project locks need not agree. It runs in a second process; here local AWS runs, with state of a few
entities.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from headrace.local.deploy import ACCESS_KEY, SECRET_KEY
from headrace.local.intrinsics import REGION
from headrace.local.stack import LocalAws

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "infra" / "schemathesis.toml"
HOOKS = "sign_requests"


def main() -> int:
    """Run schemathesis at the path given first, with the options that follow; its exit code."""
    program, *options = sys.argv[1:]
    with LocalAws.start(ROOT / "template.yaml", logs=io.StringIO()) as aws:
        aws.put((json.dumps(transaction(number)).encode(), str(number)) for number in range(20))
        aws.drain()
        command = [program, "--config-file", str(CONFIG), "run", "infra/openapi.json"]
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": HOOKS,
            "PYTHONPATH": str(ROOT / "infra"),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }
        command += ["--url", aws.api.base_url, *options]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def transaction(number: int) -> dict[str, object]:
    """An event of the reference definition."""
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": datetime.now(UTC).isoformat(),
        "customer_id": number % 5,
        "terminal_id": number % 3,
        "amount": 10 + number,
    }


if __name__ == "__main__":
    sys.exit(main())
