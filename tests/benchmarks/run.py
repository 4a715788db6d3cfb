"""Measure volume, memory, state size, answers under faults; JSON in tests/benchmarks/results/.

Each measurement runs in a process of its own, on one core, and is counted in CPU time:
other work on the machine changes wall time, not that. Latencies are wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ONE_CORE = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
ALL = ["volume", "state", "hop", "capacity", "races", "ladder", "batch", "model"]
BARS = {
    ("volume", "records_per_cpu_second"): (">=", 10_000),
    ("volume", "peak_memory_mb"): ("<=", 1_500),
    ("state", "bytes_per_retained_event"): ("<=", 13),
    ("hop", "size_ratio_1m_to_200k"): ("<=", 1.1),
    ("hop", "time_ratio_1m_to_200k"): ("<=", 1.5),
    ("capacity", "read_units_batch_1"): ("<=", 3.0),
    ("capacity", "state_write_units_batch_1"): ("<=", 4.5),
    ("capacity", "read_units_batch_500"): ("<=", 3.0),
    ("capacity", "state_write_units_batch_500"): ("<=", 4.5),
    ("capacity", "score_write_units_batch_500"): ("<=", 1.5),
    ("ladder", "share_within_budget_plus_20_ms"): (">=", 0.99),
    ("batch", "cpu_us_per_entity"): ("<=", 150),
    ("batch", "client_cpu_us_per_entity"): ("<=", 500),
    ("batch", "read_units_per_entity"): ("<=", 1.0),
    ("batch", "write_units_per_entity"): ("<=", 2.0),
    ("model", "reference_times_faster"): (">=", 50),
    ("model", "forest_times_faster"): (">=", 50),
    ("model", "reference_rows_apart"): ("<=", 0),
}


def main() -> None:
    """Run the chosen measurements and compare them with their bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"{', '.join(ALL)}; all by default")
    chosen = parser.parse_args().names or ALL
    results = {name: measure(name) for name in chosen}
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    missed = [name for name in BARS if name[0] in results and not told(*name, results)]
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    sys.exit(1 if missed else 0)


def measure(name: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    print(f"measuring {name} ...", file=sys.stderr)
    command = [sys.executable, str(HERE / f"{name}.py")]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, **ONE_CORE}
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(name: str, figure: str, results: dict[str, dict[str, Any]]) -> bool:
    """Print a figure beside its bar; whether it is met."""
    sign, bar = BARS[name, figure]
    got = float(results[name][figure])
    met = got >= bar if sign == ">=" else got <= bar
    print(f"{'ok' if met else 'MISSED':6} {name}.{figure}: {got:,.2f} (bar {sign} {bar:,})")
    return met


if __name__ == "__main__":
    main()
