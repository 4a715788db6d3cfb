"""Conflicts of 1, 4 and 16 writers on one hot entity, on DynamoDB Local. Prints one JSON object.

Each writer is a shard's function: it delivers batches of 20 events of one card and one shop until
all are acknowledged. Needs Java and node; prints {} and says why where they are missing.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from headrace.adapters.clock import SystemClock  # noqa: E402
from headrace.adapters.lean import lean  # noqa: E402
from headrace.adapters.lean_writes import LeanClient  # noqa: E402
from headrace.adapters.memory import MemoryQuarantine  # noqa: E402
from headrace.scoring import Scorer, StreamScorer  # noqa: E402
from tests.contract.test_races import Tables  # noqa: E402
from tests.engines import NotHereError, dynamodb_local  # noqa: E402
from tests.fakes import NOON, make_bundle, payment, record  # noqa: E402

EVENTS, BATCH = 200, 20


def main() -> None:
    """Measure each number of writers on tables of their own."""
    found: dict[str, float] = {}
    try:
        with dynamodb_local() as url:
            for writers in (1, 4, 16):
                found |= measure(url, writers)
    except NotHereError as error:
        print(error, file=sys.stderr)
    print(json.dumps(found))


def measure(url: str, writers: int) -> dict[str, float]:
    """Writes, conflicts and batches that gave up, of all writers together."""
    tables, scorer = Tables(url), Scorer(make_bundle())

    def run(writer: int) -> tuple[int, int]:
        states, scores = tables.stores(lean(tables.client(), LeanClient))  # as the function
        stream = StreamScorer(scorer, states, scores, MemoryQuarantine(), SystemClock())
        left = [
            record(payment(f"{writer}-{n}", NOON - n), NOON, writer * EVENTS + n)
            for n in range(EVENTS)
        ]
        conflicts = gave_up = 0
        while left:
            outcome = stream.score(left[:BATCH])
            conflicts += outcome.conflicts
            if outcome.failed is None:
                left = left[BATCH:]
            else:
                gave_up += 1
        return conflicts, gave_up

    started = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        done = list(pool.map(run, range(writers)))
    seconds = time.perf_counter() - started
    conflicts, batches = sum(c for c, _ in done), writers * EVENTS // BATCH
    return {
        f"writers_{writers}_conflicts_per_batch": round(conflicts / batches, 2),
        f"writers_{writers}_batches_given_up": sum(g for _, g in done),
        f"writers_{writers}_events_per_second": round(writers * EVENTS / seconds),
    }


if __name__ == "__main__":
    main()
