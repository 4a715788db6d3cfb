"""`headrace train`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from headrace.cli.compile import tell_serving
from headrace.cli.load_batch import rows_of
from headrace.cli.terminal import (
    AsJson,
    ModelDir,
    err,
    errors_told,
    model_dir_of,
    out,
    parse_time,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.events import us_to_time
from headrace.loading import load_definition
from headrace.offline.bundle import write_bundle
from headrace.offline.feed import Feed, feed_of, read_feed
from headrace.offline.holes import Holes
from headrace.offline.model_card import CARD, shown
from headrace.offline.replay import Conditions
from headrace.offline.simulator import Plan, simulate
from headrace.offline.splits import split_by_time
from headrace.offline.train import labelled, reference_of, training_features
from headrace.offline.train import train as fit
from headrace.offline.training import Training, load_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.definition import Definition
    from headrace.manifest import Manifest

SIMULATED = Plan(customers=1_000, terminals=2_000, days=75)


def train(
    events: Annotated[
        Path | None, typer.Option(help="Parquet file of the scored source; default: simulated.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Parquet file of the labels.")] = None,
    model_dir: ModelDir = None,
    train_days: Annotated[
        float | None, typer.Option(min=0.01, help="Days to train on; default: all before the gap.")
    ] = None,
    gap_days: Annotated[
        float | None,
        typer.Option(min=0, help="Days between, for labels; default: their source's lateness."),
    ] = None,
    test_days: Annotated[
        float | None, typer.Option(min=0.01, help="Last days, held out as a test; default: 7.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="End of the test; default: just after the last event.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn; default: 0.")] = None,
    holes: Annotated[
        str, typer.Option(help="What events lack, as shares, as of `headrace replay`.")
    ] = "",
    table: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=FILE`: rows of a table, each seen from its `loaded_at` on."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Fit the model on replayed features, compile it and write the bundle.

    Features come out of the same fold that scores live. `estimator.py` beside the definition
    says what is fitted and how: its `build()` returns any scikit-learn classifier, its `training`
    says intervals, search, calibration and threshold; the options here go before it. Without
    files, card transactions are simulated.
    """
    with errors_told():
        folder = model_dir_of(model_dir)
        definition = load_definition(folder / "definition.py")
        estimator, training = load_recipe(folder / "estimator.py")
        lengths = {"train": train_days, "gap": gap_days, "test": test_days}
        training = _with_options(training, lengths, seed)
        end = None if until is None else us_to_time(parse_time(until, "--until"))
        event_feed, label_feed = _feeds(definition, events, labels)
        with progress_bar("Replaying", len(event_feed.frame) + len(label_feed.frame)) as advance:
            how = Conditions(holes=Holes.parse(holes), rows=rows_of(definition, table or []))
            features = training_features(definition, event_feed, label_feed, advance, how)
        split = split_by_time(labelled(definition, features, label_feed), definition, training, end)
        rows = labelled(definition, features, label_feed, split)
        err.print(f"Fitting on {split.start:%Y-%m-%d} to {split.end:%Y-%m-%d}")
        trained = fit(definition, rows, split, estimator, training)
        trained = replace(trained, reference=reference_of(definition, event_feed, split))
        err.print("Compiling, and comparing with scikit-learn")
        manifest = write_bundle(folder, definition, trained)
    if json:
        print_json(manifest)
    else:
        _show(manifest, folder)


def _with_options(
    training: Training, days: Mapping[str, float | None], seed: int | None
) -> Training:
    """What the file says, where the command line says nothing else."""
    given: dict[str, Any] = {k: timedelta(days=n) for k, n in days.items() if n is not None}
    if seed is not None:
        given["seed"] = seed
    return replace(training, **given)


def _feeds(definition: Definition, events: Path | None, labels: Path | None) -> tuple[Feed, Feed]:
    source, label_source = definition.scored, definition.label.source
    if events is not None and labels is not None:
        return read_feed(events, source), read_feed(labels, label_source)
    if events is not None or labels is not None:
        msg = "--events and --labels belong together"
        raise typer.BadParameter(msg)
    traffic = simulate(SIMULATED)
    return feed_of(traffic.events, source), feed_of(traffic.labels, label_source)


def _show(manifest: Manifest, folder: Path) -> None:
    table = Table(
        title=f"Bundle {manifest.model_version} in {folder / 'bundle'}", show_header=False
    )
    table.add_row("estimator", manifest.estimator)
    table.add_row("trained on", f"{manifest.rows:,} rows, {manifest.trained_from} to "
                                f"{manifest.trained_to}")  # fmt: skip
    table.add_row("positive rate", f"{manifest.prior:.4f}")
    for name, value in manifest.metrics.items():
        ends = " to ".join(map(shown, manifest.intervals.get(name, ())))
        interval = f"  ({ends})" if ends else ""
        table.add_row(f"test {name.replace('_', ' ')}", f"{shown(value)}{interval}")
    if manifest.threshold is not None:
        rule = manifest.training["threshold"]
        table.add_row("alerts", f"at scores of {manifest.threshold:.6g} and above; {rule}")
    table.add_row("card", str(folder / "bundle" / CARD))
    out.print(table)
    tell_serving(manifest, "Certificate")
