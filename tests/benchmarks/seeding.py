"""Seeding states from history: 50,000 entities measured, and a million planned. Prints one JSON.

Card traffic of 50,000 entities is folded part by part and written to stores in memory, in one
process and one core: CPU per entity, bytes and units of its item. What the client of DynamoDB adds
for each item is measured against a stub that answers every put at once. A million entities are
those times twenty, within a budget of write units; how well a plan from a sample of 5,000 of each
kind foretells the 50,000 is printed beside it.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.adapters.capacity import item_bytes, write_units
from headrace.adapters.clock import SystemClock
from headrace.adapters.dynamodb import DynamoStates
from headrace.adapters.items import state_item
from headrace.adapters.memory import MemoryScores, MemoryStates
from headrace.offline.seed_parts import (
    Folder,
    History,
    fold_part,
    folder_of,
    name_of,
    newest_arrival,
    parts_of,
)
from headrace.offline.seed_plan import plan
from headrace.offline.simulator import Plan, simulate
from headrace.seeding import FoldedPart, Part, Seeder, SeedRun

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from stub import stub  # noqa: E402

from tests.aws import STATES, dynamodb_client  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.ports import StateWrite

TRAFFIC = Plan(customers=17_000, terminals=33_000, days=30, events_per_day=1.2)
MILLION = 1_000_000
BUDGET = 1_000  # write units per second: a fortieth of what a table on demand takes by default
PUTS = 4_000
CHUNK = 500


def main() -> None:
    """Measure, then do the arithmetic."""
    folder = folder_of(ROOT / "layers" / "model")
    with tempfile.TemporaryDirectory() as where:
        history = written(folder, Path(where))
        planned = plan(folder, history, 1, BUDGET)
        wall, cpu = time.perf_counter(), time.process_time()
        run, states, writes = seeded(folder, history)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    entities, counts = len(states.items), run.progress.counts
    units = sum(map(write_units, writes))
    sizes = sorted(item_bytes(state_item(write)) for write in writes)
    client = client_us(folder, writes[:: max(1, len(writes) // PUTS)][:PUTS])
    found: dict[str, Any] = {
        "entities": entities,
        "events_folded": counts["events"],
        "cpu_us_per_entity": round(cpu / entities * 1e6, 1),
        "cpu_us_per_event_folded": round(cpu / counts["events"] * 1e6, 1),
        "wall_seconds": round(wall, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "item_bytes_mean": round(sum(sizes) / entities, 1),
        "item_bytes_largest": sizes[-1],
        "write_units_per_entity": round(units / entities, 4),
        "client_cpu_us_per_entity": round(client, 1),
        "plan_of_units_off_percent": round(100 * abs(planned.write_units / units - 1), 2),
        "plan_of_cpu_off_percent": round(100 * abs(planned.cpu_seconds / cpu - 1), 1),
    }
    print(json.dumps(found | {"at_a_million": at_a_million(found)}))


def written(folder: Folder, where: Path) -> History:
    """Simulated history in files."""
    traffic = simulate(TRAFFIC)
    definition = folder.definition
    files = {
        definition.scored.name: where / "events.parquet",
        definition.label.source.name: where / "labels.parquet",
    }
    for path, frame in zip(files.values(), (traffic.events, traffic.labels), strict=True):
        frame.write_parquet(path)
    return History(files, newest_arrival(folder, History(files, 0)) + 1)


def seeded(folder: Folder, history: History) -> tuple[SeedRun, MemoryStates, list[StateWrite]]:
    """Seed all of it, stores in memory."""
    states, kept = MemoryStates(), list[FoldedPart]()
    parts = parts_of(folder, history)
    seeder = Seeder(folder.codec, states, SystemClock())
    run = SeedRun(seeder, MemoryScores(), name_of(folder, history, parts))
    run.resume()
    run.run(folds(folder, history, parts, kept), lambda _: None)
    return run, states, [write for part in kept for write in part.writes]


def folds(
    folder: Folder, history: History, parts: Sequence[Part], kept: list[FoldedPart]
) -> Iterator[FoldedPart]:
    """Parts as they are folded, which are kept too."""
    for part in parts:
        kept.append(fold_part(folder, history, part))
        yield kept[-1]


def client_us(folder: Folder, writes: Sequence[StateWrite]) -> float:
    """CPU microseconds that the client takes for one conditional put."""
    with stub(b"{}") as port:
        client = dynamodb_client(f"http://127.0.0.1:{port}")
        seeder = DynamoStates(client, STATES, SystemClock())
        seeder.write(writes[:200])
        waiting = iter(writes)
        began = time.process_time()
        while chunk := list(islice(waiting, CHUNK)):
            outcome = seeder.write(chunk)
            assert not outcome.failed, outcome.failed
        return (time.process_time() - began) / len(writes) * 1e6


def at_a_million(found: dict[str, Any]) -> dict[str, float]:
    """What a million such entities take: folding on one core, the client on another."""
    folding = MILLION * found["cpu_us_per_entity"] / 1e6
    client = MILLION * found["client_cpu_us_per_entity"] / 1e6
    units = MILLION * found["write_units_per_entity"]
    writing = units / BUDGET
    return {
        "write_units": round(units),
        "storage_gb": round(MILLION * (found["item_bytes_mean"] + 100) / 1e9, 2),
        "budget_units_per_second": BUDGET,
        "seconds_of_writing_at_budget": round(writing),
        "seconds_of_folding_on_one_core": round(folding),
        "seconds_of_the_client_on_one_core": round(client),
        "seconds": round(max(writing, folding, client)),
    }


if __name__ == "__main__":
    main()
