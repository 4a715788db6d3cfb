"""Training imputes as serving does, with statistics of the training interval alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan, nan
from random import Random
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from headrace.definition import (
    AsNan,
    Constant,
    Definition,
    Feature,
    FirstOf,
    Last,
    LastKnown,
    MostFrequent,
    Required,
    RunningMean,
    TrainingMean,
    TrainingMedian,
    View,
    days,
    hours,
)
from headrace.errors import Misconfigured
from headrace.imputation import Imputer
from headrace.offline.bundle import write_bundle
from headrace.offline.feed import Feed, feed_of
from headrace.offline.imputed_rows import imputed_rows, scorable_rows
from headrace.offline.model_card import CARD
from headrace.offline.replay import replay
from headrace.offline.splits import Split
from headrace.offline.train import (
    Trained,
    labelled,
    reference_of,
    train,
    training_features,
    training_rows,
)
from headrace.offline.training import AlertsPerDay, AtCost, Training, load_recipe
from headrace.scoring import Scorer
from tests.fakes import (
    INPUTS,
    card,
    disputes,
    make_bundle,
    make_definition,
    payments,
    risk,
    spending,
    spread,
    traffic,
)

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2025, 5, 1, tzinfo=UTC)
EVENTS, MINUTES = 600, 20

known = View(
    name="known", entity=card, source=payments, aggregates=[Last("amount")],
    windows=[hours(1), days(7)],
)  # fmt: skip


def history(seed: int = 0) -> tuple[Feed, Feed]:
    """Payments with holes, every twenty minutes, and for each a dispute or the lack of one."""
    random = Random(seed)
    events: list[dict[str, Any]] = []
    for number in range(EVENTS):
        channel = random.choice(["web", "till", None])
        amount = random.choice([None, random.randint(1, 90) / 1]) if number % 3 else 20.0
        events.append(
            {
                "payment_id": number,
                "paid_at": START + timedelta(minutes=MINUTES * number),
                "card_id": random.randint(1, 8),
                "shop_id": random.randint(1, 4),
                "amount": amount if channel != "till" or amount is None else amount + 500,
                "discount": random.choice([None, 0.25]),
                "channel": channel,
                "contactless": random.choice([True, False, None]),
                "items": float(number % 5),
            }
        )
    labels = [
        {
            "payment_id": each["payment_id"],
            "disputed_at": each["paid_at"],
            "arrival_time": each["paid_at"] + timedelta(hours=6),
            "card_id": each["card_id"],
            "shop_id": each["shop_id"],
            "is_fraud": random.random() < 0.2,
        }
        for each in events
    ]
    return feed_of(pl.DataFrame(events), payments), feed_of(pl.DataFrame(labels), disputes)


def split_after(days_of_training: float) -> Split:
    end = START + timedelta(days=days_of_training)
    return Split(START, end, end + timedelta(days=2), START + timedelta(days=30))


def definition_with(**imputation: Any) -> Definition:
    inputs = [*INPUTS, "amount_is_missing", f"{known.features[0]}_is_missing"]
    return make_definition(
        views=[spending, spread, traffic, risk, known], imputation=imputation, inputs=inputs
    )


POLICIES = {
    "constant": Constant(7),
    "mean": TrainingMean(),
    "by-text": TrainingMedian(by="channel"),
    "by-flag": TrainingMedian(by="contactless"),
    "by-entity": TrainingMean(by="shop_id"),
    "small-groups": TrainingMean(by="card_id", least=40),
    "most-frequent": MostFrequent(by="channel"),
    "last-known": FirstOf([LastKnown(card, hours(1)), TrainingMedian(by="channel")]),
    "running-mean": FirstOf([RunningMean(card, days(1)), LastKnown(card, days(7)), Constant(1)]),
    "feature": FirstOf([Feature("card_amount_max_1d"), TrainingMedian()]),
    "nan": AsNan(),
    "required": Required(),
    "required-unless": FirstOf([LastKnown(card, hours(1)), Required()]),
}


def trained(definition: Definition, split: Split, estimator: Any = None) -> tuple[Any, Trained]:
    events, labels = history()
    rows = training_rows(definition, events, labels)
    return rows, train(definition, rows, split, estimator or HistGradientBoostingClassifier())


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_training_imputes_exactly_as_the_stream_does(policy: Any) -> None:
    definition = definition_with(amount=policy, shop_risk=Constant(0.25))
    rows, found = trained(definition, split_after(5))
    imputer = Imputer(definition, found.statistics)
    of_training = imputed_rows(definition, scorable_rows(definition, rows), imputer)

    bundle = make_bundle(definition, imputer)
    events, labels = history()
    served = replay(Scorer(bundle), [events, labels]).scores.filter(pl.col("rung") == "real_time")
    of_stream = served.select(of_training.columns).fill_null(nan)
    assert_frame_equal(of_training, of_stream, check_exact=True)
    assert len(of_stream) > EVENTS / 3


def test_statistics_come_from_the_training_interval_alone() -> None:
    definition = definition_with(amount=TrainingMean(by="channel", least=1))
    split = split_after(4)
    events, labels = history()
    leaking = events.frame.with_columns(
        pl.when(pl.col("paid_at") >= split.end)
        .then(999.0)
        .otherwise(pl.col("amount"))
        .alias("amount")
    )
    _, without = trained(definition, split)
    rows = training_rows(definition, feed_of(leaking, payments), labels)
    leaked = train(definition, rows, split, HistGradientBoostingClassifier())
    assert leaked.statistics == without.statistics
    assert leaked.inputs == without.inputs
    assert without.statistics["amount"][0].groups.keys() == {"web", "till"}
    whole = train(definition, rows, split_after(8), HistGradientBoostingClassifier())
    assert whole.statistics != without.statistics  # the planted values would have shown


def test_rows_that_lack_what_is_required_are_not_trained_on() -> None:
    definition = definition_with(amount=Required())
    rows, found = trained(definition, split_after(5))
    inside = rows.filter(pl.col("event_time") < split_after(5).end)
    assert len(found.inputs) == len(inside) - inside["amount"].null_count()
    assert not any(isnan(row[0]) for row in found.inputs)


def test_estimator_that_does_not_take_nan_is_refused_with_its_own_words() -> None:
    definition = definition_with(amount=AsNan())
    with pytest.raises(Misconfigured, match=r"LogisticRegression cannot be fitted.*NaN"):
        trained(definition, split_after(5), LogisticRegression())


HOURS = timedelta(hours=1)
CUT = Split(
    START, START + 120 * HOURS, START + 126 * HOURS, START + timedelta(days=30)
)  # labels take six hours
EVERYTHING = Training(
    search={"max_depth": [2, 4]},
    folds=2,
    tune=30 * HOURS,
    calibration="sigmoid",
    threshold=AtCost(miss=4, false_alarm=1),
    resamples=20,
    top=2,
)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=8)  # draws: no random_state


def trained_on(events: Feed, labels: Feed, how: Training = EVERYTHING) -> Trained:
    definition = definition_with(amount=TrainingMean(by="channel", least=1))
    rows = labelled(definition, training_features(definition, events, labels), labels, CUT)
    found = train(definition, rows, CUT, forest(), how)
    return replace(found, reference=reference_of(definition, events, CUT))


def test_nothing_of_the_test_interval_reaches_what_is_fitted() -> None:
    events, labels = history()
    found = trained_on(events, labels)
    after = pl.col("paid_at") >= CUT.end
    other = events.frame.with_columns(amount=pl.when(after).then(999.0).otherwise("amount"))
    later = pl.col("disputed_at") >= CUT.end
    flipped = pl.when(later).then(~pl.col("is_fraud")).otherwise("is_fraud")
    planted = trained_on(
        feed_of(other, payments), feed_of(labels.frame.with_columns(is_fraud=flipped), disputes)
    )
    assert planted.metrics != found.metrics  # it is there
    assert planted.statistics == found.statistics
    assert planted.reference == found.reference
    assert planted.inputs == found.inputs
    assert (planted.threshold, planted.chosen) == (found.threshold, found.chosen)
    of_both = [each.estimator.predict_proba(found.inputs).tolist() for each in (found, planted)]
    assert of_both[0] == of_both[1]


def test_labels_that_came_after_training_would_have_begun_are_not_learned_from() -> None:
    events, labels = history()
    late = labels.frame.with_columns(
        arrival_time=pl.when(pl.col("payment_id") == 10)
        .then(CUT.test_start)
        .otherwise("arrival_time")
    )
    corrected = late.filter(pl.col("payment_id").is_in([11, 500])).with_columns(
        is_fraud=~pl.col("is_fraud"), arrival_time=pl.lit(START + timedelta(days=20))
    )
    feed = feed_of(pl.concat([late, corrected]), disputes)
    definition = definition_with()
    features = training_features(definition, events, labels)
    rows = labelled(definition, features, feed, CUT)
    last = labelled(definition, features, feed)
    first = {row["payment_id"]: row["is_fraud"] for row in labels.frame.iter_rows(named=True)}
    known = dict(rows.select("payment_id", "label").iter_rows())
    in_the_gap = set(range(360, 378))  # their labels came after the test began, too
    assert first.keys() - known.keys() == {10} | in_the_gap
    assert known[11] == first[11]  # as it was known when training began
    assert known[500] != first[500]  # in the test the last one counts
    assert dict(last.select("payment_id", "label").iter_rows())[11] != first[11]


def test_one_seed_gives_one_bundle_and_another_seed_another(tmp_path: Path) -> None:
    events, labels = history()
    definition = definition_with(amount=TrainingMean(by="channel", least=1))
    versions = []
    for seed, threads in ((3, 1), (3, 2), (4, 2)):
        with threadpool_limits(limits=threads):
            found = trained_on(events, labels, replace(EVERYTHING, seed=seed))
        manifest = write_bundle(tmp_path, definition, found)
        versions.append(manifest.model_version)
        assert manifest.training["seed"] == str(seed)
    assert versions[0] == versions[1]
    assert versions[1] != versions[2]


def test_manifest_and_card_say_threshold_intervals_and_what_the_model_is_not_for(
    tmp_path: Path,
) -> None:
    events, labels = history()
    definition = definition_with(amount=TrainingMean(by="channel", least=1))
    how = replace(EVERYTHING, not_for="Refusing a payment without a person.")
    manifest = write_bundle(tmp_path, definition, trained_on(events, labels, how))
    card = (tmp_path / "bundle" / CARD).read_text(encoding="utf-8")
    assert manifest.threshold is not None
    assert manifest.certificate is not None
    assert f"{manifest.threshold:g}" in manifest.certificate.flips
    low, high = manifest.intervals["roc_auc"]
    assert low <= manifest.metrics["roc_auc"] <= high
    assert {"precision_at_threshold", "recall_at_threshold", "precision_at_2_per_day"} <= (
        manifest.intervals.keys()
    )
    for said in (
        manifest.model_version,
        manifest.definition_hash,
        how.not_for,
        f"{manifest.threshold:.6g}",
        f"| {manifest.metrics['roc_auc']:.4g} | {low:.4g} | {high:.4g} |",
        "| amount | TrainingMean |",
        "`meant_for` of `training`",
        "2025-05-01 00:00:00 UTC to 2025-05-06 00:00:00 UTC",
    ):
        assert said in card, said


def test_without_a_rule_the_model_learns_from_the_whole_interval_and_decides_nothing() -> None:
    events, labels = history()
    found = trained_on(events, labels, Training(resamples=0))
    assert found.threshold is None
    assert found.chosen == {}
    assert not any(name.endswith("threshold") for name in found.metrics)
    inside = events.frame.filter(pl.col("paid_at") < CUT.end)
    assert len(found.inputs) == len(inside)


def test_events_of_who_was_caught_before_can_be_left_out_of_the_test() -> None:
    events, labels = history()
    everyone = trained_on(events, labels, Training(resamples=0))
    free = trained_on(events, labels, Training(resamples=0, tested="not_caught"))
    assert everyone.metrics["rows"].value > 0
    assert free.metrics["rows"].value == 0  # eight cards, all caught within five days
    assert free.inputs == everyone.inputs


def test_days_of_a_test_begin_when_it_begins() -> None:
    events, labels = history()
    two_days = replace(CUT, test_end=CUT.test_start + 48 * HOURS)  # from six in the morning
    definition = definition_with()
    features = training_features(definition, events, labels)
    rows = labelled(definition, features, labels, two_days)
    how = Training(threshold=AlertsPerDay(30), tune=30 * HOURS, resamples=0)
    found = train(definition, rows, two_days, forest(), how).metrics
    tested = rows.filter(
        pl.col("event_time").is_between(CUT.test_start, two_days.test_end, closed="left")
    )
    assert found["rows"].value == len(tested) == 144
    hits = found["recall_at_threshold"].value * found["positives"].value
    alerts = hits / found["precision_at_threshold"].value
    assert found["alerts_per_day"].value == pytest.approx(alerts / 2)


def test_parameter_that_the_estimator_does_not_have_is_named() -> None:
    events, labels = history()
    with pytest.raises(Misconfigured, match="Invalid parameter 'depth'"):
        trained_on(events, labels, replace(EVERYTHING, search={"depth": [1]}))


def test_recipe_of_an_estimator_file_is_its_build_and_its_training(tmp_path: Path) -> None:
    path = tmp_path / "estimator.py"
    path.write_text("def build():\n    return 7\n")
    assert load_recipe(path) == (7, Training())
    path.write_text(
        "from headrace.offline.training import Training\n"
        "def build():\n    return 7\n"
        "training = Training(top=3)\n"
    )
    assert load_recipe(path).training.top == 3
    path.write_text("def build():\n    return 7\ntraining = {}\n")
    with pytest.raises(Misconfigured, match="`training` is a dict; expected"):
        load_recipe(path)
    with pytest.raises(Misconfigured, match="no such file"):
        load_recipe(tmp_path / "other.py")


def test_reference_tells_invalid_values_from_absent_ones() -> None:
    events, _ = history()
    frame = events.frame.with_columns(
        amount=pl.when(pl.col("payment_id") < 30).then(-1.0).otherwise(pl.col("amount"))
    )
    absent = frame["amount"].null_count()
    found = reference_of(make_definition(), feed_of(frame, payments), split_after(30))["amount"]
    assert (found.events, found.invalid, found.missing) == (EVENTS, 30, 30 + absent)
