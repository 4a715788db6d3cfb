"""How well scores rank and decide, each with an interval. Imports numpy and Polars only.

Events of one entity are not independent: one stolen card makes several frauds. So intervals come
from drawing entities again, all of an entity's events with it, not events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Vector = np.ndarray[Any, np.dtype[np.float64]]

LEVEL = 0.95


class Measured(NamedTuple):
    """A metric with its bootstrap interval, which holds the middle 95 % of the resamples.

    Attributes:
        value: On the test rows.
        low: Lower end; None where too few resamples had the metric.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Judged(NamedTuple):
    """Scored test events, one row each.

    Attributes:
        frame: Columns ``label`` (0 or 1), ``score``, ``entity`` (text), ``day`` (any that sorts).
        threshold: At or above which an event is an alert; None for no decision.
        top: Entities that are looked at per day.
    """

    frame: pl.DataFrame
    threshold: float | None
    top: int


def measure(judged: Judged, resamples: int, seed: int) -> dict[str, Measured]:
    """Every metric with its interval; empty unless both kinds of label are there.

    Args:
        judged: Scored test events.
        resamples: How often entities are drawn again; 0 for no intervals.
        seed: Of the draws.
    """
    label = judged.frame["label"].to_numpy()
    if not 0 < label.sum() < len(label):
        return {}
    sheet = Sheet(judged)
    found = sheet.metrics(np.ones(sheet.entities))
    draws = np.random.default_rng(seed)
    chances = np.full(sheet.entities, 1 / sheet.entities)
    drawn = [
        sheet.metrics(draws.multinomial(sheet.entities, chances).astype(np.float64))
        for _ in range(resamples)
    ]
    return {
        name: with_interval(value, [each[name] for each in drawn]) for name, value in found.items()
    }


def with_interval(value: float, drawn: Sequence[float]) -> Measured:
    """A value with the middle of its resamples; of those that are NaN, none counts."""
    values = np.asarray([each for each in drawn if each == each])
    if len(values) * 2 < max(1, len(drawn)):
        return Measured(value)
    edge = (1 - LEVEL) / 2
    low, high = np.quantile(values, [edge, 1 - edge]).tolist()
    return Measured(value, low, high)


class Ranking:
    """Events by falling score, for areas under curves at any weights; ties are one step.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Shape (n,).
    """

    def __init__(self, labels: Vector, scores: Vector) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self._positive = labels[self._order].astype(np.float64)

    def areas(self, weights: Vector) -> tuple[float, float]:
        """ROC AUC and average precision; NaN where the weights leave one kind of label only.

        Source: as scikit-learn's ``roc_auc_score`` and ``average_precision_score`` with
        ``sample_weight``; sorted once for all resamples.
        """
        weight = weights[self._order]
        hits = np.cumsum(weight * self._positive)[self._ends]
        alarms = np.cumsum(weight * (1 - self._positive))[self._ends]
        if not hits[-1] or not alarms[-1]:
            return float("nan"), float("nan")
        area = np.trapezoid(np.append(0, hits), np.append(0, alarms)) / (hits[-1] * alarms[-1])
        precision = hits / np.maximum(hits + alarms, np.finfo(float).tiny)
        average = np.sum(np.diff(np.append(0, hits)) * precision) / hits[-1]
        return float(area), float(average)


class Day(NamedTuple):
    """A day's entities by falling highest score: codes, and whether any event was positive."""

    codes: Any
    positive: Any


def precision_at_top(days: list[Day], weights: Vector, top: int) -> float:
    """Share of the day's top entities that had a positive, averaged over days.

    An entity that is found is blocked: it is not looked at again on later days.

    Args:
        days: In order.
        weights: How often each entity was drawn, by code.
        top: Entities that are looked at per day.

    Source: card precision at k of the Fraud Detection Handbook.
    """
    active = np.asarray(weights, dtype=np.float64).copy()
    shares = []
    for day in days:
        weight = active[day.codes]
        upto = np.cumsum(weight)
        taken = np.clip(top - (upto - weight), 0, weight)
        looked_at = taken.sum()
        if looked_at:
            shares.append(float((taken * day.positive).sum() / looked_at))
        active[day.codes[(taken > 0) & day.positive]] = 0
    return float(np.mean(shares)) if shares else float("nan")


class Sheet:
    """Test rows, prepared so that a resample is a vector of weights over entities.

    Attributes:
        entities: How many there are.
        names: Theirs, in the order of the weights.
    """

    def __init__(self, judged: Judged) -> None:
        frame = judged.frame.with_columns(
            code=pl.col("entity").rank("dense").cast(pl.Int64) - 1
        ).sort("day", "code", maintain_order=True)
        self._code = frame["code"].to_numpy()
        self._label = frame["label"].to_numpy().astype(np.float64)
        scores = frame["score"].to_numpy()
        self.entities = int(self._code.max()) + 1
        self.names = frame["entity"].unique().sort()
        self._ranking = Ranking(self._label, scores)
        self._alert = None if judged.threshold is None else scores >= judged.threshold
        self._days, self._top = _days_of(frame), judged.top

    def metrics(self, weights: Vector) -> dict[str, float]:
        """Every metric where entities count so often."""
        per_event = weights[self._code]
        area, average = self._ranking.areas(per_event)
        return {
            "roc_auc": area,
            "average_precision": average,
            f"precision_at_{self._top}_per_day": precision_at_top(self._days, weights, self._top),
            **self._decisions(per_event),
        }

    def _decisions(self, weights: Vector) -> Mapping[str, float]:
        if self._alert is None:
            return {}
        alerts = float(weights[self._alert].sum())
        hits = float((weights * self._label)[self._alert].sum())
        positives = float((weights * self._label).sum())
        return {
            "precision_at_threshold": hits / alerts if alerts else float("nan"),
            "recall_at_threshold": hits / positives if positives else float("nan"),
            "alerts_per_day": alerts / len(self._days),
        }


def _days_of(frame: pl.DataFrame) -> list[Day]:
    entities = frame.group_by("day", "code", maintain_order=True).agg(
        pl.col("score").max(), pl.col("label").max()
    )
    ranked = entities.sort("day", "score", descending=[False, True], maintain_order=True)
    return [
        Day(part["code"].to_numpy(), part["label"].to_numpy().astype(bool))
        for part in ranked.partition_by("day", maintain_order=True)
    ]
