"""A batch run over 100,000 entities, and by arithmetic one over a million. Prints one JSON object.

States are those of card traffic, given to as many customers as are wanted. In memory the run's own
CPU is measured; on DynamoDB Local, over 5,000, what the store's client adds, in CPU and in wall
time, which is that of an engine that shares this machine. Units come from sizes of items. What AWS
would take and cost is arithmetic from these, for a function with one vCPU as fast as this machine's
core that waits for DynamoDB as long as it waited for the engine; CPU alone is the least it takes.
"""

from __future__ import annotations

import json
import sys
import time
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity import small_feeds

from headrace.adapters.capacity import WRITE_UNIT_BYTES, item_bytes, units
from headrace.adapters.clock import SystemClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.items import batch_item, state_item
from headrace.adapters.memory import MemoryScores, MemoryStates
from headrace.batch import SEGMENTS, BatchScorer, End
from headrace.model import load_bundle
from headrace.offline.replay import replay
from headrace.ports import Replaced, ScannedState, ScanPage, StateWrite
from headrace.runs import Order, Start, Step
from headrace.scoring import Scorer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.aws import SCORES, STATES, dynamodb_client, empty_stores  # noqa: E402
from tests.engines import NotHereError, dynamodb_local  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.ports import Segment, StoredState
    from headrace.scores import BatchScore

MANY, FEW, MILLION = 100_000, 5_000, 1_000_000
PARTS = 16
ATTEMPTS_OF_ONE = 3  # an event's invocation and Lambda's two retries
RESERVED_SECONDS = 30  # as the function keeps back
LAMBDA_SECONDS = 900
MEMORY_GB = 1_769 / 1_024
READ_UNIT_BYTES = 4_096
EVENTUAL = 0.5  # of what a consistent read takes
TRANSITIONS = 10  # Open, IsItOurs, List, Parts, Close, IsItWhole, Done, and three to spare
TRANSITIONS_OF_PART = 3  # the child's start, its task and its end

# List prices of us-east-1, USD, of November 2024 and later; check them before you rely on them.
# Sources: aws.amazon.com/lambda/pricing, /dynamodb/pricing/on-demand, /step-functions/pricing.
USD_GB_SECOND = 0.0000166667
USD_MILLION_REQUESTS = 0.20
USD_MILLION_WRITE_UNITS = 0.625
USD_MILLION_READ_UNITS = 0.125
USD_THOUSAND_TRANSITIONS = 0.025


class Shelf(MemoryStates):
    """States whose pages are cut beforehand, so that the scan itself costs next to nothing."""

    def __init__(self, items: Mapping[str, StoredState]) -> None:
        super().__init__()
        self.items = dict(items)
        found = [ScannedState(key, *stored) for key, stored in self.items.items()]
        self._parts = [found[number::SEGMENTS] for number in range(SEGMENTS)]

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        start = int(cursor or 0)
        part = self._parts[segment.number]
        end = start + segment.limit
        return ScanPage(part[start:end], str(end) if end < len(part) else None)


