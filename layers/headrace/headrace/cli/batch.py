"""`headrace batch`."""

from __future__ import annotations

from dataclasses import replace

import typer
from rich.table import Table

from headrace import bootstrap
from headrace.batch import End, read_reports
from headrace.cli.place import Stack, place_of
from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    ModelDir,
    errors_told,
    fail,
    model_dir_of,
    out,
    print_json,
)
from headrace.runs import Order, Report, Start, Step

app = typer.Typer(
    help="The batch run, which scores everyone whose real-time score will not last.\n\n"
    "`report` tells of the last one, `run` does one now.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.command()
def report(stack: Stack = None, endpoint: Endpoint = None, json: AsJson = False) -> None:
    """Tell what the last batch run did, and how far one has come that is not complete.

    Of the running `headrace up`, of `--endpoint`, or of `--stack`. On AWS it needs
    cloudformation:DescribeStacks, and dynamodb:GetItem of the score table.
    """
    with errors_told():
        settings, client = place_of(stack, endpoint)
        last, under_way = read_reports(bootstrap.scores_of(settings, client))
    if json:
        print_json({"last": last, "under_way": under_way})
        return
    if last is None and under_way is None:
        out.print("No batch run yet; `headrace batch run` does one now.", markup=False)
    if last is not None:
        out.print(_table("The last batch run", last))
    if under_way is not None:
        out.print(_table("Not complete", under_way))


@app.command()
def run(endpoint: Endpoint = None, model_dir: ModelDir = None, json: AsJson = False) -> None:
    """Do a batch run now, in this process, on the tables of the running `headrace up`.

    It is a run on demand: it takes up what an earlier one left, gives way to one that is under
    way, and does not count as one of the schedule's. On AWS, start the function instead:
    `aws lambda invoke` with `{}` as its event.
    """
    with errors_told():
        settings, client = place_of(None, endpoint)
        settings = replace(settings, model_dir=model_dir_of(model_dir))
        scorer = bootstrap.batch_scorer_of(settings, client)
        ran = scorer.obey(Order(Step.RUN, Start(None)), lambda: True)
    if ran.end is End.UNFINISHED:
        fail(f"{ran.error}; what was done is noted, run it again")
    if json:
        print_json({"end": ran.end, "report": ran.report})
        return
    if ran.end is End.GAVE_WAY:
        out.print("Another run is under way, and brings what this one would.")
    if ran.report is not None:
        out.print(_table("The batch run", ran.report))


def _table(title: str, found: Report) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    share = "" if found.read_share is None else f" ({found.read_share:.1%})"
    for name, text in (
        ("as of", f"{found.as_of}, by {found.trigger}"),
        ("segments", f"{found.segments - found.segments_left} of {found.segments} done"),
        ("entities", f"{found.entities:,}"),
        ("batch scores written", f"{found.scored:,}"),
        ("passed over, fresh until the next run", f"{found.fresh:,}"),
        ("state cannot be read", f"{found.unreadable:,}"),
        ("lack a required value", f"{found.lacking:,}"),
        ("features or model raised", f"{found.failed:,}"),
        ("former batch scores replaced", f"{found.replaced:,}"),
        ("of them ever read", f"{found.read:,}{share}"),
        ("seconds", f"{found.seconds:,.1f}, taken up again {found.resumed:,} times"),
    ):
        table.add_row(name, text)
    return table
