"""`headrace backfill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from headrace.cli.load_batch import rows_of
from headrace.cli.terminal import (
    AsJson,
    check_folder,
    errors_told,
    fail,
    model_dir_of,
    out,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.loading import load_definition
from headrace.offline.backfill import Backfilled, Knowledge, steps
from headrace.offline.backfill import backfill as compute
from headrace.offline.differences import Difference, differences
from headrace.offline.feed import Feed, read_feed

if TYPE_CHECKING:
    from headrace.definition import Definition


def backfill(
    events: Annotated[Path, typer.Option(help="Parquet file of the scored source.")],
    out_file: Annotated[Path, typer.Option("--out", help="Parquet file to write features to.")],
    labels: Annotated[Path | None, typer.Option(help="Parquet file of the labels.")] = None,
    as_known: Annotated[
        bool,
        typer.Option(
            "--as-known/--as-happened",
            help="From what had arrived by then, or from all that had happened.",
        ),
    ] = True,
    differ: Annotated[
        bool, typer.Option("--differences", help="Also say how the two differ, by feature.")
    ] = False,
    definition: Annotated[
        Path | None, typer.Option(help="Definition file; by default the project's.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=FILE`: rows of a table, each seen from its `loaded_at` on."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Compute the features of every event at once, as the stream would have had them.

    As known, an event counts from `arrival_time`, a label from `label_time` on, like in a replay;
    as happened, both count from their event time on. The file has one row per event: id,
    event_time, late, and every feature in a column of its own, absent ones null.
    """
    check_folder(out_file, "--out")
    if out_file.resolve() in {path.resolve() for path in (events, labels) if path}:
        fail(f"--out: {out_file} is what is read; expected another file")
    chosen = Knowledge.AS_KNOWN if as_known else Knowledge.AS_HAPPENED
    with errors_told():
        made = load_definition(definition or model_dir_of(None) / "definition.py")
        feeds = feeds_of(made, events, labels)
        rows = rows_of(made, table or [])
        kinds = list(Knowledge) if differ else [chosen]
        total = len(kinds) * steps(made) * len(feeds[0].frame)
        with progress_bar("Backfilling", total) as advance:
            found = {kind: compute(made, feeds, kind, advance, rows) for kind in kinds}
        found[chosen].features.write_parquet(out_file)
    apart = _differences(made, found) if differ else []
    report = Report(found[chosen], chosen, out_file, apart)
    if json:
        print_json(report.as_json())
    else:
        report.show()


def feeds_of(definition: Definition, events: Path, labels: Path | None) -> list[Feed]:
    """The feed of the scored source, and that of the labels where there is one."""
    feeds = [read_feed(events, definition.scored)]
    return feeds if labels is None else [*feeds, read_feed(labels, definition.label.source)]


def _differences(definition: Definition, found: dict[Knowledge, Backfilled]) -> list[Difference]:
    known, happened = found[Knowledge.AS_KNOWN], found[Knowledge.AS_HAPPENED]
    key = definition.scored.id
    return differences(known.features, happened.features, key, definition.columns)


@dataclass(frozen=True, slots=True)
class Report:
    """A backfill as it is told."""

    found: Backfilled
    knowledge: Knowledge
    path: Path
    apart: list[Difference]

    def as_json(self) -> dict[str, Any]:
        """Everything in one object."""
        return {
            "out": str(self.path),
            "knowledge": self.knowledge,
            "events": len(self.found.features),
            "refused": self.found.refused,
            "late": int(self.found.features["late"].sum()),
            "folded": self.found.folded,
            "folded_entities": dict(self.found.reasons),
            "differences": {each.feature: each._asdict() for each in self.apart},
        }

    def show(self) -> None:
        """Print tables: counts, and how as known and as happened differ."""
        table = Table(
            title=f"{len(self.found.features):,} events in {self.path}", show_header=False
        )
        table.add_row("features", self.knowledge)
        table.add_row("refused", f"{self.found.refused:,}")
        table.add_row("late", f"{self.found.features['late'].sum():,}")
        for view, events in self.found.folded.items():
            if events:
                table.add_row(f"{view}: folded one by one", f"{events:,} events")
        for reason, entities in self.found.reasons.items():
            table.add_row(f"for {reason}", f"{entities:,} entities")
        out.print(table)
        if self.apart:
            out.print(self._apart())

    def _apart(self) -> Table:
        columns = ("feature", "events", "absent in one", "largest difference")
        table = Table(*columns, title="As known is not as happened")
        for each in self.apart:
            if each.rows:
                largest = f"{each.largest:.6g}"
                table.add_row(each.feature, f"{each.rows:,}", f"{each.absent:,}", largest)
        return table
