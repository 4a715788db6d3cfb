"""Backfilled features against those of the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, settings

from headrace.definition import LIFETIME, Definition, Mean, Std, Sum
from headrace.offline.backfill import Knowledge, backfill
from headrace.offline.feed import Feed, feed_of
from headrace.offline.replay import replay
from headrace.offline.train import feature_scorer
from tests import strategies as own

if TYPE_CHECKING:
    from tests.strategies import Case

TIMES = ("paid_at", "arrival_time")
SCHEMA = {
    "payment_id": pl.Int64,
    **dict.fromkeys(TIMES, pl.Int64),
    "card_id": pl.Int64,
    "shop_id": pl.Int64,
    "amount": pl.Float64,
    "flag": pl.Boolean,
    "shop": pl.String,
}


def feeds_of(case: Case) -> list[Feed]:
    files = [(case.definition.scored, case.events), (case.definition.label.source, case.labels)]
    return [feed_of(frame_of(rows), source) for source, rows in files]


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    return frame.with_columns(pl.from_epoch(name, time_unit="us") for name in TIMES)


def as_happened(feeds: list[Feed]) -> list[Feed]:
    """The same events sorted by event time, each of them on time."""
    sorted_ = [replace(feed, frame=feed.frame.sort(feed.source.time)) for feed in feeds]
    return [replace(feed, arrival=feed.source.time) for feed in sorted_]


def replayed(definition: Definition, feeds: list[Feed]) -> pl.DataFrame:
    """What the stream saw, absent values null."""
    scores = replay(feature_scorer(definition), feeds).scores
    return scores.with_columns(
        pl.when(pl.col("imputed").list.contains(name))
        .then(None)
        .otherwise(pl.col(name))
        .alias(name)
        for name in definition.columns
    )


def rounded(definition: Definition) -> set[str]:
    """Deviations, and sums where tiles or a base are merged: rounded in another order."""
    return {
        name
        for view in definition.views
        for window in view.windows
        for each in view.aggregates
        for name in view.feature_names(each, window)
        if isinstance(each, Std)
        or (isinstance(each, (Sum, Mean)) and (view.hop or window == LIFETIME))
    }


def unequal(definition: Definition, got: pl.DataFrame, expected: pl.DataFrame) -> dict[str, Any]:
    """Column -> the pairs of values that differ."""
    off = rounded(definition) | {"ratio"}
    found = {}
    got, expected = got.sort("payment_id"), expected.sort("payment_id")
    for name in ("payment_id", "late", *definition.columns):
        pairs = zip(got[name].to_list(), expected[name].to_list(), strict=True)
        apart = [(a, b) for a, b in pairs if a != b and not (name in off and close(a, b))]
        if apart:
            found[name] = apart
    return found


def close(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and abs(a - b) <= 1e-9 * max(abs(a), abs(b), 1e6)


@settings(max_examples=100)
@given(own.cases())
def test_as_known_equals_a_replay(case: Case) -> None:
    feeds = feeds_of(case)
    found = backfill(case.definition, feeds, Knowledge.AS_KNOWN)
    assert unequal(case.definition, found.features, replayed(case.definition, feeds)) == {}


@settings(max_examples=50)
@given(own.cases())
def test_as_happened_equals_a_replay_of_the_events_sorted_by_their_time(case: Case) -> None:
    feeds = feeds_of(case)
    found = backfill(case.definition, feeds, Knowledge.AS_HAPPENED)
    expected = replayed(case.definition, as_happened(feeds))
    assert unequal(case.definition, found.features, expected) == {}
