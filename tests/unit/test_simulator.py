"""The simulator: what it promises of its frames, its frauds and its repeatability."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal

from headrace.errors import Misconfigured
from headrace.offline.fraud import KINDS, Exposure, Ledger, defraud
from headrace.offline.simulator import Plan, Traffic, simulate

if TYPE_CHECKING:
    import numpy.typing as npt

PLAN = Plan()
SMALL = Plan(customers=20, terminals=30, days=10, seed=7)
SMALL_DIGEST = "7b9e9af639854934eb7b5794a461b3951914587bff2ae642b5850690eb6241ca"
UTC_TIME = pl.Datetime("us", "UTC")


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return simulate(PLAN)


@pytest.fixture(scope="module")
def labelled(traffic: Traffic) -> pl.DataFrame:
    known = traffic.labels.select("transaction_id", "is_fraud", "label_time")
    return traffic.events.join(known, on="transaction_id").join(
        traffic.frauds, on="transaction_id", how="left"
    )


def digest(traffic: Traffic) -> str:
    whole = [
        *traffic.events.drop("amount").with_columns(pl.col("event_time").to_physical()),
        (traffic.events["amount"].fill_null(-1) * 100).round(),
        *traffic.labels.with_columns(pl.col("event_time", "label_time").to_physical()),
    ]
    return sha256(
        b"".join(column.to_numpy().astype("<i8").tobytes() for column in whole)
    ).hexdigest()


def test_frames_have_the_agreed_columns_and_types(traffic: Traffic) -> None:
    assert dict(traffic.events.schema) == {
        "transaction_id": pl.Int64,
        "event_time": UTC_TIME,
        "customer_id": pl.Int64,
        "terminal_id": pl.Int64,
        "amount": pl.Float64,
    }
    assert dict(traffic.labels.schema) == {
        "transaction_id": pl.Int64,
        "label_time": UTC_TIME,
        "event_time": UTC_TIME,
        "customer_id": pl.Int64,
        "terminal_id": pl.Int64,
        "is_fraud": pl.Int8,
    }
    assert dict(traffic.frauds.schema) == {"transaction_id": pl.Int64, "kind": pl.String}


def test_equal_plans_give_equal_traffic(traffic: Traffic) -> None:
    again = simulate(Plan())
    assert again.events.equals(traffic.events)
    assert again.labels.equals(traffic.labels)
    assert again.frauds.equals(traffic.frauds)


def test_another_seed_gives_other_traffic(traffic: Traffic) -> None:
    assert not simulate(Plan(seed=1)).events.equals(traffic.events)


def test_traffic_is_the_same_on_every_python_and_machine() -> None:
    assert digest(simulate(SMALL)) == SMALL_DIGEST


def test_events_are_sorted_and_numbered_in_that_order(traffic: Traffic) -> None:
    events = traffic.events
    assert events.equals(events.sort("event_time", "transaction_id"))
    assert events["transaction_id"].to_list() == list(range(events.height))


def test_times_are_whole_seconds_within_the_plan(traffic: Traffic) -> None:
    times = traffic.events["event_time"]
    assert (times.dt.epoch("us") % 1_000_000 == 0).all()
    assert times.is_between(PLAN.start, PLAN.start + timedelta(days=PLAN.days), closed="left").all()


def test_amounts_are_whole_cents_within_what_a_card_pays(traffic: Traffic) -> None:
    amounts = traffic.events["amount"].drop_nulls()
    assert amounts.is_between(0.5, 5_000).all()
    assert amounts.to_list() == [round(amount, 2) for amount in amounts]


def test_ids_are_those_of_the_plan(traffic: Traffic) -> None:
    assert traffic.events["customer_id"].is_between(0, PLAN.customers - 1).all()
    assert traffic.events["terminal_id"].is_between(0, PLAN.terminals - 1).all()


def test_customers_pay_about_as_often_as_planned(traffic: Traffic) -> None:
    per_day = traffic.events.height / PLAN.customers / PLAN.days
    assert per_day == pytest.approx(PLAN.events_per_day, rel=0.1)


def test_every_event_has_one_label_that_repeats_its_keys(traffic: Traffic) -> None:
    keys = ["transaction_id", "event_time", "customer_id", "terminal_id"]
    assert traffic.labels.sort("transaction_id").select(keys).equals(traffic.events.select(keys))


def test_labels_come_in_order_and_inside_the_week_after_the_event(traffic: Traffic) -> None:
    labels = traffic.labels
    assert labels["label_time"].is_sorted()
    delays = labels["label_time"] - labels["event_time"]
    assert delays.is_between(timedelta(days=0.25), timedelta(days=6.75)).all()


def test_about_one_transaction_in_a_hundred_is_fraud_whatever_the_seed() -> None:
    labels = [simulate(Plan(seed=seed)).labels["is_fraud"] for seed in range(5)]
    shares = [int(column.sum()) / column.len() for column in labels]
    assert all(0.005 < share < 0.017 for share in shares)
    assert sum(shares) / 5 == pytest.approx(0.01, rel=0.2)


def test_frauds_are_named_by_kind_and_no_honest_event_is(labelled: pl.DataFrame) -> None:
    assert labelled.filter(pl.col("kind").is_not_null())["is_fraud"].eq(1).all()
    assert labelled.filter(pl.col("kind").is_null())["is_fraud"].eq(0).all()
    assert set(labelled["kind"].drop_nulls()) == set(KINDS)


def test_large_amounts_are_larger_than_nearly_all_honest_ones(labelled: pl.DataFrame) -> None:
    large = labelled.filter(pl.col("kind") == "large_amount")["amount"].min()
    honest = labelled.filter(pl.col("is_fraud") == 0)["amount"].quantile(0.95)
    assert isinstance(large, float)
    assert honest is not None
    assert large > honest


def test_compromised_terminals_are_few_and_stay_so_for_weeks(labelled: pl.DataFrame) -> None:
    spells = (
        labelled.filter(pl.col("kind") == "compromised_terminal")
        .group_by("terminal_id")
        .agg(pl.len(), (pl.col("event_time").max() - pl.col("event_time").min()).alias("span"))
    )
    assert spells.height < PLAN.terminals / 10
    longest = spells["span"].max()
    assert isinstance(longest, timedelta)
    assert timedelta(days=10) < longest


def test_leaked_credentials_pay_several_times_the_usual_amount(labelled: pl.DataFrame) -> None:
    usual = (
        labelled.filter(pl.col("is_fraud") == 0)
        .group_by("customer_id")
        .agg(pl.col("amount").mean().alias("usual"))
    )
    leaked = labelled.filter(pl.col("kind") == "leaked_credentials").join(usual, on="customer_id")
    assert leaked["customer_id"].n_unique() < PLAN.customers / 5
    factor = (leaked["amount"] / leaked["usual"]).mean()
    assert isinstance(factor, float)
    assert factor > 3


def test_missing_share_of_the_amounts_is_null(traffic: Traffic) -> None:
    share = traffic.events["amount"].null_count() / traffic.events.height
    assert share == pytest.approx(PLAN.missing_share, rel=0.25)
    assert simulate(Plan(missing_share=0)).events["amount"].null_count() == 0


def test_missing_amounts_change_nothing_else(traffic: Traffic) -> None:
    complete = simulate(Plan(missing_share=0))
    assert complete.labels.equals(traffic.labels)
    present = traffic.events.drop_nulls("amount")
    assert present.equals(
        complete.events.filter(pl.col("transaction_id").is_in(present["transaction_id"].implode()))
    )


def test_start_moves_all_times_and_nothing_else() -> None:
    later = Plan(
        customers=20, terminals=30, days=10, seed=7, start=datetime(2025, 3, 10, tzinfo=UTC)
    )
    moved = simulate(later).events
    week = pl.col("event_time") + timedelta(days=7)
    assert moved.equals(simulate(SMALL).events.with_columns(week))


def test_start_may_be_in_any_zone() -> None:
    zone = timezone(timedelta(hours=2))
    first = simulate(Plan(customers=20, days=1, start=datetime(2025, 3, 3, tzinfo=zone))).events
    earliest = first["event_time"].min()
    assert isinstance(earliest, datetime)
    assert earliest >= datetime(2025, 3, 2, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(customers=1, terminals=1, days=1),
        Plan(customers=3, terminals=2, days=1, events_per_day=0),
        Plan(customers=5, terminals=3, days=2, missing_share=1, fraud_share=0),
    ],
    ids=["one of each", "no event at all", "no amount and no fraud"],
)
def test_smallest_plans_are_simulated_too(plan: Plan) -> None:
    drawn = simulate(plan)
    assert drawn.events.height == drawn.labels.height
    assert drawn.events.schema == simulate(SMALL).events.schema
    assert drawn.frauds.schema == simulate(SMALL).frauds.schema


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"customers": 0}, "customers is 0; expected at least 1"),
        ({"terminals": -1}, "terminals is -1; expected at least 1"),
        ({"days": 0}, "days is 0; expected at least 1"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"missing_share": 1.5}, r"missing_share is 1\.5; expected 0 to 1"),
        ({"fraud_share": float("nan")}, "fraud_share is nan; expected 0 to 0.2"),
        ({"start": datetime(2025, 3, 3)}, "start is '2025-03-03T00:00:00'; expected a whole"),  # noqa: DTZ001 - the fault under test
        ({"days": 0, "seed": -1}, "days is 0.*; seed is -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_plan_says_what_it_got_and_what_was_expected(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(Misconfigured, match=message):
        Plan(**wrong)


def test_fraud_reaches_no_further_than_its_share() -> None:
    count = 1_000
    zeros: npt.NDArray[np.int64] = np.zeros(count, dtype=np.int64)
    honest = Ledger(np.arange(count), zeros, zeros, zeros + 1_000, zeros)
    rng = np.random.Generator(np.random.PCG64(0))
    untouched = defraud(honest, Exposure(1, 1, count, share=0.0), rng)
    assert_array_equal(untouched.kinds, zeros)
    assert_array_equal(untouched.cents, honest.cents)


@pytest.mark.slow
def test_volume_takes_seconds() -> None:
    large = simulate(Plan(customers=5_000, terminals=10_000))
    assert large.events.height == pytest.approx(600_000, rel=0.03)
