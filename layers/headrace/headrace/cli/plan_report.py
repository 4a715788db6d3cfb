"""What `headrace plan` tells: money first, then size, then what ends, then where it comes from."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table

from headrace.cli.terminal import out
from headrace.offline.plan.limits import GROWTH
from headrace.offline.plan.sizing import sized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.offline.plan.costs import Stage
    from headrace.offline.plan.limits import Limit
    from headrace.offline.plan.sizing import Deployment


def show(deployment: Deployment, found: Sequence[Stage], ends: Sequence[Limit]) -> None:
    """Print everything."""
    out.print(_totals(deployment, found))
    for stage in found:
        out.print(_bill(deployment, stage))
    out.print(_size(deployment))
    out.print(_ends(ends))
    _tell_breaks(ends)
    out.print(_figures(deployment))
    out.print(deployment.table.note, style="dim", highlight=False)


def _totals(deployment: Deployment, found: Sequence[Stage]) -> Table:
    traffic, table = deployment.traffic, deployment.table
    entities = ", ".join(f"{count:,} of {name}" for name, count in traffic.entities.items())
    made = Table(
        "stage", "USD a month", "million scores", "USD per million",
        title=f"{traffic.events_per_second:g} events/s, {traffic.requests_per_second:g} requests/s"
        f", peak {traffic.peak:g} times, {entities}",
        caption=f"list prices of {table.region}, {table.as_of}; your own nightly job is not in it",
    )  # fmt: skip
    for each in found:
        per_million = "-" if each.usd_per_million is None else f"{each.usd_per_million:,.2f}"
        name = f"{each.number} {each.name}"
        made.add_row(name, f"{each.usd:,.2f}", f"{each.scores / 1e6:,.1f}", per_million)
    _right(made, 1, 2, 3)
    return made


def _bill(deployment: Deployment, stage: Stage) -> Table:
    title = f"Stage {stage.number}: {stage.name}"
    made = Table("what", "quantity", "unit", "USD a month", "from", title=title)
    for line in sorted(stage.lines, key=lambda each: -each.usd):
        unit = deployment.table.price(line.price).unit
        made.add_row(line.what, _number(line.quantity), unit, f"{line.usd:,.2f}", line.basis)
    _right(made, 1, 3)
    return made


def _size(deployment: Deployment) -> Table:
    size, settings = sized(deployment), deployment.settings
    made = Table("at the peak", "needed", "template.yaml", title="Size of the deployment")
    for name, needed, there in (
        ("StreamShards", size.shards, f"{settings.shards}"),
        ("ParallelizationFactor", size.parallelization, f"{settings.parallelization}"),
        ("executions of the stream function", size.stream_concurrency, ""),
        ("executions of the request function", size.request_concurrency, ""),
        ("MemorySize, MB", settings.memory_mb, f"{settings.memory_mb}"),
    ):
        made.add_row(name, f"{needed:,}", there)
    made.add_row("CPU of an event, ms", f"{deployment.event_us / 1_000:.2f}", "")
    made.add_row("a stream batch takes, s", f"{size.batch_seconds:.2f}", "")
    made.add_row(
        "ApiRequestsPerSecond",
        f"{deployment.traffic.requests_per_second * deployment.traffic.peak:,.0f}",
        f"{settings.api_rate:g}",
    )
    _right(made, 1, 2)
    return made


def _ends(ends: Sequence[Limit]) -> Table:
    made = Table(
        "what ends", "used", "limit", "unit", "at times",
        title="What ends as traffic grows, at this size",
    )  # fmt: skip
    for each in ends:
        at = "never" if each.breaks_at is None else _number(each.breaks_at)
        made.add_row(each.name, _number(each.used), _number(each.limit), each.unit, at)
    _right(made, 1, 2, 4)
    return made


def _tell_breaks(ends: Sequence[Limit]) -> None:
    """By how much traffic what ends, each where it is first: lines, since they may be long."""
    reached = [(each, each.breaks_at) for each in ends if each.breaks_at is not None]
    for below, growth in pairwise((0, *GROWTH)):
        first = [(each, at) for each, at in reached if below <= at < growth]
        by = "Before you start" if growth == 1 else f"By {growth:,} times the traffic"
        out.print(f"[bold]{by}[/]" + ("" if first else ": nothing"), highlight=False)
        for each, at in first:
            text = f"{each.name} at {at:.3g} times. Moved by {each.moved_by}. Else {each.effect}."
            out.print(Padding(text, (0, 0, 0, 2)), highlight=False)


def _figures(deployment: Deployment) -> Table:
    table = deployment.figures.table
    made = Table(
        "figure",
        "value",
        "unit",
        "from",
        title="Figures",
        caption=f"{table.as_of}: {table.machine}",
    )
    for name, each in deployment.figures.all.items():
        made.add_row(name, f"{each.value:g}", each.unit, each.source)
    _right(made, 1)
    return made


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _right(table: Table, *columns: int) -> None:
    for column in columns:
        table.columns[column].justify = "right"
