"""`headrace load-batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace import bootstrap
from headrace.adapters.clock import SystemClock
from headrace.adapters.parquet import ALWAYS, read_file, single_load
from headrace.cli.place import Stack, place_of
from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    ModelDir,
    errors_told,
    fail,
    model_dir_of,
    out,
    parse_time,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.events import us_to_text
from headrace.loading import load_definition
from headrace.table_load import store_load

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.table_rows import TableRow
    from headrace.tables import Table


def load_batch(
    file: Annotated[Path, typer.Argument(help="Parquet file with one row per entity.")],
    table: Annotated[
        str | None, typer.Option(help="Table of the definition; or its only one.")
    ] = None,
    loaded_at: Annotated[
        str | None, typer.Option(help="When the rows were computed; now by default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Rows per second at most: a budget of write units.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file only.")] = False,
    model_dir: ModelDir = None,
    stack: Stack = None,
    endpoint: Endpoint = None,
    json: AsJson = False,
) -> None:
    """Load batch features: the rows of a table, in place of the former ones.

    Rows are checked against the definition before any is written. A load that was interrupted
    is loaded again to the same end; an older one never takes a newer one's place. On AWS it
    needs cloudformation:DescribeStacks, and dynamodb:GetItem, PutItem and BatchWriteItem of the
    feature table.
    """
    with errors_told():
        definition = load_definition(model_dir_of(model_dir) / "definition.py")
        chosen = table_of(definition, table)
        at = parse_time(loaded_at, "--loaded-at") if loaded_at else bootstrap.now()
        load = single_load(read_file(file, chosen, at))
        if not dry_run:
            settings, client = place_of(stack, endpoint)
            store = bootstrap.table_store_of(settings, client)
            with progress_bar(f"Loading {chosen.name}", len(load)) as advance:
                store_load(load, store, SystemClock(), rate=rate, progress=advance)
    as_of = us_to_text(load.loaded_at)
    if json:
        print_json({"table": chosen.name, "rows": len(load), "loaded_at": as_of,
                    "written": not dry_run})  # fmt: skip
    else:
        what = "would be loaded" if dry_run else "are loaded"
        out.print(f"{len(load):,} rows of {chosen.name} {what}, as of {as_of}",
                  highlight=False)  # fmt: skip


def table_of(definition: Definition, name: str | None) -> Table:
    """The table of this name, or the only one."""
    known = {table.name: table for table in definition.tables}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        fail("the definition has no table; declare one with Table(...) and name it in tables=[...]")
    if name not in known:
        got = "nothing" if name is None else repr(name)
        fail(f"--table: got {got}; expected one of {', '.join(known)}")
    return known[name]


def rows_of(definition: Definition, options: list[str]) -> dict[str, list[TableRow]]:
    """Rows of ``NAME=FILE`` options by entity key, for a replay.

    A column ``loaded_at`` says from when on a row is seen; without it, always.
    """
    found: dict[str, list[TableRow]] = {}
    for option in options:
        name, _, path = option.partition("=")
        table = table_of(definition, name)
        for entity_id, row in read_file(Path(path), table, ALWAYS).rows():
            found.setdefault(f"{table.entity.name}#{entity_id}", []).append(row)
    return found
