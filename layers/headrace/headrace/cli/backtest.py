"""`headrace backtest`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.backtest_report import show
from headrace.cli.load_batch import rows_of
from headrace.cli.terminal import (
    AsJson,
    ModelDir,
    check_folder,
    err,
    errors_told,
    find_project,
    model_dir_of,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.loading import load_definition
from headrace.offline.backtest.frames import Frames, frames_of
from headrace.offline.backtest.page import page
from headrace.offline.backtest.report import as_json, report_of, traffic_of
from headrace.offline.backtest.stages import Protocol
from headrace.offline.backtest.stages import backtest as tested
from headrace.offline.feed import read_feed
from headrace.offline.plan.settings_of import settings_of
from headrace.offline.plan.sizing import Deployment, Traffic, shape_of
from headrace.offline.plan.tables import (
    MEASURED,
    PRICES,
    Figures,
    newest,
    read_figures,
    read_prices,
)
from headrace.offline.training import load_recipe

if TYPE_CHECKING:
    from headrace.definition import Definition

WEEKS = 4


def backtest(
    events: Annotated[Path, typer.Option(help="Parquet file of the scored source.")],
    labels: Annotated[Path, typer.Option(help="Parquet file of the labels.")],
    html: Annotated[
        Path | None, typer.Option("--out", help="HTML page with charts, one file; for sharing.")
    ] = None,
    gaps: Annotated[
        Path | None,
        typer.Option(help="Parquet file: for each test event the gap and what it is made of."),
    ] = None,
    model_dir: ModelDir = None,
    nightly_definition: Annotated[
        Path | None,
        typer.Option(help="What the nightly job computes, where that is another definition."),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=FILE`: rows of a table, each seen from its `loaded_at` on."),
    ] = None,
    train_days: Annotated[
        float, typer.Option(min=1, help="Days that each week's models are trained on.")
    ] = 7,
    gap_days: Annotated[
        float | None,
        typer.Option(min=0, help="Days between, for labels; default: their source's lateness."),
    ] = None,
    test_days: Annotated[float, typer.Option(min=1, help="Days that are scored with them.")] = 7,
    weeks: Annotated[
        int, typer.Option(min=1, help="At most so many splits, each a test further back.")
    ] = WEEKS,
    resamples: Annotated[
        int, typer.Option(min=0, help="How often entities are drawn again for intervals.")
    ] = 200,
    events_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="For the cost; default: that of the history.")
    ] = None,
    worth: Annotated[
        float | None,
        typer.Option(
            min=0, help="USD that one more positive found is worth: a part of the verdict."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    json: AsJson = False,
) -> None:
    """Say what real time would have been worth on your history, and whether to go.

    Week by week models are trained on what was known then, and the same events scored as each
    stage would have: nightly scores looked up, nightly features, real-time features; with
    intervals, staleness, coverage and cost, and the gap between batch and real-time scores by what
    makes it.
    """
    check_folder(html, "--out")
    check_folder(gaps, "--gaps")
    with errors_told():
        folder = model_dir_of(model_dir)
        definition = load_definition(folder / "definition.py")
        estimator, training = load_recipe(folder / "estimator.py")
        training = replace(
            training,
            train=timedelta(days=train_days),
            test=timedelta(days=test_days),
            gap=training.gap if gap_days is None else timedelta(days=gap_days),
            resamples=resamples,
            seed=seed,
        )
        err.print("Computing features as of every event, and as of the midnight before")
        frames = _frames(definition, events, labels, table)
        nightly = frames
        if nightly_definition is not None:
            nightly = _frames(load_definition(nightly_definition), events, labels, table)
        label_feed = read_feed(labels, definition.label.source)
        with progress_bar("Weeks", weeks) as advance:
            how = Protocol(estimator=estimator, training=training, weeks=weeks, progress=advance)
            found = tested(frames, nightly, label_feed, how)
        traffic = traffic_of(frames, events_per_second)
        report = report_of(found, _deployed(definition, traffic), worth)
    if gaps is not None:
        found.per_event.write_parquet(gaps)
    if html is not None:
        html.write_text(page(report), encoding="utf-8")
    if json:
        print_json(as_json(report))
    else:
        show(report)


def _frames(definition: Definition, events: Path, labels: Path, table: list[str] | None) -> Frames:
    feeds = [read_feed(events, definition.scored), read_feed(labels, definition.label.source)]
    return frames_of(definition, feeds, rows_of(definition, table or []))


def _deployed(definition: Definition, traffic: Traffic) -> Deployment:
    project = find_project()
    infra = project / "infra"
    return Deployment(
        traffic,
        settings_of(project / "template.yaml"),
        shape_of(definition),
        Figures(read_figures(newest(infra, MEASURED)), {}),
        read_prices(newest(infra, PRICES)),
    )
