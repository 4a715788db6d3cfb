"""Metrics and logs of what was done: counts only, never a payload."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import msgspec
from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from headrace.runs import Step
from headrace.scores import Rung

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.adapters.lookups import Report as Lookups
    from headrace.batch import Ran
    from headrace.errors import HeadraceError
    from headrace.events import Record
    from headrace.outcome import Outcome
    from headrace.requests import EntityScore
    from headrace.runs import Order, Report
    from headrace.table_load import TableLoad
    from headrace.watch import Finding

_NAMESPACE = "Headrace"
_MOST_VALUES = 99  # of one metric in one line; at the hundredth Powertools begins another

_RUNGS = {
    Rung.REAL_TIME: "RealTime",
    Rung.LAST: "Last",
    Rung.BATCH: "Batch",
    Rung.PRIOR: "Prior",
}

# Requests of a busy second are counted together, by the last of them.
warnings.filterwarnings("ignore", "No application metrics to publish")

logger = Logger()
metrics = Metrics(namespace=_NAMESPACE)


def note_records(records: Sequence[Record]) -> None:
    """Shard and sequence numbers of a batch, in every line that follows of this invocation."""
    if records:
        shard = records[0].position.partition(":")[0]
        ends = {"first_sequence": records[0].sequence, "last_sequence": records[-1].sequence}
        logger.append_keys(shard=shard, **ends)


def note_outcome(outcome: Outcome) -> None:
    """Metrics and one log line for a batch of records."""
    counts = {
        "Records": outcome.records,
        "Scored": outcome.scored,
        "Repeated": outcome.repeated,
        "Conflicts": outcome.conflicts,
        "Quarantined": sum(outcome.quarantined.values()),
        "Deferred": outcome.deferred,
        "FailedBatches": int(outcome.failed is not None and not outcome.deferred),
    }
    _add_all(metrics, "ScoreLag", MetricUnit.Seconds, _spread(outcome.lags))
    _add_all(metrics, "Lateness", MetricUnit.Seconds, _spread(outcome.lateness))
    for name, count in counts.items():
        metrics.add_metric(name, MetricUnit.Count, count)
    _count_by("Quarantined", "reason", outcome.quarantined)
    counts |= _note_scores(outcome)
    level = logger.error if counts["FailedBatches"] else logger.info
    level("batch", extra={**counts, "failed": outcome.failed, "error": outcome.error})


def note_answers(outcome: Outcome) -> None:
    """Metrics of events that were answered, and a log line where not all are from real time."""
    _note_scores(outcome)
    if outcome.reasons:
        logger.warning("fallback", extra={"reasons": outcome.reasons, "rungs": outcome.rungs})


def _note_scores(outcome: Outcome) -> dict[str, int]:
    """What stream and endpoint count together: where scores come from, and what they lacked."""
    counts = {
        "Late": outcome.late,
        "UnknownFields": sum(outcome.unknown_fields.values()),
        "Imputed": sum(outcome.imputed.values()),
        "Invalid": sum(outcome.invalid.values()),
        "Accepted": sum(outcome.accepted.values()),
        "Degraded": sum(outcome.degraded.values()),
        "Findings": len(outcome.findings),
        "Stale": sum(outcome.stale.values()),
        **{f"Rung{name}": outcome.rungs[rung] for rung, name in _RUNGS.items()},
    }
    for name, count in counts.items():
        if count:  # alarms take what is not there for none
            metrics.add_metric(name, MetricUnit.Count, count)
    for entity, ages in outcome.ages.items():
        _spread_by("Freshness", "entity", entity, ages)
    _count_by("Imputed", "cause", outcome.imputed)
    _count_by("Invalid", "field", outcome.invalid)
    _count_by("Accepted", "field", outcome.accepted)
    _count_by("Stale", "entity", outcome.stale)
    _count_by("Fallbacks", "reason", outcome.reasons)
    for finding in outcome.findings:
        _note_finding(finding)
    return counts


def _note_finding(finding: Finding) -> None:
    with single_metric("Findings", MetricUnit.Count, 1, namespace=_NAMESPACE) as single:
        single.add_dimension("field", finding.field)
        single.add_dimension("kind", finding.kind)
    numbers = {name: value for name, value in finding._asdict().items() if name != "since"}
    logger.warning("unlike training", extra=numbers)


def note_look_up(found: EntityScore) -> None:
    """Metrics of an entity's score that was looked up: no event, so not among the rungs."""
    metrics.add_metric(f"LookUp{_RUNGS[found.rung]}", MetricUnit.Count, 1)
    if found.reason is not None:
        _count_by("LookUpFallbacks", "reason", {str(found.reason): 1})


