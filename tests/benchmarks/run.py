"""Measure volume, memory, state size, answers under faults; JSON in tests/benchmarks/results/.

Each measurement runs in a process of its own, on one core, and is counted in CPU time:
other work on the machine changes wall time, not that. Latencies are wall time.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ONE_CORE = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
ALL = [
    "request", "cold", "model", "stream", "layers", "volume", "state", "hop", "capacity", "races",
    "ladder", "batch", "seeding", "backfill",
]  # fmt: skip
PEERS = ["peers_bench"]
ON_REQUEST = ["imputation", "load", "stores", "training", *PEERS]
"""Measured when named: they say what is worth what, or take many minutes."""

Bar = tuple[str, str, str, float]
BARS: list[Bar] = [
    ("request", "times_less_than_boto3_and_scikit_learn", ">=", 5),
    ("request", "times_the_floor", "<=", 8),
    ("request", "without_store_p99_us", "<", 1_000),
    ("cold", "times_less_than_typical", ">=", 4),
    ("model", "reference_times_faster", ">=", 50),
    ("model", "forest_times_faster", ">=", 50),
    ("model", "boosting_times_faster", ">=", 50),
    ("model", "reference_rows_apart", "<=", 0),
    ("stream", "decode_and_check_us", "<=", 2.5),
    ("stream", "fold_us", "<=", 10),
    ("stream", "codec_100_us", "<=", 5),
    ("stream", "handler_us", "<=", 40),
    ("layers", "scoring_mb", "<=", 150),
    ("volume", "records_per_cpu_second", ">=", 10_000),
    ("volume", "peak_memory_mb", "<=", 1_500),
    ("state", "bytes_per_retained_event", "<=", 13),
    ("hop", "size_ratio_1m_to_200k", "<=", 1.1),
    ("hop", "time_ratio_1m_to_200k", "<=", 1.5),
    ("capacity", "read_units_batch_1", "<=", 3.0),
    ("capacity", "state_write_units_batch_1", "<=", 4.5),
    ("capacity", "read_units_batch_500", "<=", 3.0),
    ("capacity", "state_write_units_batch_500", "<=", 4.5),
    ("capacity", "score_write_units_batch_500", "<=", 1.5),
    ("ladder", "share_within_budget_plus_20_ms", ">=", 0.99),
    ("batch", "cpu_us_per_entity", "<=", 150),
    ("batch", "client_cpu_us_per_entity", "<=", 500),
    ("batch", "read_units_per_entity", "<=", 1.0),
    ("batch", "write_units_per_entity", "<=", 2.0),
    ("seeding", "cpu_us_per_entity", "<=", 900),
    ("seeding", "write_units_per_entity", "<=", 1.2),
    ("seeding", "client_cpu_us_per_entity", "<=", 1_600),
    ("seeding", "plan_of_units_off_percent", "<=", 1),
    ("seeding", "plan_of_cpu_off_percent", "<=", 25),
    ("seeding", "peak_memory_mb", "<=", 700),
    ("backfill", "times_numpy_200k", "<=", 1.5),
    ("backfill", "times_numpy_2000k", "<=", 1.5),
    ("backfill", "times_memory_200k", "<=", 2),
    ("backfill", "times_memory_2000k", "<=", 2),
    ("backfill", "times_faster_than_pandas_200k", ">=", 9),
    ("load", "undelivered", "<=", 0),
    ("load", "unscored", "<=", 0),
    ("load", "scores_apart", "<=", 0),
    ("load", "states_apart", "<=", 0),
    ("peers_bench", "request_times_less_than_boto3_scikit_learn", ">=", 5),
    ("peers_bench", "request_times_less_than_feast", ">=", 10),
    ("peers_bench", "stream_times_less_than_river", ">=", 5),
    ("peers_bench", "stream_times_less_than_bytewax", ">=", 3),
]
SIMULATED = {
    ("capacity", "read_units_batch_1"): 3.1,
    ("capacity", "state_write_units_batch_1"): 5.5,
}
"""Bars where the card data is not there: states of what is made up in its place are larger."""

_MEETS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def main() -> None:
    """Run the chosen measurements, one after another, and compare them with their bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"{', '.join([*ALL, *ON_REQUEST])}; the first ones"
    )
    chosen = parser.parse_args().names or ALL
    results = {name: measure(name) for name in chosen}
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / "results.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, "machine": machine, **results}, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    told = [tell(bar, results[bar[0]]) for bar in BARS if bar[1] in results.get(bar[0], {})]
    sys.exit(0 if all(told) else 1)


def measure(name: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    print(f"measuring {name} ...", file=sys.stderr)
    command = [sys.executable, str(HERE / f"{name}.py")]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, **ONE_CORE}
    )
    told = done.stdout.decode()
    found: dict[str, Any] = json.loads(told[told.rfind("\n{") + 1 :])  # after lines of a log
    return found


def tell(bar: Bar, figures: dict[str, Any]) -> bool:
    """Print a figure beside its bar; whether it is met."""
    name, figure, sign, least = bar
    if figures.get("data") == "simulated":
        least = SIMULATED.get((name, figure), least)
    got = float(figures[figure])
    met = bool(_MEETS[sign](got, least))
    print(f"{'ok' if met else 'MISSED':6} {name}.{figure}: {got:,.2f} (bar {sign} {least:,})")
    return met


if __name__ == "__main__":
    main()
