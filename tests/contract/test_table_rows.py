"""Rows of tables beside states: one request for both, whatever engine answers."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryStates, MemoryTable
from headrace.adapters.tables import DynamoStatesWithRows, DynamoTable, TableNames
from headrace.errors import StoreUnavailable
from headrace.local.faults import Faults, Injector
from headrace.local.moto_server import serve_moto
from headrace.ports import Segment, StateWrite, StoredState
from headrace.table_ports import NO_LOAD, LoadNote
from headrace.table_rows import TableRow
from tests.aws import STATES, empty_table
from tests.contract.test_stores import ENGINES, engine
from tests.fakes import DAY, NOON, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.ports import StateStore
    from headrace.table_ports import TableStore

ROWS = "rows"
TABLES = {"card": ["profile", "risk"]}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with serve_moto() as endpoint:
        yield endpoint


def stores_on(client: Any) -> tuple[DynamoStatesWithRows, DynamoTable]:
    names = TableNames(empty_table(client, STATES, "entity"), empty_table(client, ROWS, "row"))
    clock = FixedClock(NOON)
    return DynamoStatesWithRows(client, names, TABLES, clock), DynamoTable(client, ROWS, clock)


@pytest.fixture(params=["memory", *ENGINES])
def both(request: pytest.FixtureRequest) -> tuple[StateStore, TableStore]:
    if request.param == "memory":
        states = MemoryStates()
        return states, MemoryTable(states, "card")
    return stores_on(engine(request))


@pytest.fixture(params=ENGINES)
def dynamodb(request: pytest.FixtureRequest) -> Any:
    return engine(request)


def row(value: float | None, table: str = "profile", loaded_at: int = NOON) -> TableRow:
    return TableRow(table, loaded_at, [value])


def seen(rows: tuple[TableRow, ...]) -> list[tuple[str, int, list[float | None]]]:
    return sorted((each.table, each.loaded_at, each.values) for each in rows)


def test_state_and_rows_of_an_entity_come_together(both: Any) -> None:
    states, table = both
    states.write([StateWrite("card#1", 0, b"one", None), StateWrite("shop#1", 0, b"shop", None)])
    table.put_rows({"1": row(5.0), "2": row(None)}, NOON + DAY)
    table.put_rows({"1": row(7.5, "risk")}, NOON + DAY)
    found = states.read(["card#1", "card#2", "card#3", "shop#1"])
    assert found.keys() == {"card#1", "card#2", "shop#1"}
    assert found["card#1"][:2] == (1, b"one")
    assert seen(found["card#1"].rows) == [("profile", NOON, [5.0]), ("risk", NOON, [7.5])]
    assert (found["card#2"][:2], seen(found["card#2"].rows)) == (
        (0, b""), [("profile", NOON, [None])],
    )  # fmt: skip
    assert found["shop#1"] == StoredState(1, b"shop")


def test_scan_brings_rows_along(both: Any) -> None:
    states, table = both
    states.write([StateWrite(f"card#{n}", 0, b"x", None) for n in range(130)])
    table.put_rows({str(n): row(float(n)) for n in range(0, 130, 2)}, NOON + DAY)
    page = states.scan("card", Segment(0, 1), None)
    found = {item.key: [each.values[0] for each in item.rows] for item in page.items}
    assert found == {f"card#{n}": [float(n)] if n % 2 == 0 else [] for n in range(130)}


def test_how_far_a_load_has_come_is_noted_by_table(both: Any) -> None:
    _, table = both
    assert table.noted("profile") == NO_LOAD
    begun = LoadNote(NOON, "first", 500, complete=False)
    table.note("profile", begun)
    assert (table.noted("profile"), table.noted("risk")) == (begun, NO_LOAD)
    table.note("profile", LoadNote(NOON, "first", 700, complete=True))
    assert table.noted("profile") == LoadNote(NOON, "first", 700, complete=True)


def test_second_load_takes_the_place_of_the_first_in_dynamodb(dynamodb: Any) -> None:
    states, table = stores_on(dynamodb)
    table.put_rows({"1": row(5.0)}, NOON + DAY)
    table.put_rows({"1": row(6.0, loaded_at=NOON + SECOND)}, NOON + 2 * DAY)
    (found,) = states.read(["card#1"])["card#1"].rows
    assert (found.values, found.loaded_at, found.newest) == ([6.0], NOON + SECOND, True)


def test_states_and_rows_cost_one_request_for_up_to_a_hundred_keys(dynamodb: Any) -> None:
    states, table = stores_on(dynamodb)
    table.put_rows({str(n): row(float(n)) for n in range(70)}, NOON + DAY)
    asked: list[dict[str, Any]] = []
    dynamodb.meta.events.register(
        "provide-client-params.dynamodb.BatchGetItem",
        lambda params, **_: asked.append(params["RequestItems"]),
        unique_id="counting",
    )
    try:
        found = states.read([f"card#{n}" for n in range(70)])
    finally:
        dynamodb.meta.events.unregister(
            "provide-client-params.dynamodb.BatchGetItem", unique_id="counting"
        )
    sizes = sorted(sum(len(each["Keys"]) for each in request.values()) for request in asked)
    assert len(found) == 70
    assert sizes == [12, 99, 99]  # three keys an entity: its state and two rows
    assert {name for request in asked for name in request} == {STATES, ROWS}


def test_unprocessed_keys_of_either_table_are_asked_for_again(dynamodb: Any) -> None:
    states, table = stores_on(dynamodb)
    states.write([StateWrite(f"card#{n}", 0, b"x", None) for n in range(30)])
    table.put_rows({str(n): row(float(n)) for n in range(30)}, NOON + DAY)
    injector = Injector(Faults(unprocessed=0.5), seed=3)
    injector.watch(dynamodb.meta.events)
    for _ in range(10):
        found = states.read([f"card#{n}" for n in range(30)])
        assert {key: (s.version, [r.values for r in s.rows]) for key, s in found.items()} == {
            f"card#{n}": (1, [[float(n)]]) for n in range(30)
        }
    assert injector.counts["unprocessed"] > 0


def test_row_that_cannot_be_read_is_told_from_one_that_is_absent(dynamodb: Any) -> None:
    states, _ = stores_on(dynamodb)
    for number, item in enumerate([{}, {"loaded_at": {"N": "1"}, "values": {"B": b"\xff"}}]):
        dynamodb.put_item(TableName=ROWS, Item={"row": {"S": f"profile#{number}"}, **item})
    found = states.read(["card#0", "card#1"])
    assert [each.values for state in found.values() for each in state.rows] == [[], []]


def leave(parsed: dict[str, Any], table: str, key: str) -> None:
    """Make an answer one in which a table was throttled."""
    items = parsed["Responses"].pop(table, [])
    parsed["UnprocessedKeys"] = {table: {"Keys": [{key: item[key]} for item in items]}}


@contextmanager
def throttled(client: Any, table: str, key: str) -> Iterator[None]:
    """One table's keys stay unprocessed, as of a table that is throttled beside one that is not."""
    event = "after-call.dynamodb.BatchGetItem"
    client.meta.events.register(
        event, lambda parsed, **_: leave(parsed, table, key), unique_id="throttled"
    )
    try:
        yield
    finally:
        client.meta.events.unregister(event, unique_id="throttled")


