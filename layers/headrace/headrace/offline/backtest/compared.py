"""Stages compared over several weeks: the same entities are drawn again for all of them.

May import metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from headrace.offline.metrics import Sheet, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.offline.metrics import Judged, Measured, Vector

Metrics = dict[str, float]


class Compared(NamedTuple):
    """Metrics averaged over weeks.

    Attributes:
        stages: Stage -> metric -> its mean over the weeks, with an interval.
        weeks: Stage -> the metrics of each week.
        lifts: Pair -> metric -> difference of the two means, with an interval of its own: both
            see the same draws, so that what they share does not widen it.
    """

    stages: dict[str, dict[str, Measured]]
    weeks: dict[str, list[Metrics]]
    lifts: dict[tuple[str, str], dict[str, Measured]]


def compare(
    weeks: Sequence[Mapping[str, Judged]],
    pairs: Sequence[tuple[str, str]],
    resamples: int,
    seed: int,
) -> Compared:
    """Measure every stage in every week.

    Args:
        weeks: Of each: stage -> its scored test events, the same ones for every stage.
        pairs: Which stages to compare: (better, than).
        resamples: How often entities are drawn again, the same ones in all weeks.
        seed: Of the draws.
    """
    stages = list(weeks[0])
    sheets = [{stage: Sheet(judged) for stage, judged in week.items()} for week in weeks]
    names = pl.concat([week[stages[0]].names for week in sheets]).unique().sort()
    places = [names.search_sorted(week[stages[0]].names).to_numpy() for week in sheets]
    by_week = {
        stage: [week[stage].metrics(np.ones(week[stage].entities)) for week in sheets]
        for stage in stages
    }
    value = {stage: _mean(found) for stage, found in by_week.items()}
    draws = np.random.default_rng(seed)
    chances = np.full(len(names), 1 / len(names))
    drawn: dict[str, list[Metrics]] = {stage: [] for stage in stages}
    for _ in range(resamples):
        weights = draws.multinomial(len(names), chances).astype(np.float64)
        for stage in stages:
            drawn[stage].append(_mean(_drawn(sheets, places, stage, weights)))
    return Compared(
        {s: {m: with_interval(v, _of(drawn[s], m)) for m, v in value[s].items()} for s in stages},
        by_week,
        {pair: _lift(value, drawn, pair) for pair in pairs},
    )


def _drawn(
    sheets: Sequence[Mapping[str, Sheet]], places: Sequence[Vector], stage: str, weights: Vector
) -> list[Metrics]:
    return [week[stage].metrics(weights[mine]) for week, mine in zip(sheets, places, strict=True)]


def _lift(
    value: Mapping[str, Metrics], drawn: Mapping[str, list[Metrics]], pair: tuple[str, str]
) -> dict[str, Measured]:
    more, less = pair
    return {
        name: with_interval(
            found - value[less][name],
            [a - b for a, b in zip(_of(drawn[more], name), _of(drawn[less], name), strict=True)],
        )
        for name, found in value[more].items()
    }


def _of(drawn: Sequence[Metrics], name: str) -> list[float]:
    return [each[name] for each in drawn]


def _mean(weeks: Sequence[Metrics]) -> Metrics:
    """Of the weeks that have the metric."""
    found = {}
    for name in weeks[0]:
        there = [week[name] for week in weeks if week[name] == week[name]]
        found[name] = float(np.mean(there)) if there else float("nan")
    return found
