"""The stages side by side, on a small simulated history."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.definition import Definition, days
from headrace.errors import Misconfigured
from headrace.fallback import Fallback
from headrace.loading import load_definition
from headrace.model import Bundle
from headrace.offline.as_of import DAY_US
from headrace.offline.backtest.compared import compare
from headrace.offline.backtest.frames import AGE, AS_OF, KNEW, Frames, frames_of, never_used
from headrace.offline.backtest.gaps import Part
from headrace.offline.backtest.models import Fitted, fitted
from headrace.offline.backtest.report import traffic_of
from headrace.offline.backtest.stages import Backtest, Protocol, Stage, backtest
from headrace.offline.backtest.verdict import Cost, Side, verdict
from headrace.offline.bundle import manifest_of
from headrace.offline.feed import Feed, feed_of
from headrace.offline.metrics import Judged, Measured, measure
from headrace.offline.replay import Window, replay
from headrace.offline.simulator import Plan, simulate
from headrace.offline.splits import rolling_splits
from headrace.offline.train import ENTITY, feature_scorer, labelled
from headrace.offline.training import Training
from headrace.ports import ScannedState
from headrace.scoring import Scorer
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(customers=120, terminals=200, days=45, fraud_share=0.04, seed=3)
WEEK = timedelta(days=7)
TRAINING = Training(train=WEEK, gap=WEEK, test=WEEK, resamples=20, top=10)
ESTIMATOR = make_pipeline(StandardScaler(), LogisticRegression())
COSTS = {
    Stage.NIGHTLY_SCORES: Cost(10, 1),
    Stage.NIGHTLY_FEATURES: Cost(12, 1.2),
    Stage.REAL_TIME: Cost(40, 4),
}


@pytest.fixture(scope="module")
def definition(root: Path) -> Definition:
    return load_definition(root / "layers/model/definition.py")


@pytest.fixture(scope="module")
def feeds(definition: Definition) -> list[Feed]:
    traffic = simulate(PLAN)
    return [
        feed_of(traffic.events, definition.scored),
        feed_of(traffic.labels, definition.label.source),
    ]


@pytest.fixture(scope="module")
def frames(definition: Definition, feeds: list[Feed]) -> Frames:
    return frames_of(definition, feeds)


@pytest.fixture(scope="module")
def found(frames: Frames, feeds: list[Feed]) -> Backtest:
    return backtest(frames, frames, feeds[1], protocol())


def protocol() -> Protocol:
    return Protocol(estimator=ESTIMATOR, training=TRAINING, weeks=2)


def test_parts_of_every_events_gap_add_up_to_it_exactly(found: Backtest) -> None:
    rows = found.per_event
    summed = sum(rows[part].to_numpy() for part in Part)
    assert np.array_equal(summed, rows["gap"].to_numpy())
    assert np.array_equal((rows["realtime"] - rows["batch"]).to_numpy(), rows["gap"].to_numpy())
    assert rows["gap"].n_unique() > len(rows) / 2
    shares = [each.share for each in found.gap if each.share is not None]
    assert sum(shares) == pytest.approx(1)


def test_one_definition_makes_no_gap_and_another_one_does(
    definition: Definition, frames: Frames, feeds: list[Feed], found: Backtest
) -> None:
    assert found.per_event[Part.DEFINITION].abs().max() == 0
    customer, *others = definition.views
    short = replace(customer, windows=[days(30)])
    without = [n for n in definition.inputs if n in short.features or n not in customer.features]
    nightly = replace(
        definition,
        views=[short, *others],
        inputs=[name for name in without if name != "amount_to_mean_7d"],
        request_features=definition.request_features[:2],
    )
    other = backtest(frames, frames_of(nightly, feeds), feeds[1], protocol())
    rows = other.per_event
    assert np.abs(rows[Part.DEFINITION].to_numpy()).max() > 0.01
    assert np.array_equal(sum(rows[part].to_numpy() for part in Part), rows["gap"].to_numpy())
    assert rows["realtime"].equals(found.per_event["realtime"])


def test_definition_that_has_scores_of_another_entity_is_refused(
    definition: Definition, frames: Frames, feeds: list[Feed]
) -> None:
    terminal = next(e for e in definition.scored.entities.values() if e.name == "terminal")
    other = replace(frames, definition=replace(definition, batch_entity=terminal))
    with pytest.raises(Misconfigured, match="batch_entity is 'terminal'; expected 'customer'"):
        backtest(frames, other, feeds[1], protocol())


def test_nightly_scores_are_those_of_the_batch_run(
    definition: Definition, frames: Frames, feeds: list[Feed]
) -> None:
    model, _ = fitted_on_all(definition, frames, feeds)
    midnight = int(frames.facts[AS_OF].to_numpy().max()) - 3 * DAY_US
    that_day = frames.only(frames.facts[AS_OF] == midnight)
    states = replay(feature_scorer(definition), feeds, Window(midnight, midnight + 1)).states
    bundle = Bundle(
        definition, manifest_of(definition, "none"), SklearnModel(model.estimator), model.imputer
    )
    items = [
        ScannedState(key, stored.version, stored.data, stored.rows)
        for key, stored in states.read([f"customer#{n}" for n in range(PLAN.customers)]).items()
    ]
    scores, _ = Fallback(Scorer(bundle)).score(items, midnight, None)
    expected = {score.entity_id: score.score for score in scores}
    asked = that_day.realtime[ENTITY].to_list()
    assert len(asked) > 100
    known = that_day.facts[KNEW + "customer"].to_list()
    for entity, knew, score in zip(asked, known, model.batch_scores(that_day), strict=True):
        assert score == pytest.approx(expected[entity] if knew else model.prior, abs=1e-11)


def fitted_on_all(
    definition: Definition, frames: Frames, feeds: list[Feed]
) -> tuple[Fitted, pl.DataFrame]:
    rows = labelled(definition, frames.realtime, feeds[1])
    split = rolling_splits(rows, definition, TRAINING, 1)[0]
    return fitted(definition, rows, (ESTIMATOR, TRAINING), split), rows


def test_model_of_a_week_knows_no_label_that_came_after_it(
    frames: Frames, feeds: list[Feed], found: Backtest
) -> None:
    end = found.splits[-1].test_start
    later = pl.col("label_time") >= end
    flipped = feeds[1].frame.with_columns(
        is_fraud=pl.when(later & (pl.col("event_time") < end))
        .then(1 - pl.col("is_fraud"))
        .otherwise(pl.col("is_fraud"))
    )
    # Features stay as they are: only what models learn from is tampered with.
    again = backtest(frames, frames, replace(feeds[1], frame=flipped), protocol())
    week = pl.col("event_time") >= end
    assert again.per_event.filter(week).equals(found.per_event.filter(week))
    assert flipped["is_fraud"].sum() != feeds[1].frame["is_fraud"].sum()


def test_real_time_finds_what_nightly_scores_cannot(found: Backtest) -> None:
    lift = found.compared.lifts[Stage.REAL_TIME, Stage.NIGHTLY_SCORES]["average_precision"]
    assert lift.low is not None
    assert lift.low > 0
    assert set(found.compared.stages) == {str(stage) for stage in Stage}


def test_facts_say_how_old_and_how_known(frames: Frames) -> None:
    facts = frames.facts
    time = frames.realtime["event_time"].dt.epoch("us").to_numpy()
    assert np.allclose(facts[AGE].to_numpy(), (time - facts[AS_OF].to_numpy()) / 3.6e9)
    assert facts[AGE].is_between(0, 24, closed="right").all()
    first = frames.realtime.group_by(ENTITY, maintain_order=True).first()
    of_first = frames.facts.filter(
        frames.realtime["transaction_id"].is_in(first["transaction_id"].implode())
    )
    assert not of_first[KNEW + "customer"].any()
    assert facts[KNEW + "customer"].mean() > 0.9  # type: ignore[operator]


def test_what_nobody_asked_for_is_counted_by_run_and_entity(frames: Frames) -> None:
    runs = np.unique(frames.facts[AS_OF].to_numpy())[-2:]
    two = frames.only(frames.facts[AS_OF].is_in(runs))
    made = sum(int((frames.known["customer"] <= run).sum()) for run in runs)
    knew = two.facts.filter(pl.col(KNEW + "customer"))
    asked = len({*zip(knew[AS_OF], knew["customer_id"], strict=True)})
    assert never_used(two, "customer") == pytest.approx(1 - asked / made)


def test_traffic_is_that_of_the_history(frames: Frames) -> None:
    traffic = traffic_of(frames, None)
    assert traffic.events_per_second == pytest.approx(len(frames.realtime) / 45 / 86_400, rel=0.02)
    assert traffic.entities == {
        "customer": frames.facts["customer_id"].n_unique(),
        "terminal": frames.facts["terminal_id"].n_unique(),
    }
    assert traffic_of(frames, 50).events_per_second == 50


def judged(seed: int, scores: str = "score") -> Judged:
    draws = np.random.default_rng(seed)
    size = 400
    frame = pl.DataFrame(
        {
            "label": (draws.random(size) < 0.2).astype(np.int8),
            "score": draws.random(size),
            "entity": draws.integers(0, 60, size).astype(str),
            "day": draws.integers(0, 7, size),
        }
    )
    return Judged(frame.with_columns(score=pl.col(scores).cast(pl.Float64)), None, 5)


def test_one_week_alone_measures_as_training_does() -> None:
    week = judged(1)
    got = compare([{"a": week}], [], 0, 0).stages["a"]
    assert got == measure(week, 0, 0)


def test_stage_lifts_nothing_over_itself_whatever_is_drawn() -> None:
    weeks = [{"a": judged(n), "b": judged(n), "best": judged(n, "label")} for n in range(3)]
    got = compare(weeks, [("a", "b"), ("best", "a")], 30, 0)
    assert all(lift == Measured(0.0, 0.0, 0.0) for lift in got.lifts["a", "b"].values())
    lift = got.lifts["best", "a"]["average_precision"]
    assert lift.value == pytest.approx(
        got.stages["best"]["average_precision"].value - got.stages["a"]["average_precision"].value
    )
    assert lift.low is not None
    assert lift.low > 0.5


def test_weeks_follow_on_each_other_back_to_where_training_no_longer_fits(
    definition: Definition,
) -> None:
    start = datetime.fromisoformat("2025-05-01T09:00:00Z")
    rows = pl.DataFrame({"event_time": [start + timedelta(hours=6 * n) for n in range(4 * 36)]})
    found = rolling_splits(rows, definition, TRAINING, 9)
    ends = [split.test_end.isoformat()[:10] for split in found]
    assert ends == ["2025-05-24", "2025-05-31", "2025-06-07"]
    assert found[0].start.hour == 0
    assert found[0].start >= start
    assert len(rolling_splits(rows, definition, TRAINING, 2)) == 2


def with_lift(found: Backtest, lift: Measured, more_found: float) -> Backtest:
    """The same results with another lift of real time over nightly features."""
    pair = (Stage.REAL_TIME, Stage.NIGHTLY_FEATURES)
    lifts = dict(found.compared.lifts)
    lifts[pair] = {"average_precision": lift, "precision_at_10_per_day": Measured(more_found)}
    return replace(found, compared=found.compared._replace(lifts=lifts))


@pytest.mark.parametrize(
    ("lift", "worth", "go"),
    [
        (Measured(0.02, 0.01, 0.03), None, True),
        (Measured(0.02, -0.01, 0.05), None, False),
        (Measured(0.02, None, None), None, False),
        (Measured(0.02, 0.01, 0.03), 5.0, True),
        (Measured(0.02, 0.01, 0.03), 4.0, False),
    ],
)
def test_go_needs_a_lift_and_money_that_pays(
    found: Backtest, lift: Measured, worth: float | None, go: bool
) -> None:
    # 0.02 of 10 a day are 6.08 more in a month, for 28 USD more: 4.61 each.
    got = verdict(with_lift(found, lift, 0.02), COSTS, worth)
    assert got.worth.usd_each == pytest.approx(28 / 6.08)
    assert got.go is go
    assert got.best is (Stage.REAL_TIME if go else Stage.NIGHTLY_FEATURES)
    assert verdict(with_lift(found, lift, 0.02), COSTS, worth, 3).worth.found == pytest.approx(
        18.24
    )
    assert any(each.side is Side.AGAINST for each in got.reasons) is not go


def test_lift_that_is_too_good_is_doubted(found: Backtest) -> None:
    got = verdict(with_lift(found, Measured(0.3, 0.2, 0.4), 0.02), COSTS, None)
    assert any("look for labels" in each.text for each in got.reasons)
