"""Intervals of history, thresholds and metrics, each against a plain reading of what it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from headrace.errors import Misconfigured
from headrace.offline.metrics import Day, Judged, Ranking, measure, precision_at_top
from headrace.offline.splits import later_folds, split_by_time, tuning_split
from headrace.offline.thresholds import threshold_for
from headrace.offline.training import AlertsPerDay, AtCost, Training
from tests.fakes import make_definition

START = datetime(2025, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def at_days(count: int) -> pl.DataFrame:
    return pl.DataFrame({"event_time": [START + DAY * n for n in range(count)]})


def test_test_comes_last_behind_a_gap_as_long_as_labels_take() -> None:
    definition = make_definition()
    split = split_by_time(at_days(41), definition, Training(test=5 * DAY, train=7 * DAY))
    assert split.test_end == START + 40 * DAY + timedelta(microseconds=1)
    assert split.test_start == split.test_end - 5 * DAY
    assert split.gap == definition.label.source.lateness
    assert split.start == split.end - 7 * DAY
    given_gap = split_by_time(at_days(41), definition, Training(gap=2 * DAY), START + 30 * DAY)
    assert (given_gap.gap, given_gap.test_end) == (2 * DAY, START + 30 * DAY)
    assert given_gap.start == START


def test_history_that_is_too_short_says_how_long_it_must_be() -> None:
    with pytest.raises(Misconfigured, match=r"expected more than 39 days"):
        split_by_time(
            at_days(30), make_definition(), Training(train=30 * DAY, gap=2 * DAY)
        )  # fmt: skip
    split = split_by_time(at_days(30), make_definition(), Training(gap=9 * DAY))
    with pytest.raises(Misconfigured, match=r"the gap of 9 days"):
        tuning_split(split, Training(threshold=AlertsPerDay(1)))


def test_folds_of_a_search_are_validated_on_what_comes_a_gap_later() -> None:
    times = np.arange(0, 400) * 3_600_000_000
    gap = timedelta(hours=48)
    folds = later_folds(times, gap, 3)
    assert len(folds) == 3
    for fit, later in folds:
        assert times[later].min() - times[fit].max() > gap // timedelta(microseconds=1)
        assert len(later) == 100
    assert np.array_equal(np.concatenate([later for _, later in folds]), np.arange(100, 400))
    with pytest.raises(Misconfigured, match="expected parts longer than the gap"):
        later_folds(times, timedelta(hours=110), 3)


LABELLED = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 3)), min_size=2, max_size=40
)


@given(LABELLED)
def test_areas_at_weights_are_those_of_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    label, score, weight = (np.asarray(column, dtype=float) for column in zip(*rows, strict=True))
    area, average = Ranking(label, score).areas(weight)
    if weight[label == 1].sum() and weight[label == 0].sum():
        assert area == pytest.approx(roc_auc_score(label, score, sample_weight=weight))
        assert average == pytest.approx(average_precision_score(label, score, sample_weight=weight))
    else:
        assert area != area
        assert average != average


@given(LABELLED, st.floats(0.1, 20), st.floats(0.1, 20))
def test_threshold_by_cost_is_the_cheapest_of_all(
    rows: list[tuple[int, int, int]], miss: float, false_alarm: float
) -> None:
    label = np.asarray([row[0] for row in rows])
    score = np.asarray([row[1] / 10 for row in rows])

    def cost(threshold: float) -> float:
        alert = score >= threshold
        return float(miss * label[~alert].sum() + false_alarm * (1 - label[alert]).sum())

    found = threshold_for(AtCost(miss=miss, false_alarm=false_alarm), score, label, 1)
    assert cost(found) == pytest.approx(min(cost(t / 20) for t in range(-1, 22)))


@given(LABELLED, st.integers(1, 20), st.integers(1, 3))
def test_threshold_by_rate_alerts_as_often_as_allowed_and_no_oftener(
    rows: list[tuple[int, int, int]], alerts: int, days: int
) -> None:
    score = np.asarray([row[1] / 10 for row in rows])
    found = threshold_for(AlertsPerDay(alerts), score, score, days)
    assert (score >= found).sum() <= alerts * days
    lower = score[score < found]
    if len(lower):
        assert (score >= lower.max()).sum() > alerts * days


def test_precision_at_top_looks_at_k_entities_and_blocks_those_found() -> None:
    days = [
        Day(np.asarray([3, 1, 0, 2]), np.asarray([True, False, True, False])),
        Day(np.asarray([3, 0, 1, 2]), np.asarray([True, True, False, False])),
    ]
    # Day one: 3 (hit) and 1. Day two, 3 being blocked: 0 (hit) and 1.
    assert precision_at_top(days, np.ones(4), 2) == 0.5
    # Drawn twice, entity 3 takes both places of day one; on day two 0 and 1 are left.
    assert precision_at_top(days, np.asarray([1.0, 1, 0, 2]), 2) == 0.75


def judged(seed: int, days: int = 7, entities: int = 60) -> Judged:
    random = np.random.default_rng(seed)
    rows = 12 * entities
    label = (random.random(rows) < 0.1).astype(int)
    frame = pl.DataFrame(
        {
            "label": label,
            "score": np.clip(random.normal(0.3 + 0.2 * label, 0.15), 0, 1),
            "entity": [f"e{n % entities}" for n in range(rows)],
            "day": random.integers(0, days, rows),
        }
    )
    return Judged(frame, 0.5, 5)


def test_metrics_at_the_threshold_are_counts_of_alerts() -> None:
    given_rows = judged(1)
    found = measure(given_rows, 0, seed=0)
    frame = given_rows.frame
    alerts = frame.filter(pl.col("score") >= 0.5)
    assert found["precision_at_threshold"].value == alerts["label"].mean()
    assert found["recall_at_threshold"].value == int(alerts["label"].sum()) / int(
        frame["label"].sum()
    )
    assert found["alerts_per_day"].value == len(alerts) / 7
    assert found["roc_auc"].low is None


def test_intervals_hold_the_value_and_come_out_alike_from_one_seed() -> None:
    once, again, other = (measure(judged(1), 200, seed) for seed in (5, 5, 6))
    assert once == again
    assert once != other
    for name, each in once.items():
        assert each.low is not None, name
        assert each.high is not None, name
        assert each.low <= each.value <= each.high, name


@pytest.mark.slow
def test_intervals_hold_the_true_area_about_as_often_as_they_say() -> None:
    truth = measure(judged(0, entities=20_000), 0, 0)["roc_auc"].value
    inside = 0
    for seed in range(50):
        found = measure(judged(seed + 1), 100, seed)["roc_auc"]
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert 42 <= inside <= 50


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"calibration": "platt"}, "calibration is 'platt'; expected one of none, sigmoid"),
        ({"tested": "some"}, "tested is 'some'"),
        ({"folds": 0}, "folds is 0; expected at least 1"),
        ({"test": timedelta(0)}, "test is 0:00:00; expected a length above 0"),
        ({"gap": -DAY}, "expected 0 or more"),
    ],
)
def test_training_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        Training(**wrong)
