"""Replay one history again and again through untidy streams and faults, and count what went wrong.

    python tests/benchmarks/soak.py --seeds 100

Prints one line per seed on standard error, and one line and a JSON object with the sums.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from headrace.definition import hours
from headrace.local.faults import Faults
from headrace.local.stream_replay import Trial, replay_through_stream
from headrace.model import load_bundle
from headrace.offline.disorder import Disorder
from headrace.offline.feed import Feed, feed_of
from headrace.offline.replay import Window, replay, state_rows
from headrace.offline.simulator import Plan, simulate
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from headrace.offline.replay import Replay

ROOT = Path(__file__).parents[2]
HISTORY = Plan(customers=25, terminals=20, days=14, events_per_day=0.8)
FAULTS = Faults(
    throttle=0.02,
    skew=0.01,
    lost_response=0.02,
    crash=0.02,
    unprocessed=0.05,
    partial_put=0.2,
    slow=0.005,
)
KEY = ["entity", "entity_id", "view"]


def main() -> None:
    """Run the seeds; exit code 1 where anything was lost, doubled or otherwise wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # a crashed invocation has no metrics to publish
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    traffic = simulate(HISTORY)
    label = scorer.definition.label.source
    feeds = [feed_of(traffic.events, scorer.definition.scored), feed_of(traffic.labels, label)]
    clean = rows_of(scorer, replay(scorer, feeds))
    sums: Counter[str] = Counter(seeds=chosen.seeds)
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        found = Counter(trial(seed, scorer, feeds, clean))
        sums.update(found)
        print(f"seed {seed}: {dict(found)}", file=sys.stderr)
    print(
        f"{sums['seeds']} seeds: {sums['records']:,} records delivered, {sums['faults']:,} faults "
        f"injected; lost {sums['lost']}, doubled {sums['doubled']}, state rows that differ "
        f"{sums['differ']}, scores missing {sums['unscored']}"
    )
    print(json.dumps(sums))
    wrong = sums["lost"] + sums["doubled"] + sums["differ"] + sums["unscored"]
    sys.exit(1 if wrong or not sums["faults"] else 0)


def trial(seed: int, scorer: Scorer, feeds: list[Feed], clean: pl.DataFrame) -> dict[str, int]:
    """One replay, compared with the clean one."""
    with Path(os.devnull).open("w") as nowhere:
        how = Trial(
            Disorder(hours(2), 0.1, seed), FAULTS, seed, batch_size=10 + seed * 7 % 90, logs=nowhere
        )
        found = replay_through_stream(
            ROOT / "template.yaml", ROOT / "layers" / "model", feeds, Window(), None,
            lambda _: None, how,
        )  # fmt: skip
    rows = rows_of(scorer, found)
    both = clean.join(rows, on=KEY, how="full", suffix="_got", coalesce=True)
    counts = [name for name in clean.columns if "_count_" in name]
    apart = sum(
        (both.get_column(f"{name}_got").fill_null(0) - both.get_column(name).fill_null(0)
         for name in counts),
        start=pl.Series([0.0] * len(both)),
    )  # fmt: skip
    ids = found.scores.get_column("transaction_id")
    return {
        "records": found.counts["records"],
        "faults": sum(n for name, n in found.counts.items() if name.startswith("fault")),
        "lost": round(-sum(apart.filter(apart < 0))) + found.counts["failed"],
        "doubled": round(sum(apart.filter(apart > 0))) + len(ids) - ids.n_unique(),
        "differ": len(clean) - clean.join(rows, on=clean.columns, nulls_equal=True).height,
        "unscored": len(feeds[0].frame) - ids.n_unique(),
    }


def rows_of(scorer: Scorer, found: Replay) -> pl.DataFrame:
    """Every entity's features at the end."""
    return state_rows(scorer, found.states, found.newest).sort(KEY)


if __name__ == "__main__":
    main()
