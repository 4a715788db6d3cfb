"""Looks for known faults in what is locked, with pip-audit; run by `make audit`.

pip-audit asks PyPI's JSON interface, then OSV. A mirror of PyPI that has packages only, or no
network, knows of no fault: then nothing was audited, and that is said instead of a good result.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (
    "requirements.txt",
    "layers/runtime/requirements.txt",
    "layers/runtime/tables.txt",
    "layers/runtime/backfill.txt",
)
SERVICES = ("pypi", "osv")
SECONDS = 300


def main() -> int:
    """Audit every lock; 1 where a fault is known, 0 also where nothing could be asked."""
    program = sys.argv[1]
    results = [audit(program, ROOT / lock) for lock in LOCKS]
    for lock, packages in zip(LOCKS, results, strict=True):
        print(f"{lock}: {told(packages)}")
    return int(any(each.get("vulns") for packages in results for each in packages))


def audit(program: str, lock: Path) -> list[dict[str, Any]]:
    """pip-audit's findings on a lock, by package; empty where no service answered."""
    for service in SERVICES:
        command = [program, "--vulnerability-service", service, "--format", "json"]
        command += ["--disable-pip", "--require-hashes", "--requirement", str(lock)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        found: list[dict[str, Any]] = []
        if run.stdout.startswith("{"):
            found = json.loads(run.stdout)["dependencies"]
        if any("vulns" in each for each in found):
            return found
    return []


def told(packages: list[dict[str, Any]]) -> str:
    """What was found, in a line or more."""
    asked = [each for each in packages if "vulns" in each]
    if not asked:
        services = " nor ".join(SERVICES)
        return f"NOT AUDITED: neither {services} gave its database; a network to one would do"
    faults = [f"{p['name']} {p['version']}: {v['id']}" for p in asked for v in p["vulns"]]
    left = len(packages) - len(asked)
    return "\n  ".join([f"{len(asked)} asked, {left} unknown, {len(faults)} faults", *faults])


if __name__ == "__main__":
    sys.exit(main())
