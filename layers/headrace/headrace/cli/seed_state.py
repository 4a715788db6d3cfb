"""`headrace seed-state`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace import bootstrap
from headrace.adapters.capacity import Capacity, MeteredStates
from headrace.adapters.clock import SystemClock
from headrace.adapters.paced import PacedStates, WriteBudget
from headrace.cli.place import Stack, place_of
from headrace.cli.seed_report import SeedReport, plan_shown
from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    ModelDir,
    err,
    errors_told,
    fail,
    model_dir_of,
    out,
    parse_time,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.errors import Unavailable
from headrace.offline.seed_parts import (
    Folder,
    History,
    folded_parts,
    folder_of,
    lacking_sources,
    name_of,
    newest_arrival,
    parts_of,
)
from headrace.offline.seed_plan import plan
from headrace.ports import StateStore
from headrace.seeding import Seeder, SeedRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.definition import Definition
    from headrace.settings import Settings


@dataclass(frozen=True, slots=True)
class _How:
    """How states are written."""

    processes: int
    units_per_second: float | None
    restart: bool


def seed_state(
    events: Annotated[Path, typer.Option(help="Parquet file or folder of the scored source.")],
    labels: Annotated[
        Path | None, typer.Option(help="Parquet file or folder of the labels.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="`NAME=PATH`: of another source; may be repeated.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="The hand-over: what arrived before it counts. Default: all there is."),
    ] = None,
    active_since: Annotated[
        str | None, typer.Option(help="Only entities to which something came since this time.")
    ] = None,
    write_units_per_second: Annotated[
        float | None, typer.Option(min=1, help="Budget of write units; the stream needs some too.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that fold; one per core by default.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin from the start, not where a run was cut.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan from a sample of entities; writes nothing.")
    ] = False,
    model_dir: ModelDir = None,
    stack: Stack = None,
    endpoint: Endpoint = None,
    json: AsJson = False,
) -> None:
    """Write entity states from history, so that a stream starts warm.

    Folds history as the stream would have, and writes one item per entity. Events arrive at their
    event time, labels at `label_time`; a column `arrival_time` says otherwise. The stream then
    starts up to an hour before the hand-over: what it brings again is known by its id. An item
    that is there already, of a stream that was faster, is merged where that is exact; else it
    stays as it is, is named, and the exit code is 1. A run that was cut goes on.

    Folds with the project's definition: run it from what is deployed. On AWS it needs
    cloudformation:DescribeStacks; of the state table dynamodb:BatchGetItem and dynamodb:PutItem;
    of the score table, where it notes how far it is, dynamodb:GetItem and dynamodb:PutItem. A dry
    run needs nothing of AWS.
    """
    with errors_told():
        folder = model_dir_of(model_dir)
        scorer = folder_of(folder)
        history = _history(
            scorer, _files(scorer.definition, events, labels, source), until, active_since
        )
        _tell_lacking(scorer, history)
        how = _How(processes or os.cpu_count() or 1, write_units_per_second, restart)
        if dry_run:
            _plan(scorer, history, how, json=json)
            return
        settings, client = place_of(stack, endpoint)
        report = _seeded(scorer, history, how, replace(settings, model_dir=folder), client)
    if json:
        print_json(report.as_json())
    else:
        report.show()
    if report.stopped:
        fail(f"stopped: {report.stopped}; run it again, it goes on from there")
    if report.apart:
        fail(f"{report.apart:,} states stay as they were: {report.APART}")


def _plan(scorer: Folder, history: History, how: _How, *, json: bool) -> None:
    with progress_bar("Looking", len(scorer.codec.folds)) as advance:
        found = plan(scorer, history, how.processes, how.units_per_second, advance)
    if json:
        print_json(found.as_json())
    else:
        out.print(*plan_shown(found, how.processes), sep="\n", highlight=False)


def _seeded(
    scorer: Folder,
    history: History,
    how: _How,
    settings: Settings,
    client: Callable[[str], Any],
) -> SeedReport:
    capacity, clock, began = Capacity(), SystemClock(), bootstrap.now()
    store: StateStore = MeteredStates(bootstrap.states_of(settings, client), capacity)
    if how.units_per_second:
        store = PacedStates(store, WriteBudget(how.units_per_second, clock))
    parts = parts_of(scorer, history)
    name = name_of(scorer, history, parts)
    run = SeedRun(Seeder(scorer.codec, store, clock), bootstrap.scores_of(settings, client), name)
    (run.restart if how.restart else run.resume)()
    left, stopped = run.left(parts), ""
    with progress_bar("Seeding", None) as advance:
        try:
            run.run(folded_parts(settings.model_dir, history, left, how.processes), advance)
        except Unavailable as error:
            stopped = str(error)
    seconds = (bootstrap.now() - began) / 1e6
    before = len(parts) - len(left)
    return SeedReport(history.until, run.progress, capacity, seconds, len(parts), before, stopped)


def _files(
    definition: Definition, events: Path, labels: Path | None, others: list[str] | None
) -> dict[str, Path]:
    """Source name -> where its history is."""
    files = {definition.scored.name: events}
    if labels is not None:
        files[definition.label.source.name] = labels
    for option in others or ():
        name, _, path = option.partition("=")
        if name not in {each.name for each in definition.sources} or not path or name in files:
            known = ", ".join(each.name for each in definition.sources if each.name not in files)
            fail(f"--source: got {option!r}; expected NAME=PATH, of {known or 'no other source'}")
        files[name] = Path(path)
    return files


def _history(
    scorer: Folder, files: dict[str, Path], until: str | None, active_since: str | None
) -> History:
    since = parse_time(active_since, "--active-since") if active_since else 0
    found = History(files, 0, since)
    end = parse_time(until, "--until") if until else newest_arrival(scorer, found) + 1
    if since >= end:
        fail("--active-since: expected a time before the hand-over")
    return replace(found, until=end)


def _tell_lacking(scorer: Folder, history: History) -> None:
    for view, source in lacking_sources(scorer.definition, history).items():
        err.print(f"View {view} stays empty: there is no history of {source}.", highlight=False)
