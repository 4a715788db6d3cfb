"""Training imputes as serving does, with statistics of the training interval alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan, nan
from random import Random
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

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
from headrace.offline.feed import Feed, feed_of
from headrace.offline.imputed_rows import imputed_rows, scorable_rows
from headrace.offline.replay import replay
from headrace.offline.train import Split, Trained, reference_of, train, training_rows
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


def test_reference_tells_invalid_values_from_absent_ones() -> None:
    events, _ = history()
    frame = events.frame.with_columns(
        amount=pl.when(pl.col("payment_id") < 30).then(-1.0).otherwise(pl.col("amount"))
    )
    absent = frame["amount"].null_count()
    found = reference_of(make_definition(), feed_of(frame, payments), split_after(30))["amount"]
    assert (found.events, found.invalid, found.missing) == (EVENTS, 30, 30 + absent)
