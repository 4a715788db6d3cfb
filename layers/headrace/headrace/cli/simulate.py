"""`headrace simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.terminal import AsJson, errors_told, fail, out, print_json
from headrace.offline.simulator import A_MONDAY, Plan
from headrace.offline.simulator import simulate as simulated

EVENTS, LABELS = "events.parquet", "labels.parquet"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    events_file: str
    labels_file: str
    events: int
    positives: int
    first: datetime
    last: datetime


def simulate(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for events.parquet and labels.parquet.")
    ],
    customers: Annotated[int, typer.Option(help="How many customers.")] = 1_000,
    terminals: Annotated[int, typer.Option(help="How many terminals.")] = 2_000,
    days: Annotated[int, typer.Option(help="Days of traffic.")] = 75,
    fraud_share: Annotated[float, typer.Option(help="Share of the transactions.")] = 0.01,
    start: Annotated[str, typer.Option(help="First instant, ISO 8601.")] = A_MONDAY.isoformat(),
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    json: AsJson = False,
) -> None:
    """Write made-up card transactions and their labels as Parquet, to try everything with.

    The same options write the same traffic on every machine. Labels come up to a week after
    their transactions, as in life.
    """
    with errors_told():
        plan = Plan(
            customers=customers,
            terminals=terminals,
            days=days,
            fraud_share=fraud_share,
            start=_time(start),
            seed=seed,
        )
        traffic = simulated(plan)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        traffic.events.write_parquet(out_dir / EVENTS)
        traffic.labels.write_parquet(out_dir / LABELS)
    except OSError as error:
        fail(f"--out: {error}; expected a folder that can be written to")
    written = Written(
        str(out_dir / EVENTS),
        str(out_dir / LABELS),
        len(traffic.events),
        int(traffic.labels["is_fraud"].sum()),
        traffic.events["event_time"][0],
        traffic.events["event_time"][-1],
    )
    if json:
        print_json(written)
        return
    out.print(
        f"{written.events:,} transactions, {written.first:%Y-%m-%d} to {written.last:%Y-%m-%d}, "
        f"{written.positives:,} of them fraud\n{written.events_file}\n{written.labels_file}",
        highlight=False,
        soft_wrap=True,
    )


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--start: got {text!r}; expected ISO 8601, such as 2025-03-03T00:00:00Z")
    return time if time.tzinfo else time.replace(tzinfo=UTC)
