"""Ten shards under load on local AWS, with faults in the middle. Table, then one JSON object.

    python tests/benchmarks/load.py    # or make bench ONLY=load; rows go to results/load.json

What comes all the time, and in the burst, goes by what this machine drains while much waits. In
the steady phase DynamoDB freezes; while the burst's backlog drains, all processes of the function
are killed, again and again. Exit code 1 where iterator age does not come back, an event was lost or
scored otherwise than in a replay, or a state differs from the replay's in a single bit. Needs
Linux and Java, and Node for kinesis-mock.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.load.course import Course, run  # noqa: E402

RESULTS = Path(__file__).with_name("results") / "load.json"

NOTHING = ("undelivered", "unscored", "unknown", "scores_apart", "states_apart", "kept")
"""Figures that must be 0."""

STRUCK = ("failed_invocations", "killed")


def main() -> None:
    """Run the course and say what is wrong."""
    usual = Course()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=usual.shards)
    parser.add_argument("--seconds", type=float, default=usual.steady_seconds, help="steady phase")
    parser.add_argument("--customers", type=int, default=usual.customers)
    parser.add_argument("--stream", choices=["moto", "kinesis-mock"], default=usual.stream)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # of every batch that fails; the table counts them
    course = Course(
        shards=chosen.shards, customers=chosen.customers, steady_seconds=chosen.seconds,
        stream=chosen.stream,
    )  # fmt: skip
    found = run(course, lambda line: print(line, file=sys.stderr, flush=True))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found) + "\n")
    print(json.dumps({name: found[name] for name in found if name != "rows"}))
    wrong = [f"{name} is {found[name]}; expected 0" for name in NOTHING if found[name]]
    wrong += [f"{name} is 0: no fault struck" for name in STRUCK if not found[name]]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
