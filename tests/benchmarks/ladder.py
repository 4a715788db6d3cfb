"""The endpoint's answers while DynamoDB fails, with the 50 ms of AWS. Prints one JSON object.

For each fault 200 requests go over HTTP to the local endpoint; DynamoDB Local plays DynamoDB, or
moto where Java is missing. Each request meets the fault: the circuit is kept from opening, except
where an open one is what is measured. Caller, endpoint, function and the front that plays the fault
share one process, so that their work is in the times. The table goes to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from headrace import bootstrap  # noqa: E402
from headrace.circuit import Circuit  # noqa: E402
from tests.engines import NotHereError, dynamodb_local  # noqa: E402
from tests.outages import OUTAGES, Outage, Scene, scene  # noqa: E402

REQUESTS, BUDGET_MS, SLACK_MS = 200, 50, 20
NEVER = 10**9


def main() -> None:
    """Measure every outage and print the table."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # a function that starts logs there
        url = None
        try:
            url = stack.enter_context(dynamodb_local())
        except NotHereError as missing:
            print(f"{missing}; moto plays DynamoDB", file=sys.stderr)
        played = stack.enter_context(scene(BUDGET_MS, url))
        found = {each: measure(played, each) for each in OUTAGES}
    tell(found)
    every = [ms for waits, _ in found.values() for ms in waits]
    right = sum(right for _, right in found.values())
    in_time = sum(ms <= BUDGET_MS + SLACK_MS for ms in every)
    print(
        json.dumps(
            {
                "answers": len(every),
                "answers_from_the_right_rung_with_the_right_reason": right,
                "answers_within_budget_plus_20_ms": in_time,
                "share_within_budget_plus_20_ms": round(in_time / len(every), 4),
                "median_ms_without_a_fault": round(median(found[OUTAGES[0]][0]), 1),
                "slowest_ms": round(max(every), 1),
            }
        )
    )


def measure(played: Scene, outage: Outage) -> tuple[list[float], int]:
    """Milliseconds of each answer, and how many were right."""
    waits, right = [], 0
    with played.during(outage):
        lookups = bootstrap.lookups()
        if outage.opened:
            lookups.circuit = Circuit(1, NEVER)
            lookups.circuit.failed(lookups.watch.seconds())
        else:
            lookups.circuit = Circuit(failures=NEVER)
        for _ in range(REQUESTS):
            event = played.event(outage.customer)
            began = time.perf_counter()
            reply = played.aws.api.request("POST", "/scores", event)
            waits.append((time.perf_counter() - began) * 1_000)
            found = reply.json()
            told = (reply.status, found.get("rung"), found.get("reason"))
            right += told == (200, outage.rung, outage.reason)
    return waits, right


def tell(found: dict[Outage, tuple[list[float], int]]) -> None:
    """The table: fault, rung, reason, latency."""
    within = f"within {BUDGET_MS + SLACK_MS} ms"
    print(f"fault | rung | reason | median ms | max ms | {within} | right", file=sys.stderr)
    for outage, (waits, right) in found.items():
        in_time = sum(ms <= BUDGET_MS + SLACK_MS for ms in waits)
        print(
            f"{outage.name} | {outage.rung} | {outage.reason or '-'} | {median(waits):.1f} | "
            f"{max(waits):.1f} | {in_time} of {len(waits)} | {right} of {len(waits)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
