"""Backfilled features against those of the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, settings

from headrace.definition import (
    LIFETIME,
    Count,
    Definition,
    Flag,
    Label,
    Mean,
    Number,
    Std,
    Sum,
    Table,
)
from headrace.loading import checked
from headrace.offline.backfill import Knowledge, backfill
from headrace.offline.differences import Difference, differences
from headrace.offline.feed import Feed, feed_of
from headrace.offline.replay import Conditions, replay
from headrace.offline.train import feature_scorer
from headrace.table_rows import TableRow
from tests import strategies as own

if TYPE_CHECKING:
    from headrace.definition import Field, Source, View
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


def replayed(
    definition: Definition, feeds: list[Feed], how: Conditions | None = None
) -> pl.DataFrame:
    """What the stream saw, absent values null."""
    scores = replay(feature_scorer(definition), feeds, conditions=how).scores
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


@settings(max_examples=60)
@given(own.cases())
def test_as_known_equals_a_replay(case: Case) -> None:
    feeds = feeds_of(case)
    found = backfill(case.definition, feeds, Knowledge.AS_KNOWN)
    assert unequal(case.definition, found.features, replayed(case.definition, feeds)) == {}


@settings(max_examples=25)
@given(own.cases())
def test_as_happened_equals_a_replay_of_the_events_sorted_by_their_time(case: Case) -> None:
    feeds = feeds_of(case)
    found = backfill(case.definition, feeds, Knowledge.AS_HAPPENED)
    expected = replayed(case.definition, as_happened(feeds))
    assert unequal(case.definition, found.features, expected) == {}


def test_a_label_counts_from_when_it_was_known_and_not_before() -> None:
    """The leak that --as-happened has where labels are late, and --as-known has not."""
    rows = [row(number, second) for number, second in enumerate([0, 10, 20, 30])]
    labels = [{**row(0, 0), "arrival_time": own.START_US + 20 * own.SECOND_US, "flag": True}]
    source = own.source_of(own.seconds(60))
    label = replace(source, name="labels")
    view = own.view_of(label, windows=[own.seconds(50)], aggregates=[Count(), Mean("flag")])
    case = own.Case(defined(source, label, view), rows, labels)

    known = backfill(case.definition, feeds_of(case), Knowledge.AS_KNOWN).features
    leaky = backfill(case.definition, feeds_of(case), Knowledge.AS_HAPPENED).features

    assert known["card_flag_mean_50s"].to_list() == [None, None, None, 1.0]
    assert leaky["card_flag_mean_50s"].to_list() == [None, 1.0, 1.0, 1.0]
    assert known["card_count_50s"].to_list() == [0, 0, 0, 1]
    found = {each.feature: each for each in apart(known, leaky)}
    assert found["card_flag_mean_50s"] == ("card_flag_mean_50s", 2, 2, 0.0)
    assert found["card_count_50s"] == ("card_count_50s", 2, 0, 1.0)


def apart(one: pl.DataFrame, other: pl.DataFrame) -> list[Difference]:
    return differences(one, other, "payment_id", ["card_count_50s", "card_flag_mean_50s"])


def row(number: int, second: float, **fields: Any) -> dict[str, Any]:
    time = own.START_US + int(second * own.SECOND_US)
    values = {"payment_id": number, "paid_at": time, "arrival_time": time, "card_id": 1}
    return {**values, "shop_id": 1, "amount": 1.0, "flag": None, "shop": None, **fields}


def defined(source: Source, label: Source, *views: View) -> Definition:
    return checked(
        Definition(
            sources=[source, label],
            scored=source,
            views=list(views),
            inputs=["amount"],
            batch_entity=own.card,
            label=Label(label, "flag"),
        )
    )


def test_without_a_file_of_labels_their_windows_are_empty() -> None:
    source = own.source_of()
    label = replace(source, name="labels")
    view = own.view_of(label, aggregates=[Count(), Mean("flag")])
    case = own.Case(defined(source, label, view), [row(0, 0), row(1, 1)], [])
    found = backfill(case.definition, feeds_of(case)[:1]).features

    assert found["card_count_10s"].to_list() == [0.0, 0.0]
    assert found["card_flag_mean_10s"].to_list() == [None, None]


def test_many_entities_over_years_of_microseconds_are_searched_all_the_same() -> None:
    rows = [row(0, 0), row(1, 3e8), row(2, 3e8 + 5), row(3, 3e8 + 5.000001, card_id=2**40)]
    rows += [row(number, 3e8 + 20, card_id=number) for number in range(4, 90_000)]
    source = own.source_of()
    view = own.view_of(source, windows=[own.seconds(10), LIFETIME])
    case = own.Case(defined(source, replace(source, name="labels"), view), rows, [])
    found = backfill(case.definition, feeds_of(case)).features

    assert found["card_count_10s"].head(4).to_list() == [1, 1, 2, 1]
    assert found["card_count_lifetime"].head(4).to_list() == [1, 2, 3, 1]
    assert found["card_count_10s"].sum() == 5 + 90_000 - 4


@settings(max_examples=15)
@given(own.cases())
def test_rows_of_tables_are_seen_from_when_they_were_loaded(case: Case) -> None:
    fields: dict[str, Field] = {"limit": Number(), "premium": Flag()}
    tables = [
        Table(name="profile", entity=own.card, fields=fields, valid_for=own.seconds(30)),
        Table(name="site", entity=own.shop, fields=fields),
    ]
    definition = checked(replace(case.definition, tables=tables))
    at = own.START_US + 15 * own.SECOND_US
    rows = {
        "card#1": [
            TableRow("profile", at, [1.0, None]),
            TableRow("profile", at + 20 * own.SECOND_US, [2.0, 1.0]),
        ],
        "card#2": [TableRow("profile", at, [1.0])],
        "shop#1": [TableRow("site", 2**62, [7.0, 0.0], newest=True)],
    }
    feeds = feeds_of(case)
    found = backfill(definition, feeds, Knowledge.AS_KNOWN, rows=rows)
    expected = replayed(definition, feeds, Conditions(rows=rows))

    assert unequal(definition, found.features, expected) == {}
