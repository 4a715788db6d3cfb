from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace.errors import Misconfigured
from headrace.loading import checked
from headrace.offline.feed import Feed, arrivals, feed_of, records
from headrace.offline.holes import Holes
from headrace.offline.replay import Conditions, replay
from headrace.offline.simulator import Plan, simulate
from headrace.offline.skew import Reason, Skew, logged_of, skew
from headrace.offline.train import feature_scorer
from layers.model.definition import definition
from tests.fakes import Lab

if TYPE_CHECKING:
    from headrace.definition import Definition

LABELS = definition.label.source
TRAFFIC = simulate(Plan(customers=40, terminals=50, days=30, missing_share=0.0))
FEEDS = [feed_of(TRAFFIC.events, definition.scored), feed_of(TRAFFIC.labels, LABELS)]


def log_of(feeds: list[Feed], how: Conditions | None = None) -> pl.DataFrame:
    return replay(feature_scorer(definition), feeds, conditions=how).scores


def totals(found: Skew) -> dict[Reason, int]:
    every = {reason: sum(each[reason] for each in found.counts.values()) for reason in Reason}
    return {reason: count for reason, count in every.items() if count}


def delayed(feed: Feed, by: timedelta, every: int) -> Feed:
    """Every n-th event arrives later by this."""
    late = pl.int_range(pl.len()) % every == 0
    time = pl.col(feed.source.time)
    frame = feed.frame.with_columns(arrival_time=pl.when(late).then(time + by).otherwise(time))
    return feed_of(frame, feed.source)


def test_a_clean_replay_has_no_skew() -> None:
    found = skew(definition, log_of(FEEDS), FEEDS)

    assert found.compared == len(TRAFFIC.events)
    assert set(totals(found)) == {Reason.EQUAL, Reason.IMPUTED}
    imputed = [name for name, each in found.counts.items() if each[Reason.IMPUTED]]
    assert all(name.startswith("terminal_is_fraud_mean") for name in imputed), imputed


def test_what_had_not_arrived_yet_is_late_data() -> None:
    feeds = [delayed(FEEDS[0], timedelta(hours=20), 7), FEEDS[1]]
    found = skew(definition, log_of(feeds), feeds)

    assert found.unexplained == 0
    assert found.counts["customer_count_1d"][Reason.LATE_DATA] > 50
    assert found.counts["is_night"][Reason.LATE_DATA] == 0


def test_what_was_imputed_for_a_hole_is_told_and_so_is_what_followed_from_it() -> None:
    log = log_of(FEEDS, Conditions(holes=Holes.parse("absent=0.1,negative=0.05", seed=3)))
    absent = log.filter(pl.col("imputed").list.contains("amount")).height
    found = skew(definition, log, FEEDS)

    assert found.unexplained == 0
    assert found.counts["amount"][Reason.IMPUTED] == absent > 100
    assert found.counts["customer_amount_mean_30d"][Reason.IMPUTED] > absent


def test_differences_under_another_definition_are_put_down_to_it() -> None:
    customer, terminal, risk = definition.views
    sooner = replace(terminal, delay=timedelta(days=3))
    changed = checked(replace(definition, views=[customer, sooner, risk]))
    log = replay(feature_scorer(changed), FEEDS).scores
    found = skew(definition, log, FEEDS)

    assert found.unexplained == 0
    assert found.counts["terminal_count_1d"][Reason.DEFINITION_CHANGED] > 500
    assert found.counts["customer_count_1d"][Reason.EQUAL] == found.compared


def test_a_tampered_feature_is_unexplained_and_its_event_is_named() -> None:
    log = log_of(FEEDS).with_columns(
        terminal_count_7d=pl.when(pl.col("transaction_id") == 700)
        .then(pl.col("terminal_count_7d") + 1)
        .otherwise(pl.col("terminal_count_7d"))
    )
    found = skew(definition, log, FEEDS)

    assert totals(found)[Reason.UNEXPLAINED] == 1
    assert found.counts["terminal_count_7d"][Reason.UNEXPLAINED] == 1
    assert found.examples == ["700"]


def test_a_label_that_was_used_before_it_was_known_is_unexplained() -> None:
    leaky = undelayed(definition)
    early = [FEEDS[0], replace(FEEDS[1], arrival=LABELS.time)]
    log = replay(feature_scorer(leaky), early).scores
    found = skew(leaky, log, FEEDS)

    assert found.counts["terminal_is_fraud_mean_30d"][Reason.UNEXPLAINED] > 100
    assert found.counts["customer_count_30d"][Reason.UNEXPLAINED] == 0


def undelayed(given: Definition) -> Definition:
    """With a fraud rate up to now, which changes with every label that comes."""
    views = [replace(view, delay=timedelta(0)) for view in given.views]
    return checked(replace(given, views=views))


def test_stored_records_say_the_same_as_a_replays_file() -> None:
    log = log_of(FEEDS)
    lab: Any = Lab(definition)
    for chunk in records(FEEDS, arrivals(FEEDS), 1_000):
        lab.stream.score(chunk)
    stored = lab.scores.get_all([str(each) for each in log["transaction_id"]])
    found = skew(definition, logged_of(stored.values(), definition), FEEDS)

    assert found.compared == len(log)
    assert found.counts == skew(definition, log, FEEDS).counts


def test_scores_from_lower_rungs_and_unknown_events_are_counted_apart() -> None:
    log = log_of(FEEDS).with_columns(
        rung=pl.when(pl.col("transaction_id") < 10).then(pl.lit("prior")).otherwise("rung"),
        transaction_id=pl.when(pl.col("transaction_id") == 50)
        .then(10**9)
        .otherwise("transaction_id"),
    )
    found = skew(definition, log, FEEDS)

    assert (found.without_features, found.not_backfilled) == (10, 1)
    assert found.compared == len(log) - 11
    assert found.unexplained == 0


def test_a_log_that_does_not_say_what_was_imputed_is_refused() -> None:
    with pytest.raises(Misconfigured, match="imputed"):
        skew(definition, log_of(FEEDS).drop("imputed"), FEEDS)
