"""Charts of a report as SVG to be put into a page: text stays text, colours are the page's.

Drawn for the width of a phone; a page may show them twice as large. May import report.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headrace.offline.backtest.stages import Stage
from headrace.offline.backtest.verdict import AP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from headrace.offline.backtest.report import Report
    from headrace.offline.metrics import Measured

_INK, _GRID, _PANEL = "#010203", "#040506", "#070809"
_SERIES = ("#010301", "#010302", "#010303")
_PAGE_COLOURS = {
    _INK: "var(--ink)",
    _GRID: "var(--line)",
    _PANEL: "var(--panel)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)},
}
"""What is drawn in these colours, each of them used for nothing else, gets those of the page."""
_WIDTH_INCHES = 3.7
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Chart(NamedTuple):
    """A chart with its words.

    Attributes:
        title: What is seen.
        caption: How to read it.
        svg: The picture.
    """

    title: str
    caption: str
    svg: str


def charts(report: Report) -> list[Chart]:
    """Every chart, the most important one first."""
    compared = report.found.compared
    stages = {name: found[AP] for name, found in compared.stages.items()}
    tops = {name: found[_top_metric(report)] for name, found in compared.stages.items()}
    lifts = {f"{more}\nover {less}": lift[AP] for (more, less), lift in compared.lifts.items()}
    return [
        Chart("Average precision by stage",
              "Dots: mean of the weeks. Lines: 95 % of the resamples of entities.",
              _drawn("stages", _height(stages), lambda axes: _intervals(axes, stages))),
        Chart("Found at the top",
              f"Of the {_top(report)} entities of each day with the highest scores, the share that "
              "had a positive; one that was found is not looked at again.",
              _drawn("top", _height(stages), lambda axes: _intervals(axes, tops))),
        Chart("What a stage adds",
              "Differences of average precision, each with an interval of its own. A line that "
              "crosses 0 tells of no difference.",
              _drawn("lifts", _height(lifts, 1.4), lambda axes: _differences(axes, lifts))),
        Chart("Week by week", "Average precision of each test week.",
              _drawn("weeks", 2.6, lambda axes: _weeks(axes, report))),
        Chart("Why real-time scores differ",
              "Real-time score minus batch score, by what makes the difference: mean over events. "
              "Of every event the parts add up exactly.",
              _drawn("gap", 2.6, lambda axes: _gap(axes, report))),
        Chart("Price", f"USD for a million events at {report.traffic.events_per_second:.3g} "
              f"events a second; {report.prices}.",
              _drawn("price", 1.9, lambda axes: _prices(axes, report))),
    ]  # fmt: skip


def _top_metric(report: Report) -> str:
    names = next(iter(report.found.compared.stages.values()))
    return next(name for name in names if name.startswith("precision_at_"))


def _top(report: Report) -> str:
    return _top_metric(report).removeprefix("precision_at_").removesuffix("_per_day")


def _height(rows: Any, scale: float = 1.0) -> float:
    return 0.6 + 0.46 * scale * len(rows)


def _drawn(name: str, height: float, draw: Callable[[Axes], None]) -> str:
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        draw(figure.add_subplot())
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", svg)
    for colour, variable in _PAGE_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg


def _intervals(axes: Axes, rows: dict[str, Measured]) -> None:
    """One line for each row, its name above it, so that long names have the whole width."""
    places = range(len(rows), 0, -1)
    for place, (name, measured) in zip(places, rows.items(), strict=True):
        if measured.low is not None and measured.high is not None:
            axes.hlines(place, measured.low, measured.high, colors=_SERIES[0], linewidth=2)
        axes.plot(measured.value, place, "o", color=_SERIES[0], markersize=5)
        axes.text(
            0,
            place + 0.22,
            name,
            transform=axes.get_yaxis_transform(),
            va="bottom",
            bbox={"facecolor": _PANEL, "edgecolor": "none", "pad": 1},
        )
    axes.set_ylim(0.5, len(rows) + 1)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.spines["left"].set_visible(False)


def _differences(axes: Axes, rows: dict[str, Measured]) -> None:
    _intervals(axes, rows)
    axes.axvline(0, color=_INK, linewidth=1)


def _weeks(axes: Axes, report: Report) -> None:
    found = report.found
    names = [f"{split.test_start:%d %b}" for split in found.splits]
    shown = (Stage.NIGHTLY_SCORES, Stage.NIGHTLY_FEATURES, Stage.REAL_TIME)
    for stage, colour, marker in zip(shown, _SERIES, "os^", strict=True):
        values = [week[AP] for week in found.compared.weeks[stage]]
        axes.plot(names, values, marker=marker, markersize=5, color=colour, label=str(stage))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12)
    _legend(axes)


def _gap(axes: Axes, report: Report) -> None:
    gap = report.found.gap
    names = [str(each.part) for each in gap]
    of_positives = [each.mean_positive or 0.0 for each in gap]
    of_others = [each.mean_negative or 0.0 for each in gap]
    _bars(axes, names, {"positives": of_positives, "others": of_others})
    axes.axhline(0, color=_INK, linewidth=1)
    _legend(axes)


def _bars(axes: Axes, names: Sequence[str], groups: dict[str, list[float]]) -> None:
    width = 0.8 / len(groups)
    for number, (label, values) in enumerate(groups.items()):
        places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(names))]
        axes.bar(places, values, width * 0.92, color=_SERIES[number], label=label)
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")


def _prices(axes: Axes, report: Report) -> None:
    rows = [row for row in report.rows if row.cost is not None]
    values = [row.cost.usd_per_million for row in rows if row.cost is not None]
    bars = axes.barh([str(row.stage) for row in rows], values, 0.6, color=_SERIES[0])
    axes.bar_label(bars, fmt="${:,.2f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.28)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _legend(axes: Axes) -> None:
    figure = axes.figure
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8.5,
        handlelength=1.2, columnspacing=1.0, borderpad=0,
    )  # fmt: skip
