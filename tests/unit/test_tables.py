"""Batch features: what a table's rows say of an event, and why they say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import polars as pl
import pytest

from headrace.adapters.memory import MemoryStream
from headrace.batch import BatchScorer
from headrace.definition import Constant, Definition, Entity, Flag, Number, Table, Text, days, hours
from headrace.errors import DefinitionError
from headrace.events import us_to_time
from headrace.imputation import Cause
from headrace.loading import definition_hash
from headrace.offline.feed import feed_of
from headrace.offline.replay import Conditions
from headrace.offline.train import training_rows
from headrace.requests import RequestScorer
from headrace.runs import Order, Start, Step, Trigger
from headrace.scores import BatchScore, ScoreRecord
from headrace.table_rows import TableRow
from tests.fakes import (
    DAY,
    HOUR,
    INPUTS,
    NOON,
    SECOND,
    DirectLookups,
    Lab,
    card,
    disputes,
    encoded,
    make_definition,
    payment,
    payments,
    record,
    shop,
)

profile = Table(
    name="profile",
    entity=card,
    fields={"limit": Number(at_least=0), "premium": Flag()},
    valid_for=days(2),
)
place = Table(name="place", entity=shop, fields={"size": Number()})
FEATURES = ("profile_limit", "profile_premium", "place_size")


def with_tables(*tables: Any, **changes: Any) -> Definition:
    return make_definition(tables=list(tables or (profile, place)), **changes)


def of_limits(event: Any, features: Any) -> float:
    share: float = event.amount / features["profile_limit"]
    return share


SCORED_WITH = with_tables(
    inputs=[*INPUTS, "profile_limit", "profile_premium", "of_limits", "place_size"],
    request_features=[*make_definition().request_features, of_limits],
    imputation={"profile": Constant(7.0), "shop_risk": Constant(0.25), "discount": Constant(0.0)},
)


def lab_with(*rows: tuple[str, TableRow]) -> Lab:
    """A lab with rows by entity key."""
    lab = Lab(SCORED_WITH)
    for key, row in rows:
        lab.states.rows.setdefault(key, []).append(row)
    return lab


def profile_row(
    loaded_at: int, *values: float | None, newest: bool = False
) -> tuple[str, TableRow]:
    return "card#1", TableRow("profile", loaded_at, list(values), newest)


def score(lab: Lab, at: int = NOON, arrival: int | None = None, number: int = 1) -> ScoreRecord:
    arrived = at if arrival is None else arrival
    lab.stream.score([record(payment(number, at), arrived, number)])
    found: ScoreRecord = lab.scores.get(str(number))
    return found


def test_values_of_an_entitys_rows_are_features_of_its_events() -> None:
    lab = lab_with(
        profile_row(NOON - HOUR, 500.0, 1.0),
        ("shop#1", TableRow("place", NOON - HOUR, [3.0])),
        ("card#2", TableRow("profile", NOON - HOUR, [9.0, 0.0])),
    )
    found = score(lab)
    assert [found.features[name] for name in FEATURES] == [500.0, 1.0, 3.0]
    assert found.features["of_limits"] == 10.0 / 500.0
    assert not set(FEATURES) & found.imputed.keys()
    assert found.table_ages == {"profile": 3_600.0, "place": 3_600.0}


def test_entity_without_a_row_was_never_seen_and_its_values_are_imputed() -> None:
    found = score(lab_with())
    assert found.imputed["profile_limit"].cause is Cause.NEVER_SEEN
    assert found.features["profile_limit"] == SCORED_WITH.columns.index("profile_limit") + 1_000.0
    assert found.imputed["of_limits"].cause is Cause.NOT_COMPUTABLE
    assert found.table_ages == {}


def test_value_that_the_row_lacks_is_told_from_a_row_that_is_not_there() -> None:
    found = score(lab_with(profile_row(NOON - HOUR, None, 1.0)))
    assert found.imputed["profile_limit"].cause is Cause.NOT_IN_TABLE
    assert found.features["profile_premium"] == 1.0


@pytest.mark.parametrize(("age", "expired"), [(2 * DAY, False), (2 * DAY + 1, True)])
def test_row_expires_when_it_is_older_than_its_table_allows(age: int, expired: bool) -> None:
    found = score(lab_with(profile_row(NOON - age, 500.0, 1.0)))
    causes = {name: each.cause for name, each in found.imputed.items()}
    assert (causes.get("profile_limit") is Cause.EXPIRED) == expired
    assert (found.features["profile_limit"] == 500.0) != expired
    assert found.table_ages == {"profile": age / SECOND}


def test_age_of_a_row_is_that_at_the_arrival_of_the_event() -> None:
    found = score(lab_with(profile_row(NOON - 2 * DAY, 500.0, 1.0)), NOON - HOUR, NOON + SECOND)
    assert found.imputed["profile_limit"].cause is Cause.EXPIRED


def test_load_after_the_event_is_not_seen_by_it() -> None:
    lab = lab_with(profile_row(NOON - DAY, 100.0, 0.0), profile_row(NOON + 1, 999.0, 1.0))
    assert score(lab).features["profile_limit"] == 100.0
    assert score(lab, NOON + 2, number=2).features["profile_limit"] == 999.0
    only_later = lab_with(profile_row(NOON + 1, 999.0, 1.0))
    assert score(only_later).imputed["profile_limit"].cause is Cause.NEVER_SEEN


def test_row_of_a_store_that_keeps_no_older_ones_counts_for_events_before_it() -> None:
    found = score(lab_with(profile_row(NOON + 1, 999.0, 1.0, newest=True)))
    assert found.features["profile_limit"] == 999.0
    assert found.table_ages == {"profile": 0.0}


def test_row_of_another_layout_is_a_failed_look_up() -> None:
    found = score(lab_with(profile_row(NOON - 1, 999.0)))
    assert found.imputed["profile_limit"].cause is Cause.LOOKUP_FAILED
    assert found.table_ages == {}


def test_stream_request_and_batch_see_the_same_rows() -> None:
    lab = lab_with(profile_row(NOON - HOUR, 500.0, 1.0))
    score(lab, NOON - 7 * HOUR, number=8)
    lookups = DirectLookups(lab.states, lab.scores)
    requests = RequestScorer(lab.scorer, lookups, lab.scores, MemoryStream(), lab.clock)
    asked = requests.score(encoded(payment(1)))
    batch = BatchScorer(lab.scorer, lab.states, lab.scores, lab.clock)
    batch.obey(Order(Step.RUN, Start(NOON, Trigger.DEMAND)), lambda: True)
    run: BatchScore = lab.scores.batch["card", "1"]
    streamed = score(lab)
    for name in ("profile_limit", "profile_premium"):
        assert asked.features[name] == run.features[name] == streamed.features[name]
        assert name not in asked.imputed.keys() | run.imputed.keys() | streamed.imputed.keys()
    assert run.imputed["place_size"].cause is Cause.NO_EVENT
    assert run.table_ages == {"profile": 3_600.0} == asked.table_ages
    assert asked == msgspec.structs.replace(streamed, scored_at=asked.scored_at)


def test_definition_without_tables_keeps_its_hash() -> None:
    assert definition_hash(make_definition(tables=[])) == definition_hash(make_definition())
    assert definition_hash(with_tables()) != definition_hash(make_definition())


CASES: list[tuple[str, list[Any], str]] = [
    ("no-table", ["profile"], "tables: 'profile'; expected Table(name=..."),
    ("name", [replace(profile, name="Pro")], "table 'Pro': expected lower case letters"),
    ("entity", [replace(profile, entity=Entity("person"))],
     "entity is Entity(name='person'); expected one of the scored source's: card, shop"),
    ("valid-for", [replace(profile, valid_for=hours(0))], "expected a duration of more than 0"),
    ("no-fields", [replace(profile, fields={})], "fields are {}; expected at least one Number"),
    ("text", [replace(profile, fields={"a": Text()})], "expected a lower case Number or Flag"),
    ("twice", [profile, profile], "tables: 'profile' is there 2 times; tables and views have"),
    ("view", [replace(profile, name="card")], "tables: 'card' is there 2 times"),
    ("feature-twice", [replace(profile, name="shop", fields={"count_1d": Number()})],
     "features: 'shop_count_1d' is there 2 times"),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "fragment"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_mistake_in_a_table_is_found_with_its_place(tables: list[Any], fragment: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        with_tables(*tables)
    assert fragment in str(refused.value)


def test_replay_is_point_in_time_in_its_tables_too() -> None:
    """A load that came after an event is planted; no event before it sees it."""
    events = pl.DataFrame(
        [
            {
                "payment_id": number,
                "paid_at": us_to_time(NOON + number * HOUR),
                "card_id": 1,
                "shop_id": 1,
                "items": 1.0,
            }
            for number in range(6)
        ]
    )
    loads = [
        TableRow("profile", NOON + HOUR, [1.0, 0.0]),
        TableRow("profile", NOON + 3 * HOUR + 1, [2.0, 0.0]),
    ]
    definition = with_tables(profile, inputs=["items", "profile_limit"], imputation={})
    rows = training_rows(
        definition,
        feed_of(events, payments),
        feed_of(events.with_columns(disputed_at="paid_at", is_fraud=True), disputes),
        conditions=Conditions(rows={"card#1": loads}),
    )
    assert rows["profile_limit"].to_list() == [None, 1.0, 1.0, 1.0, 2.0, 2.0]
