"""`headrace backfill`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from headrace.cli.backfill_aws import TEMPLATE, backfill_on_aws
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
from headrace.offline.backfill_parts import ROWS, Folder, How, backfill_parts
from headrace.offline.backfill_plan import Order
from headrace.offline.differences import Difference, differences
from headrace.offline.feed import Feed, read_feed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Definition
    from headrace.table_rows import TableRow


class On(StrEnum):
    """Where a backfill runs."""

    HERE = "here"
    AWS = "aws"


def backfill(
    events: Annotated[
        str, typer.Option(help="Parquet file of the scored source, or a folder of them.")
    ],
    out_file: Annotated[
        str, typer.Option("--out", help="File to write features to; of a folder, a new folder.")
    ],
    labels: Annotated[
        str | None, typer.Option(help="Parquet file of the labels, or a folder of them.")
    ] = None,
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
    rows_at_once: Annotated[
        int, typer.Option(min=1, help="Of a folder: events of a source in memory at once.")
    ] = ROWS,
    on: Annotated[On, typer.Option(help="This machine, or a state machine on AWS.")] = On.HERE,
    stack: Annotated[
        str | None, typer.Option(help="On AWS: a stack of infra/backfill.yaml.")
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=0, help="On AWS: of each entity's ids; 0 goes by the files' size.")
    ] = 0,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="On AWS: functions that run at once, at most.")
    ] = 50,
    json: AsJson = False,
) -> None:
    """Compute the features of every event at once, as the stream would have had them.

    As known, an event counts from `arrival_time`, a label from `label_time` on, like in a replay;
    as happened, both count from their event time on. There is one row per event: id, event_time,
    late, and every feature in a column of its own, absent ones null. A folder may be larger than
    memory: it is worked through in parts, and so is what comes out.

    With `--on aws` the three are `s3://` addresses, and the definition is that of the stack. It
    needs cloudformation:DescribeStacks, and of the state machine states:StartExecution,
    DescribeExecution, ListMapRuns and DescribeMapRun.
    """
    chosen = Knowledge.AS_KNOWN if as_known else Knowledge.AS_HAPPENED
    if on is On.AWS:
        _check_aws(definition, table, differ=differ)
        if stack is None:
            fail(f"--on aws needs --stack, the name of a stack of {TEMPLATE}")
        order = Order(events, out_file, labels, chosen, rows_at_once, partitions)
        with errors_told():
            report = backfill_on_aws(stack, order, concurrency)
    else:
        places = _places(events, labels, out_file)
        _check_places(places, differ=differ)
        with errors_told():
            made = load_definition(definition or model_dir_of(None) / "definition.py")
            how = How(chosen, rows_at_once, rows_of(made, table or []))
            report = _here(made, places, how, differ=differ)
    if json:
        print_json(report)
    else:
        _show(report)


class _Places(NamedTuple):
    """On this machine: what is read, and what is written."""

    events: Path
    labels: Path | None
    out: Path


def _check_aws(definition: Path | None, table: list[str] | None, *, differ: bool) -> None:
    given = {"--differences": differ, "--definition": definition, "--table": table}
    if wrong := [name for name, value in given.items() if value]:
        fail(f"{', '.join(wrong)}: not with --on aws; expected them on this machine only")


def _places(events: str, labels: str | None, out_file: str) -> _Places:
    for given in filter(None, (events, labels, out_file)):
        if given.startswith("s3://"):
            fail(f"{given} is in S3: that is for --on aws; expected a file or folder")
    return _Places(Path(events), Path(labels) if labels else None, Path(out_file))


def _check_places(places: _Places, *, differ: bool) -> None:
    events, labels, out_file = places
    if out_file.resolve() in {path.resolve() for path in (events, labels) if path}:
        fail(f"--out: {out_file} is what is read; expected another place")
    if not events.is_dir():
        check_folder(out_file, "--out")
        return
    if differ:
        fail("--differences needs a file: a folder may be larger than memory")
    if out_file.exists() and (out_file.is_file() or any(out_file.iterdir())):
        fail(f"--out: {out_file} is there already; expected a new or empty folder")


def _here(definition: Definition, places: _Places, how: How, *, differ: bool) -> dict[str, Any]:
    """Backfill a file at once, or a folder in parts."""
    if places.events.is_dir():
        return _in_parts(definition, places, how)
    kinds = list(Knowledge) if differ else [how.knowledge]
    feeds = feeds_of(definition, places.events, places.labels)
    found = _at_once(definition, feeds, kinds, how.rows)
    found[how.knowledge].features.write_parquet(places.out)
    apart = _differences(definition, found) if differ else []
    return _report(found[how.knowledge], how.knowledge, places.out, apart)


def _at_once(
    definition: Definition,
    feeds: list[Feed],
    kinds: list[Knowledge],
    rows: Mapping[str, Sequence[TableRow]],
) -> dict[Knowledge, Backfilled]:
    total = len(kinds) * steps(definition) * len(feeds[0].frame)
    with progress_bar("Backfilling", total) as advance:
        return {kind: compute(definition, feeds, kind, advance, rows) for kind in kinds}


def _in_parts(definition: Definition, places: _Places, how: How) -> dict[str, Any]:
    folders = [Folder.of(places.events, definition.scored)]
    if places.labels is not None:
        folders.append(Folder.of(places.labels, definition.label.source))
    with progress_bar("Backfilling", steps(definition) * len(folders[0])) as advance:
        done = backfill_parts(definition, folders, places.out, how, advance)
    return {
        "out": str(places.out),
        "knowledge": how.knowledge,
        "events": done.events,
        "refused": done.refused,
        "late": done.late,
        "folded": dict(done.folded),
        "folded_entities": dict(done.reasons),
        "differences": {},
    }


def feeds_of(definition: Definition, events: Path, labels: Path | None) -> list[Feed]:
    """The feed of the scored source, and that of the labels where there is one."""
    feeds = [read_feed(events, definition.scored)]
    return feeds if labels is None else [*feeds, read_feed(labels, definition.label.source)]


def _differences(definition: Definition, found: dict[Knowledge, Backfilled]) -> list[Difference]:
    known, happened = found[Knowledge.AS_KNOWN], found[Knowledge.AS_HAPPENED]
    key = definition.scored.id
    return differences(known.features, happened.features, key, definition.columns)


def _report(
    found: Backfilled, knowledge: Knowledge, path: Path, apart: list[Difference]
) -> dict[str, Any]:
    """Everything in one object."""
    return {
        "out": str(path),
        "knowledge": knowledge,
        "events": len(found.features),
        "refused": found.refused,
        "late": int(found.features["late"].sum()),
        "folded": found.folded,
        "folded_entities": dict(found.reasons),
        "differences": {each.feature: each._asdict() for each in apart},
    }


def _show(report: dict[str, Any]) -> None:
    """Print tables: counts, and how as known and as happened differ."""
    table = Table(title=f"{report['events']:,} events in {report['out']}", show_header=False)
    table.add_row("features", report["knowledge"])
    for name in ("refused", "late"):
        table.add_row(name, f"{report[name]:,}")
    for view, events in report["folded"].items():
        if events:
            table.add_row(f"{view}: folded one by one", f"{events:,} events")
    for reason, entities in report["folded_entities"].items():
        table.add_row(f"for {reason}", f"{entities:,} entities")
    out.print(table)
    if report["differences"]:
        out.print(_apart(report["differences"]))


def _apart(apart: dict[str, dict[str, Any]]) -> Table:
    columns = ("feature", "events", "absent in one", "largest difference")
    table = Table(*columns, title="As known is not as happened")
    for name, each in apart.items():
        if each["rows"]:
            largest = f"{each['largest']:.6g}"
            table.add_row(name, f"{each['rows']:,}", f"{each['absent']:,}", largest)
    if not table.rows:
        table.add_row("all are equal", "0", "0", "0")
    return table