def test_rows_that_were_left_are_failed_look_ups_to_who_asks_once(dynamodb: Any) -> None:
    patient, table = stores_on(dynamodb)
    patient.write([StateWrite("card#1", 0, b"x", None)])
    table.put_rows({"1": row(5.0), "2": row(6.0)}, NOON + DAY)
    names, clock = TableNames(STATES, ROWS), FixedClock(NOON)
    hasty = DynamoStatesWithRows(dynamodb, names, TABLES, clock, rounds=1)
    with throttled(dynamodb, ROWS, "row"):
        found = hasty.read(["card#1", "card#2", "card#3"])
        with pytest.raises(StoreUnavailable, match="2 keys unprocessed after 6 attempts"):
            patient.read(["card#1", "card#2"])
    assert {key: (s.version, [r.values for r in s.rows]) for key, s in found.items()} == {
        "card#1": (1, [[]]), "card#2": (0, [[]]),
    }  # fmt: skip
    with throttled(dynamodb, STATES, "entity"), pytest.raises(StoreUnavailable, match="1 keys"):
        hasty.read(["card#1"])


def test_the_same_holds_for_a_read_that_was_begun() -> None:
    answer: dict[str, Any] = {
        "Responses": {ROWS: [{"row": {"S": "profile#1"}}], STATES: []}, "UnprocessedKeys": {},
    }  # fmt: skip
    leave(answer, ROWS, "row")
    begun = SimpleNamespace(result=lambda: answer)
    client = SimpleNamespace(begin_batch_get_item=lambda **_: begun)
    names, clock = TableNames(STATES, ROWS), FixedClock(NOON)
    read = DynamoStatesWithRows(client, names, TABLES, clock, rounds=1).begin(["card#1"])
    assert read is not None
    assert [each.values for each in read.result()["card#1"].rows] == [[]]
    answer["UnprocessedKeys"] = {STATES: {"Keys": [{"entity": {"S": "card#1"}}]}}
    with pytest.raises(StoreUnavailable, match="1 keys unprocessed after 1 attempts"):
        read.result()


def test_table_that_is_not_there_is_unavailable(dynamodb: Any) -> None:
    nowhere = DynamoTable(dynamodb, "nonesuch", FixedClock(NOON))
    with pytest.raises(StoreUnavailable, match="rows cannot be written: ResourceNotFound"):
        nowhere.put_rows({"1": row(1.0)}, NOON)
    with pytest.raises(StoreUnavailable, match="loads cannot be read"):
        nowhere.noted("profile")
    with pytest.raises(StoreUnavailable, match="load cannot be noted: ResourceNotFound"):
        nowhere.note("profile", NO_LOAD)
