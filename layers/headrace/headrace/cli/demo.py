"""`headrace demo`."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.table import Table

from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    err,
    errors_told,
    fail,
    find_project,
    out,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.local.stack import LocalAws
from headrace.local.story import Story, Storyteller, live_median
from headrace.local.stream_replay import Arrivals
from headrace.model import load_bundle
from headrace.scoring import Scorer

_RANKS_SHOWN = 12


def demo(endpoint: Endpoint = None, json: AsJson = False) -> None:
    """Tell the whole story on this machine in two minutes.

    Simulated card transactions go into a Kinesis stream; features come out of windows kept in
    DynamoDB; the model in layers/model scores them; scores land in DynamoDB; the endpoint
    answers; the scheduled batch path steps in. The functions and the template are those that
    deploy to AWS; AWS itself is played by moto.
    """
    project, started = find_project(), time.perf_counter()
    logs_path = Path(tempfile.gettempdir()) / "headrace-demo.log"
    with errors_told(), logs_path.open("w", encoding="utf-8") as logs:
        known = Arrivals()
        teller = Storyteller(
            Scorer(load_bundle(project / "layers" / "model")), known, datetime.now(UTC)
        )
        err.print("[bold]1[/] Local AWS from template.yaml: stream, tables, bucket, functions, API")
        template = project / "template.yaml"
        with LocalAws.start(template, endpoint=endpoint, arrival=known, logs=logs) as aws:
            _tell(teller, aws)
    seconds = time.perf_counter() - started
    if json:
        print_json({**asdict(teller.story), "seconds": seconds})
    else:
        _show(teller.story, seconds, logs_path)
    lacking = teller.story.lacks(teller.scale)
    if lacking:
        fail(f"not everything came out: {'; '.join(lacking)}. See {logs_path}")


def _tell(teller: Storyteller, aws: LocalAws) -> None:
    err.print("[bold]2[/] History: fold it in memory, write each entity's state to DynamoDB")
    with progress_bar("records of history", teller.history) as advance:
        teller.seed_history(advance)
    err.print(
        "[bold]3[/] Backlog: Kinesis -> score_stream -> DynamoDB, bad and repeated records too"
    )
    with progress_bar("records through Kinesis", teller.scale.backlog) as advance:
        teller.drain_backlog(aws, advance)
    err.print("[bold]4[/] Live: the trigger polls, events come one by one")
    with progress_bar("events scored", teller.scale.live) as advance:
        teller.go_live(aws, advance)
    err.print("[bold]5[/] Endpoint: score_request behind the REST API, signed requests")
    teller.ask_endpoint(aws)
    err.print(
        "[bold]6[/] Schedule: score_batch for everyone who would go stale before the next run"
    )
    teller.run_batch(aws)


def _show(story: Story, seconds: float, logs: Path) -> None:
    table = Table(title="What happened", show_header=False, title_justify="left")
    table.add_column(style="bold")
    for name, text in _lines(story):
        table.add_row(name, text)
    out.print(table)
    out.print(f"Took {seconds:.0f} s. What the functions logged: {logs}", highlight=False)
    out.print("\nWhat to type next:")
    for command, meaning in (
        (".venv/bin/headrace up", "keep it running: stream, endpoint and schedule"),
        (".venv/bin/headrace train", "train the model again, from layers/model/definition.py"),
        (".venv/bin/headrace replay --help", "score a Parquet file of your own events"),
    ):
        out.print(f"  [cyan]{command:34}[/] {meaning}", highlight=False, soft_wrap=True)


def _lines(story: Story) -> list[tuple[str, str]]:
    batch, live = story.batch, live_median(story)
    slowest = max(story.live_seconds, default=0.0)
    return [
        ("history", f"{story.history:,} transactions folded, {story.seeded:,} states seeded"),
        (
            "records sent",
            f"{story.sent:,} transactions and labels, of them {story.repeats} repeated, "
            f"{story.bad} bad",
        ),
        (
            "transactions scored",
            f"{story.scored:,} of {story.expected:,}; what came twice was counted once",
        ),
        ("quarantined", f"{sum(story.quarantined.values())}: {_counts(story.quarantined)}"),
        ("values imputed", _counts(story.imputed)),
        ("ranks against labels", _ranks(story)),
        (
            "put to score, live",
            f"median {live:.2f} s, slowest {slowest:.2f} s (batching window 1 s, moto)"
            if live is not None
            else "no live event was scored",
        ),
        ("backlog", f"{story.backlog_seconds:.0f} s; moto takes most of it, not the functions"),
        *((name, text) for name, text in story.answers.items()),
        (
            "scheduled run",
            f"{batch.get('entities', 0):,} customers: {batch.get('scored', 0):,} batch scores, "
            f"{batch.get('fresh', 0):,} stay fresh until the next run",
        ),
        ("look-ups by rung", _counts(story.rungs)),
    ]


def _ranks(story: Story) -> str:
    """Where the frauds are among the scores, the highest first."""
    if not story.ranks:
        return "no frauds among them"
    shown = ", ".join(f"{rank:,}" for rank in story.ranks[:_RANKS_SHOWN])
    more = ", ..." if len(story.ranks) > _RANKS_SHOWN else ""
    return (
        f"{len(story.ranks)} frauds, at ranks {shown}{more} of {story.scored:,} from the highest "
        f"score; their median is {median(story.ranks):,.0f}, by chance {story.scored / 2:,.0f}"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
