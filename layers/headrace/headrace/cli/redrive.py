"""`headrace redrive`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from headrace import bootstrap
from headrace.cli.place import Stack, place_of
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
from headrace.events import REASONS
from headrace.ports import FAILED_BATCH, Selection
from headrace.redrive import CONDITIONS, AsOf

if TYPE_CHECKING:
    from headrace.redriven import Redriven

KNOWN = (*REASONS, FAILED_BATCH, *CONDITIONS)
_REFUSALS_SHOWN = 10


def redrive(
    reason: Annotated[
        list[str] | None,
        typer.Option(help=f"May be repeated; default: all. One of {', '.join(KNOWN)}."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what arrived at this time or later, ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what arrived before this time.")] = None,
    as_of: Annotated[
        AsOf,
        typer.Option(help="`then`: late or not as when it arrived; `now`: as if it came today."),
    ] = AsOf.THEN,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; changes nothing.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Begin no further object after this many records."),
    ] = None,
    stack: Stack = None,
    endpoint: Endpoint = None,
    model_dir: ModelDir = None,
    json: AsJson = False,
) -> None:
    """Score what was refused or given up, once its cause is mended.

    Goes through the quarantine bucket of the running `headrace up`, of `--endpoint`, or of
    `--stack`: single records that were refused, and batches that failed every retry, in order of
    arrival. Each is scored with the features of its event time. What is done moves to redriven/
    in the bucket; what is still refused stays, with its new reason. Running it again, also after
    it was interrupted, changes nothing that is done.

    Decodes with the project's definition: run it from what is deployed. On AWS it needs
    cloudformation:DescribeStacks; of the bucket s3:ListBucket, s3:GetObject, s3:PutObject,
    s3:DeleteObject; of the state table dynamodb:BatchGetItem and dynamodb:PutItem; of the score
    table dynamodb:GetItem and dynamodb:PutItem. A dry run writes nothing, and needs only
    DescribeStacks, ListBucket, GetObject and GetItem.
    """
    unknown = sorted(set(reason or ()) - set(KNOWN))
    if unknown:
        msg = f"got {', '.join(unknown)}; expected some of {', '.join(KNOWN)}"
        raise typer.BadParameter(msg, param_hint="--reason")
    selection = Selection(
        frozenset(reason or ()),
        parse_time(since, "--since") if since else 0,
        parse_time(until, "--until") if until else None,
    )
    with errors_told():
        settings, client = place_of(stack, endpoint)
        settings = replace(settings, model_dir=model_dir_of(model_dir))
        redriver = bootstrap.redriver(settings, client)
        run = redriver.plan if dry_run else redriver.redrive
        with progress_bar("Looking" if dry_run else "Redriving", None) as advance:
            found = run(selection, as_of, limit, advance)
    if json:
        print_json(_summary(found, dry_run=dry_run))
    else:
        _show(found, dry_run=dry_run)
    if found.stopped:
        fail(f"stopped: {found.stopped}; the rest is where it was, run it again")


def _summary(found: Redriven, *, dry_run: bool) -> dict[str, object]:
    rows = list(found.rows.values())
    return {
        "dry_run": dry_run,
        "objects": found.objects,
        "records": found.records,
        "accepted": sum(row.accepted for row in rows),
        "known": sum(row.known for row in rows),
        "refused": sum(row.refused for row in rows),
        "scored": found.scored,
        "folded": found.folded,
        "late": found.late,
        "aged": found.aged,
        "put_away": found.put_away,
        "rows": sorted(rows, key=lambda row: (row.reason, row.day)),
        "still_refused": found.refused,
        "unreadable": [each._asdict() for each in found.unreadable],
        "stopped": found.stopped,
    }


def _show(found: Redriven, *, dry_run: bool) -> None:
    table = Table(title="What would be redriven" if dry_run else "What was redriven")
    table.add_column("kept for", no_wrap=True)  # whole, to be given to --reason
    table.add_column("arrived on", no_wrap=True)
    accepted = "would be accepted" if dry_run else "accepted"
    for name in ("records", accepted, "scored before", "still refused"):
        table.add_column(name, justify="right")
    for row in sorted(found.rows.values(), key=lambda row: (row.reason, row.day)):
        counts = (row.records, row.accepted, row.known, row.refused)
        table.add_row(row.reason, row.day, *(f"{count:,}" for count in counts))
    out.print(table)
    for line in _lines(found, dry_run=dry_run):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    for each in found.unreadable:
        err.print(f"No records in {each.key}: {each.why}", highlight=False, markup=False)


def _lines(found: Redriven, *, dry_run: bool) -> list[str]:
    lines = [f"records {found.records:,}, objects {found.objects:,}"]
    if not dry_run:
        lines[0] += f", of them moved to redriven/ {found.put_away:,}"
        lines.append(f"scores stored {found.scored:,}, events folded {found.folded:,}")
    if found.late:
        lines.append(f"too late to change state {found.late:,}")
    if found.aged:
        lines.append(
            f"so old that their longest windows may lack what state gave up {found.aged:,}"
        )
    for each in found.refused[:_REFUSALS_SHOWN]:
        lines.append(f"refused ({each.reason}): {each.message}; at {each.position}")
    more = sum(row.refused for row in found.rows.values()) - _REFUSALS_SHOWN
    if more > 0:
        lines.append(f"and {more:,} more refused; --json names up to 100")
    return lines
