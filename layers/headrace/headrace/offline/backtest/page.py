"""A report as one HTML page that needs nothing else. May import charts, report and verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from headrace.offline.backtest.charts import charts

if TYPE_CHECKING:
    from headrace.offline.backtest.report import Report
    from headrace.offline.metrics import Measured

_TEMPLATE = "page.html.j2"


def page(report: Report) -> str:
    """The page: no script, no font, no picture and no style from anywhere else."""
    environment = Environment(
        loader=PackageLoader("headrace.offline.backtest", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "measured": _measured,
        "difference": _difference,
        "headed": _headed,
        "share": _share,
        "signed": _signed,
    }
    drawn = [each._replace(svg=Markup(each.svg)) for each in charts(report)]
    names = list(next(iter(report.found.compared.stages.values())))
    return environment.get_template(_TEMPLATE).render(
        report=report, found=report.found, charts=drawn, names=names
    )


def _measured(measured: Measured) -> Markup:
    return _with_range(f"{measured.value:.3f}", measured, ".3f")


def _difference(measured: Measured) -> Markup:
    return _with_range(f"{measured.value:+.3f}", measured, "+.3f")


def _with_range(value: str, measured: Measured, form: str) -> Markup:
    if measured.low is None or measured.high is None:
        return Markup("<span>{}</span>").format(value)
    ends = f"{measured.low:{form}} to {measured.high:{form}}"
    return Markup('<span>{}<span class="range">{}</span></span>').format(value, ends)


def _headed(name: str) -> str:
    return name.replace("_", " ").replace("roc auc", "ROC AUC")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"  # noqa: RUF001 - a dash for nothing


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"  # noqa: RUF001 - as above
