"""Replay of 585,177 card events and their labels through the stream scorer, in memory.

Uses the card data where HEADRACE_ORACLE_DATA names its folder, else simulated traffic of the
same size. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

from headrace.model import load_bundle
from headrace.offline.feed import Feed, feed_of, read_feed
from headrace.offline.replay import replay
from headrace.offline.simulator import Plan, simulate
from headrace.scoring import Scorer

ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "data"
LIKE_CARD_DATA = Plan(customers=4_990, terminals=10_000, days=60, events_per_day=1.955)


def feeds(scorer: Scorer) -> tuple[str, list[Feed]]:
    """The card data where it is, else traffic like it."""
    folder = Path(os.environ.get("HEADRACE_ORACLE_DATA", BESIDE))
    source, labels = scorer.definition.scored, scorer.definition.label.source
    if (folder / "card_events.parquet").is_file():
        files = (folder / "card_events.parquet", folder / "card_labels.parquet")
        return "card", [read_feed(files[0], source), read_feed(files[1], labels)]
    traffic = simulate(LIKE_CARD_DATA)
    return "simulated", [feed_of(traffic.events, source), feed_of(traffic.labels, labels)]


def main() -> None:
    """Replay once and print what it took."""
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    name, both = feeds(scorer)
    wall, cpu = time.perf_counter(), time.process_time()
    found = replay(scorer, both)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    events, records = len(found.scores), found.counts["records"]
    sizes = sorted(len(stored.data) for stored in found.states.items.values())
    print(
        json.dumps(
            {
                "data": name,
                "events": events,
                "records": records,
                "cpu_seconds": round(cpu, 2),
                "wall_seconds": round(wall, 2),
                "events_per_cpu_second": round(events / cpu),
                "records_per_cpu_second": round(records / cpu),
                "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "entities": len(sizes),
                "state_bytes_median": sizes[len(sizes) // 2],
                "state_bytes_largest": sizes[-1],
            }
        )
    )


if __name__ == "__main__":
    main()
