"""All that a backtest tells, ready for terminal, JSON and page. May import stages and verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.offline.backtest.stages import Stage
from headrace.offline.backtest.verdict import Cost, Verdict, verdict
from headrace.offline.plan.costs import stages
from headrace.offline.plan.sizing import MONTH_SECONDS, Traffic

if TYPE_CHECKING:
    from headrace.offline.backtest.frames import Frames
    from headrace.offline.backtest.stages import Backtest
    from headrace.offline.plan.sizing import Deployment

_NEVER = 2**62
PEAK = 3.0
COSTED = (Stage.NIGHTLY_SCORES, Stage.NIGHTLY_FEATURES, Stage.REAL_TIME)


@dataclass(frozen=True, slots=True)
class Row:
    """A stage in one row.

    Attributes:
        stage: Which.
        age_hours: Age at the median of what a score used; None where it used nothing stored.
        unknown: Share of events for which nothing was there.
        unused: Share of what was computed beforehand that nobody asked for.
        cost: None for what nobody would run.
    """

    stage: Stage
    age_hours: float | None = None
    unknown: float | None = None
    unused: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a backtest tells.

    Attributes:
        found: Metrics, coverage and gap.
        rows: What is known of each stage beside its metrics.
        verdict: Go or no-go.
        traffic: At which the cost is.
        prices: Region and date of the price table.
    """

    found: Backtest
    rows: list[Row]
    verdict: Verdict
    traffic: Traffic
    prices: str


def traffic_of(frames: Frames, events_per_second: float | None) -> Traffic:
    """The traffic of a history: each event is scored once, and asked for once.

    Args:
        frames: Of the history.
        events_per_second: Another rate than the history's.
    """
    time = frames.realtime["event_time"].dt.epoch("us")
    seconds = max(1.0, (int(time.max() or 0) - int(time.min() or 0)) / 1e6)  # type: ignore[arg-type]
    rate = len(time) / seconds if events_per_second is None else events_per_second
    entities = {name: int((first < _NEVER).sum()) for name, first in frames.known.items()}
    return Traffic(rate, rate, PEAK, entities)


def report_of(found: Backtest, deployment: Deployment, worth: float | None) -> Report:
    """Add cost and verdict.

    Args:
        found: The stages side by side.
        deployment: What is costed.
        worth: What one more positive that is found is worth, in USD.
    """
    events = deployment.traffic.events_per_second * MONTH_SECONDS
    bills = {
        stage: Cost(bill.usd, bill.usd / events * 1e6)
        for stage, bill in zip(COSTED, stages(deployment), strict=True)
    }
    cover = found.coverage
    batch = deployment.shape.batch_entity
    unused = [each for each in cover.unused.values() if each is not None]
    nightly = Row(
        Stage.SERVED_STALE,
        cover.age_median,
        max(cover.unknown.values()),
        sum(unused) / len(unused) if unused else None,
    )
    rows = {
        Stage.BASELINE: Row(Stage.BASELINE),
        Stage.NIGHTLY_SCORES: Row(
            Stage.NIGHTLY_SCORES, cover.age_median, cover.unknown[batch], cover.unused[batch],
            bills[Stage.NIGHTLY_SCORES],
        ),
        Stage.NIGHTLY_FEATURES: replace(
            nightly, stage=Stage.NIGHTLY_FEATURES, cost=bills[Stage.NIGHTLY_FEATURES]
        ),
        Stage.REAL_TIME: Row(Stage.REAL_TIME, age_hours=0.0, cost=bills[Stage.REAL_TIME]),
        Stage.SERVED_STALE: nightly,
        Stage.TRAINED_STALE: Row(Stage.TRAINED_STALE, age_hours=0.0),
    }  # fmt: skip
    table = deployment.table
    return Report(
        found,
        [rows[Stage(name)] for name in found.compared.stages],
        verdict(found, bills, worth, deployment.traffic.events_per_second / _rate(found)),
        deployment.traffic,
        f"list prices of {table.region}, {table.as_of}",
    )


def _rate(found: Backtest) -> float:
    """Events a second in the test weeks."""
    seconds = sum((split.test_end - split.test_start).total_seconds() for split in found.splits)
    return found.events / seconds


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; metrics as value, low, high."""
    found = report.found
    return {
        "go": report.verdict.go,
        "best": report.verdict.best,
        "reasons": report.verdict.reasons,
        "worth": report.verdict.worth,
        "splits": found.splits,
        "events": found.events,
        "positives": found.positives,
        "dropped": found.dropped,
        "stages": {
            row.stage: {
                "metrics": found.compared.stages[row.stage],
                "weeks": found.compared.weeks[row.stage],
                "age_hours": row.age_hours,
                "unknown": row.unknown,
                "unused": row.unused,
                "cost": row.cost,
            }
            for row in report.rows
        },
        "lifts": {
            f"{more} over {less}": lift for (more, less), lift in found.compared.lifts.items()
        },
        "coverage": found.coverage,
        "gap": found.gap,
        "traffic": report.traffic,
        "prices": report.prices,
    }