class Passing(MemoryScores):
    """Lets batch scores go as a store elsewhere does: 100,000 kept ones are work for the collector.

    Attributes:
        latest: Those of the latest page.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latest: Sequence[BatchScore] = ()

    def put_batch(self, scores: Sequence[BatchScore]) -> Replaced:
        self.latest = scores
        return Replaced(0, 0)


def main() -> None:
    """Measure, then do the arithmetic."""
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    name, both = small_feeds(scorer)
    states = replay(scorer, both).states.items
    as_of = max(
        state.last_time
        for state in (scorer.codec.decode(key, *stored) for key, stored in states.items())
    )
    entity = scorer.definition.batch_entity.name
    own = [stored for key, stored in states.items() if key.startswith(f"{entity}#")]
    found: dict[str, Any] = {"data": name, "entities": MANY}
    found |= in_memory(scorer, spread(own, entity, MANY), as_of)
    found |= units_per_entity(scorer, states, entity, as_of)
    found |= on_dynamodb_local(scorer, spread(own, entity, FEW), as_of)
    found["at_a_million"] = at_a_million(found)
    print(json.dumps(found))


def spread(own: list[StoredState], entity: str, number: int) -> dict[str, StoredState]:
    """As many entities as are wanted, with the states of those that there are in turn."""
    return {f"{entity}#{n}": own[n % len(own)] for n in range(number)}


def in_memory(scorer: Scorer, items: Mapping[str, StoredState], as_of: int) -> dict[str, float]:
    """CPU and wall time of a whole run, stores in memory."""
    wall, cpu = run(scorer, Shelf(items), Passing(), as_of)
    return {
        "cpu_us_per_entity": round(cpu / len(items) * 1e6, 1),
        "wall_us_per_entity": round(wall / len(items) * 1e6, 1),
    }


def run(scorer: Scorer, states: Any, scores: Any, as_of: int) -> tuple[float, float]:
    """Wall and CPU seconds of a run."""
    batch = BatchScorer(scorer, states, scores, SystemClock())
    wall, cpu = time.perf_counter(), time.process_time()
    ran = batch.obey(Order(Step.RUN, Start(as_of)), lambda: True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert ran.end is End.COMPLETE, ran
    return wall, cpu


def units_per_entity(
    scorer: Scorer, states: Mapping[str, StoredState], entity: str, as_of: int
) -> dict[str, float]:
    """Units of the scan, which reads other entities too, and of the puts."""
    own = {key: stored for key, stored in states.items() if key.startswith(f"{entity}#")}
    sizes = {
        key: item_bytes(state_item(StateWrite(key, s.version, s.data, 2**31)))
        for key, s in states.items()
    }
    scores = MemoryScores()
    run(scorer, Shelf(own), scores, as_of)
    puts = [item_bytes(batch_item(score)) for score in scores.batch.values()]
    scanned = sum(sizes.values()) / len(own)
    marks = EVENTUAL * sum(units(put, READ_UNIT_BYTES) for put in puts)
    written = sum(units(put, WRITE_UNIT_BYTES) for put in puts)
    return {
        "state_item_bytes": round(sum(sizes[key] for key in own) / len(own)),
        "scanned_bytes_per_entity": round(scanned),
        "batch_score_item_bytes": round(sum(puts) / len(puts)),
        "scan_units_per_entity": round(scanned / READ_UNIT_BYTES * EVENTUAL, 3),
        "mark_units_per_entity": round(marks / len(puts), 3),
        "read_units_per_entity": round(scanned / READ_UNIT_BYTES * EVENTUAL + marks / len(puts), 3),
        "write_units_per_entity": round(written / len(puts), 3),
    }


def on_dynamodb_local(
    scorer: Scorer, items: Mapping[str, StoredState], as_of: int
) -> dict[str, float]:
    """CPU and wall time where the store's client is among it; nothing where there is no engine."""
    try:
        with dynamodb_local() as endpoint:
            client = dynamodb_client(endpoint)
            empty_stores(client)
            states = DynamoStates(client, STATES, SystemClock())
            states.write([StateWrite(key, 0, stored.data, None) for key, stored in items.items()])
            wall, cpu = run(scorer, states, DynamoScores(client, SCORES, SystemClock(), 30), as_of)
    except NotHereError:
        return {}
    return {
        "client_cpu_us_per_entity": round(cpu / len(items) * 1e6, 1),
        "client_wall_us_per_entity": round(wall / len(items) * 1e6, 1),
    }


def at_a_million(found: Mapping[str, Any]) -> dict[str, float]:
    """Durations, units and cost of a run over a million entities, all of which are scored."""
    cpu = found.get("client_cpu_us_per_entity", found["cpu_us_per_entity"])
    seconds = found.get("client_wall_us_per_entity", found["wall_us_per_entity"])  # at a million
    invocations = ceil(seconds / (LAMBDA_SECONDS - RESERVED_SECONDS))
    parts = ceil(seconds / PARTS / (LAMBDA_SECONDS - RESERVED_SECONDS)) * PARTS
    reads, writes = (MILLION * found[f"{kind}_units_per_entity"] for kind in ("read", "write"))
    transitions = TRANSITIONS + TRANSITIONS_OF_PART * parts
    compute = seconds * MEMORY_GB
    dynamodb = (reads * USD_MILLION_READ_UNITS + writes * USD_MILLION_WRITE_UNITS) / 1e6
    usd = compute * USD_GB_SECOND + parts * USD_MILLION_REQUESTS / 1e6 + dynamodb
    return {
        "cpu_seconds": round(cpu),
        "seconds_with_one_function": round(seconds),
        "fits_in_one_invocation": int(invocations <= 1),
        "invocations_needed_by_one": invocations,
        "done_by_one_event": int(invocations <= ATTEMPTS_OF_ONE),
        "parts": PARTS,
        "seconds_with_parts": round(seconds / PARTS),
        "lambda_gb_seconds": round(compute),
        "read_units": round(reads),
        "write_units": round(writes),
        "transitions": transitions,
        "usd_lambda": round(compute * USD_GB_SECOND, 4),
        "usd_dynamodb": round(dynamodb, 4),
        "usd_transitions": round(transitions * USD_THOUSAND_TRANSITIONS / 1e3, 4),
        "usd": round(usd + transitions * USD_THOUSAND_TRANSITIONS / 1e3, 4),
    }


if __name__ == "__main__":
    main()