def note_lookups(report: Lookups) -> None:
    """Metrics of what requests waited for, and of the circuit."""
    _add_all(metrics, "StoreMs", MetricUnit.Milliseconds, _spread(report.store_ms))
    if report.is_open:
        metrics.add_metric("CircuitOpen", MetricUnit.Count, 1)
    if report.opened:
        metrics.add_metric("CircuitOpened", MetricUnit.Count, report.opened)
        logger.error("circuit opened: states are not read for a while")


def note_model_not_loaded(error: HeadraceError) -> None:
    """Metric and log line of a function that answers without its model."""
    metrics.add_metric("ModelNotLoadable", MetricUnit.Count, 1)
    logger.error("model not loaded: no score is from real time", extra={"error": str(error)})


def note_not_compiled(why: str) -> None:
    """Metric and log line, at its start, of a function whose model scikit-learn serves."""
    with single_metric("ServedByScikitLearn", MetricUnit.Count, 1, namespace=_NAMESPACE):
        pass
    logger.warning("model is not compiled: scikit-learn serves it, slowly", extra={"why": why})


def note_in_python(parts: Sequence[str]) -> None:
    """Metric and log line, at its start, of a function that does in Python what C is there for."""
    with single_metric("InPython", MetricUnit.Count, len(parts), namespace=_NAMESPACE):
        pass
    msg = "compiled parts are not there or do not load: Python does their work, slowly"
    logger.warning(msg, extra={"parts": parts})


def note_run(order: Order, ran: Ran) -> None:
    """Metrics and one log line for an invocation of the batch path.

    Counts are of this invocation, so that those of a run that was resumed or done in parts add up.
    """
    from headrace.batch import End  # here: other functions start sooner without it

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


def note_loads(loads: Sequence[TableLoad]) -> None:
    """Metrics and one log line for an invocation that loads tables."""
    metrics.add_metric("RowsLoaded", MetricUnit.Count, sum(each.rows for each in loads))
    metrics.add_metric("OverdueTables", MetricUnit.Count, sum(each.overdue for each in loads))
    for each in loads:
        level = logger.error if each.error or each.overdue else logger.info
        level("load", extra={**each._asdict(), "end": str(each.end)})


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


def _spread_by(metric: str, dimension: str, value: str, seconds: Sequence[float]) -> None:
    line = EphemeralMetrics(namespace=_NAMESPACE)
    line.add_dimension(dimension, value)
    _add_all(line, metric, MetricUnit.Seconds, _spread(seconds))
    line.flush_metrics()


def _add_all(
    line: Metrics | EphemeralMetrics, name: str, unit: MetricUnit, values: Sequence[float]
) -> None:
    """Add values to a metric: the first as Powertools does it, the others beside it.

    At each value it would put all the former ones into words, for a debug log that is off.
    """
    for number, value in enumerate(values):
        line.add_metric(name, unit, value)
        rest = values[number + 1 :]
        there = line.metric_set.get(name, {}).get("Value", [])
        if there and len(there) + len(rest) <= _MOST_VALUES:  # else it must begin another line
            there += map(float, rest)
            return


def _spread(values: Sequence[float]) -> list[float]:
    """At most 99 of the values, evenly over their ranks; the largest among them."""
    ranked = sorted(values, reverse=True)
    step = -(-len(ranked) // _MOST_VALUES) or 1
    return ranked[::step]
