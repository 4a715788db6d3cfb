"""The decision threshold by cost or by rate. May import training."""

from __future__ import annotations

from math import nextafter
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.offline.training import AtCost

if TYPE_CHECKING:
    from headrace.offline.training import AlertsPerDay


def threshold_for(rule: AtCost | AlertsPerDay, scores: Any, labels: Any, days: float) -> float:
    """The threshold that a rule chooses; what scores at or above it is an alert.

    It lies half way between two scores, so that the last bits of a score decide nothing.

    Args:
        rule: By cost, or by rate.
        scores: Of events that the model was not fitted on, shape (n,), n > 0.
        labels: Theirs, 0 or 1; a rate does not look at them.
        days: How long the events took.
    """
    ranked = np.sort(np.unique(scores))[::-1]
    between = (ranked[:-1] + ranked[1:]) / 2
    # Above the highest score nothing is an alert; at 0 everything is.
    candidates = np.concatenate([[_above(float(ranked[0]))], between, [0.0]])
    alerts = _at_or_above(candidates, scores)
    if not isinstance(rule, AtCost):
        few_enough = np.flatnonzero(alerts <= rule.alerts * days)
        return float(candidates[few_enough[-1]])
    hits = _at_or_above(candidates, scores[labels == 1])
    cost = rule.miss * (labels.sum() - hits) + rule.false_alarm * (alerts - hits)
    return float(candidates[int(np.argmin(cost))])  # of equal ones, the fewest alerts


def _at_or_above(thresholds: Any, scores: Any) -> Any:
    ascending = np.sort(scores)
    return len(ascending) - np.searchsorted(ascending, thresholds, side="left")


def _above(score: float) -> float:
    return (score + 1) / 2 if score < 1 else nextafter(1.0, 2.0)
