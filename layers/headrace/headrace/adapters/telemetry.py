"""Metrics and logs of what was done: counts only, never a payload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from headrace.batch import End
from headrace.runs import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.batch import Ran
    from headrace.outcome import Outcome
    from headrace.runs import Order, Report

_NAMESPACE = "Headrace"
_MOST_VALUES = 100  # of one metric in one line of the embedded metric format

logger = Logger()
metrics = Metrics(namespace=_NAMESPACE)


def note_outcome(outcome: Outcome) -> None:
    """Metrics and one log line for a batch of records."""
    counts = {
        "Records": outcome.records,
        "Scored": outcome.scored,
        "Repeated": outcome.repeated,
        "Late": outcome.late,
        "Conflicts": outcome.conflicts,
        "Quarantined": sum(outcome.quarantined.values()),
        "UnknownFields": sum(outcome.unknown_fields.values()),
        "Imputed": sum(outcome.imputed.values()),
        "Degraded": sum(outcome.degraded.values()),
        "Deferred": outcome.deferred,
        "FailedBatches": int(outcome.failed is not None and not outcome.deferred),
    }
    for lag in _spread(outcome.lags):
        metrics.add_metric("ScoreLag", MetricUnit.Seconds, lag)
    for name, count in counts.items():
        metrics.add_metric(name, MetricUnit.Count, count)
    _count_by("Quarantined", "reason", outcome.quarantined)
    _count_by("Imputed", "cause", outcome.imputed)
    level = logger.error if counts["FailedBatches"] else logger.info
    level("batch", extra={**counts, "failed": outcome.failed, "error": outcome.error})


def note_run(order: Order, ran: Ran) -> None:
    """Metrics and one log line for an invocation of the batch path.

    Counts are of this invocation, so that those of a run that was resumed or done in parts add up.
    """
    done = msgspec.structs.asdict(ran.done)
    for name, count in done.items():
        metrics.add_metric(f"Batch{name.title()}", MetricUnit.Count, count)
    if ran.end is End.COMPLETE and ran.report is not None and ran.report.complete:
        _note_report(order, ran.report)
    unfinished = ran.end is End.UNFINISHED and bool(ran.error)
    level = logger.error if unfinished else logger.info
    report = None if ran.report is None else msgspec.structs.asdict(ran.report)
    level("run", extra={"step": order.step, "segment": order.segment, "end": ran.end,
                        "done": done, "report": report, "error": ran.error})  # fmt: skip


def _note_report(order: Order, report: Report) -> None:
    """What is known of a run at its end only; of a part nothing."""
    if order.step is Step.PART:
        return
    metrics.add_metric("BatchRunSeconds", MetricUnit.Seconds, report.seconds)
    if report.read_share is not None:
        metrics.add_metric("BatchReadShare", MetricUnit.Percent, 100 * report.read_share)


def _count_by(metric: str, dimension: str, counts: Mapping[str, int]) -> None:
    for value, count in counts.items():
        with single_metric(metric, MetricUnit.Count, count, namespace=_NAMESPACE) as single:
            single.add_dimension(dimension, value)


def _spread(values: Sequence[float]) -> list[float]:
    """At most 100 of the values, evenly over their ranks; the largest among them."""
    ranked = sorted(values, reverse=True)
    step = -(-len(ranked) // _MOST_VALUES) or 1
    return ranked[::step]
