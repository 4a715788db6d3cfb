"""`headrace skew`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.table import Table

from headrace import bootstrap
from headrace.cli.backfill import feeds_of
from headrace.cli.load_batch import rows_of
from headrace.cli.place import Stack, place_of
from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    errors_told,
    fail,
    model_dir_of,
    out,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.errors import Misconfigured
from headrace.loading import load_definition
from headrace.offline.backfill import steps
from headrace.offline.skew import PASSES, Reason, Skew, logged_of
from headrace.offline.skew import skew as explain

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.offline.feed import Feed
    from headrace.scores import ScoreRecord

_AT_ONCE = 100
"""Records read together: what one BatchGetItem takes."""


def skew(
    events: Annotated[Path, typer.Option(help="Parquet file of the scored source.")],
    labels: Annotated[Path | None, typer.Option(help="Parquet file of the labels.")] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Scores of `headrace replay`; by default the score table's records."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="So many events, chosen evenly, of the score table.")
    ] = 10_000,
    definition: Annotated[
        Path | None, typer.Option(help="Definition file; by default the project's.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=FILE`: rows of a table, each seen from its `loaded_at` on."),
    ] = None,
    stack: Stack = None,
    endpoint: Endpoint = None,
    json: AsJson = False,
) -> None:
    """Hold logged features against backfilled ones, and give each difference its reason.

    Reads the scores of a replay, or the records in the score table of the running `headrace up`,
    of `--endpoint` or of `--stack`. The files have the events as they arrived, `arrival_time` and
    `label_time` included. Exit code 1 where a difference has no reason. On AWS it needs
    cloudformation:DescribeStacks, and dynamodb:BatchGetItem of the score table.
    """
    with errors_told():
        made = load_definition(definition or model_dir_of(None) / "definition.py")
        feeds, rows = feeds_of(made, events, labels), rows_of(made, table or [])
        logged = _read(log) if log else _stored(made, feeds[0], sample, (stack, endpoint))
        total = PASSES * steps(made) * len(feeds[0].frame)
        with progress_bar("Backfilling", total) as advance:
            found = explain(made, logged, feeds, advance, rows)
    if json:
        print_json(_as_json(found))
    else:
        _show(found)
    if found.unexplained:
        fail(f"{found.unexplained:,} values are unexplained, such as of {found.examples}")


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: {error}; expected a Parquet file of `headrace replay`"
        raise Misconfigured(msg) from error


def _stored(
    definition: Definition, feed: Feed, sample: int, place: tuple[str | None, str | None]
) -> pl.DataFrame:
    """Records of the score table, of events spread evenly over the file."""
    ids = feed.frame.get_column(definition.scored.id).cast(pl.String).unique(maintain_order=True)
    chosen = ids.gather_every(max(1, len(ids) // sample)).head(sample).to_list()
    store = bootstrap.scores_of(*place_of(*place))
    records: list[ScoreRecord] = []
    with progress_bar("Reading records", len(chosen)) as advance:
        for start in range(0, len(chosen), _AT_ONCE):
            part = chosen[start : start + _AT_ONCE]
            records += store.get_all(part).values()
            advance(len(part))
    return logged_of(records, definition)


def _as_json(found: Skew) -> dict[str, Any]:
    totals = {reason: sum(each[reason] for each in found.counts.values()) for reason in Reason}
    return {
        "events": found.compared,
        "without_features": found.without_features,
        "not_backfilled": found.not_backfilled,
        "totals": totals,
        "features": found.counts,
        "examples": found.examples,
    }


def _show(found: Skew) -> None:
    table = Table("feature", *Reason, title=f"{found.compared:,} events, logged and backfilled")
    for name, counts in found.counts.items():
        table.add_row(name, *(f"{counts[reason]:,}" for reason in Reason))
    out.print(table)
    for what, count in (
        ("have no features: from a lower rung", found.without_features),
        ("are not in the files", found.not_backfilled),
    ):
        if count:
            out.print(f"{count:,} logged events {what}", highlight=False)
