"""What `headrace backtest` tells on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from headrace.cli.terminal import out
from headrace.offline.backtest.verdict import Side, spoken

if TYPE_CHECKING:
    from headrace.offline.backtest.report import Report
    from headrace.offline.backtest.stages import Backtest
    from headrace.offline.metrics import Measured

_COLOURS = {Side.FOR: "green", Side.AGAINST: "red", Side.CAUTION: "yellow"}


def show(report: Report) -> None:
    """Print everything, the verdict last."""
    out.print(_stages(report.found))
    out.print(_lifts(report.found))
    out.print(_serving(report))
    out.print(_gap(report.found))
    go = "[bold green]GO[/]" if report.verdict.go else "[bold red]NO-GO[/]"
    out.print(f"{go} for real-time features over nightly ones; best: {report.verdict.best}")
    for each in report.verdict.reasons:
        out.print(f"  [{_COLOURS[each.side]}]{each.side:8}[/] {escape(each.text)}", highlight=False)


def _stages(found: Backtest) -> Table:
    splits, names = found.splits, list(_metrics(found))
    made = Table(
        "stage", *(_headed(name) for name in names),
        title=f"{found.events:,} events, {found.positives:,} positives in {len(splits)} weeks from "
              f"{splits[0].test_start:%Y-%m-%d}",
        caption="mean of the weeks, and 95 % of the resamples of entities",
    )  # fmt: skip
    for stage, metrics in found.compared.stages.items():
        made.add_row(stage, *(_measured(metrics[name]) for name in names))
    return made


def _serving(report: Report) -> Table:
    made = Table(
        "stage", "age, h", "unknown", "never used", "USD a month", "USD per million",
        title=f"Serving, at {report.traffic.events_per_second:.3g} events/s",
        caption=f"{report.prices}; your own nightly job is not in it",
    )  # fmt: skip
    for row in report.rows:
        if row.cost is not None:
            made.add_row(
                row.stage,
                "-" if row.age_hours is None else f"{row.age_hours:.0f}",
                _share(row.unknown),
                _share(row.unused),
                f"{row.cost.usd:,.0f}",
                f"{row.cost.usd_per_million:,.2f}",
            )
    return made


def _metrics(found: Backtest) -> dict[str, Measured]:
    return next(iter(found.compared.stages.values()))


def _lifts(found: Backtest) -> Table:
    names = list(_metrics(found))
    made = Table("difference", *(_headed(name) for name in names))
    for (more, less), lift in found.compared.lifts.items():
        made.add_row(f"{more}\n  over {less}", *(_spoken(lift[name]) for name in names))
    return made


def _gap(found: Backtest) -> Table:
    made = Table(
        "part", "mean of positives", "mean of others", "mean size", "share",
        title="Real-time score minus batch score, by what makes it",
        caption="parts of an event add up to its gap exactly; shares are of the gap's variance",
    )  # fmt: skip
    for each in found.gap:
        made.add_row(
            each.part,
            _signed(each.mean_positive),
            _signed(each.mean_negative),
            f"{each.mean_size:.4f}",
            _share(each.share),
        )
    return made


def _measured(measured: Measured) -> str:
    if measured.low is None or measured.high is None:
        return f"{measured.value:.3f}"
    return f"{measured.value:.3f}\n({measured.low:.3f} to {measured.high:.3f})"


def _headed(name: str) -> str:
    """A metric's name in few words."""
    return name.replace("_per_day", "").replace("_", " ").replace("roc auc", "ROC AUC")


def _spoken(measured: Measured) -> str:
    return spoken(measured).replace(" (", "\n(")


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
