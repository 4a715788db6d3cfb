"""One suite for every fulfilment of the stores: memory, and DynamoDB as moto and AWS play it.

What the two get wrong about DynamoDB stands in test_dynamodb.py.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.adapters.clock import FixedClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import LeanClient
from headrace.adapters.memory import MemoryScores, MemoryStates
from headrace.errors import StoreUnavailable
from headrace.events import shown_key, us_to_text
from headrace.imputation import Cause, Imputed
from headrace.local.faults import Faults, Injector
from headrace.local.moto_server import serve_moto
from headrace.ports import Segment, StateWrite, StoredState
from headrace.scores import (
    BATCH_PREFIX,
    LAST_PREFIX,
    BatchScore,
    Known,
    LastScore,
    Passed,
    Reason,
    Rung,
    ScoreRecord,
)
from tests.aws import SCORES, STATES, aws_client, empty_table
from tests.fakes import NOON, SECOND, FailingScores, FailingStates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.ports import ScoreStore, StateStore

DAYS = 30
ENGINES = ["moto", pytest.param("dynamodb-local", marks=pytest.mark.slow)]
KINDS = ["memory", "fake", *ENGINES]
LEAN = ["moto+lean", pytest.param("dynamodb-local+lean", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with serve_moto() as endpoint:
        yield endpoint


def engine(request: pytest.FixtureRequest) -> Any:
    """A client of the engine that the test's parameter names."""
    name, _, short = request.param.partition("+")
    endpoint = request.getfixturevalue(name.replace("-", "_"))
    client = aws_client("dynamodb", endpoint, max_pool_connections=8)
    return lean(client, LeanClient) if short else client


@pytest.fixture(params=ENGINES)
def dynamodb(request: pytest.FixtureRequest) -> Any:
    return engine(request)


@pytest.fixture(params=[*KINDS, *LEAN])
def states(request: pytest.FixtureRequest) -> StateStore:
    if request.param == "memory":
        return MemoryStates()
    if request.param == "fake":
        return FailingStates()
    client = engine(request)
    return DynamoStates(client, empty_table(client, STATES, "entity"), FixedClock(NOON))


@pytest.fixture(params=[*KINDS, *LEAN])
def scores(request: pytest.FixtureRequest) -> ScoreStore:
    if request.param == "memory":
        return MemoryScores()
    if request.param == "fake":
        return FailingScores()
    client = engine(request)
    return DynamoScores(client, empty_table(client, SCORES, "id"), FixedClock(NOON), DAYS)


def write(
    key: str, expected: int = 0, data: bytes = b"x", expires: int | None = None
) -> StateWrite:
    return StateWrite(key, expected, data, expires)


# States


def test_key_without_an_item_is_left_out(states: StateStore) -> None:
    states.write([write("card#1")])
    assert states.read(["card#1", "card#2"]) == {"card#1": StoredState(1, b"x")}
    assert states.read([]) == {}


def test_nothing_to_write_is_no_fault(states: StateStore) -> None:
    assert states.write([]) == (frozenset(), {})


def test_state_is_written_once_for_each_version(states: StateStore) -> None:
    for version in range(3):
        assert states.write([write("card#1", version, bytes([version]))]) == (frozenset(), {})
    assert states.read(["card#1"]) == {"card#1": StoredState(3, b"\x02")}


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_write_loses_where_the_version_is_another(states: StateStore, expected: int) -> None:
    states.write([write("card#1")])
    states.write([write("card#1", 1, b"second")])
    outcome = states.write([write("card#1", expected, b"lost"), write("card#2")])
    assert outcome == (frozenset({"card#1"}), {})
    assert states.read(["card#1"])["card#1"] == StoredState(2, b"second")
    assert states.read(["card#2"])["card#2"].version == 1


def test_write_loses_where_the_item_is_gone(states: StateStore) -> None:
    assert states.write([write("card#1", 4)]).lost == {"card#1"}
    assert states.read(["card#1"]) == {}


def test_state_comes_back_byte_for_byte(states: StateStore) -> None:
    data = bytes(range(256)) * 400
    states.write([write("card#1", 0, data), write("card#é/ #2", 0, b"\x00")])
    found = states.read(["card#1", "card#é/ #2"])
    assert (found["card#1"].data, found["card#é/ #2"].data) == (data, b"\x00")
    assert type(found["card#1"].data) is bytes


def test_more_keys_than_one_request_takes_are_read(states: StateStore) -> None:
    keys = [f"card#{n}" for n in range(230)]
    states.write([write(key, 0, key.encode()) for key in keys])
    found = states.read([*keys, "card#none"])
    assert {key: item.data for key, item in found.items()} == {key: key.encode() for key in keys}


@pytest.mark.parametrize("total", [1, 4])
def test_segments_together_hold_every_entity_once(states: StateStore, total: int) -> None:
    cards = {f"card#{n}" for n in range(40)}
    others = {f"shop#{n}" for n in range(10)} | {"cardholder#1"}
    states.write([write(key, 0, key.encode()) for key in cards | others])
    found: list[str] = []
    for number in range(total):
        cursor = None
        for _ in range(100):
            page = states.scan("card", Segment(number, total, limit=7), cursor)
            assert len(page.items) <= 7
            assert all((i.version, i.data) == (1, i.key.encode()) for i in page.items)
            found += [item.key for item in page.items]
            cursor = page.cursor
            if cursor is None:
                break
    assert len(found) == len(cards)
    assert set(found) == cards


def test_scan_of_an_empty_store_ends_at_once(states: StateStore) -> None:
    assert states.scan("card", Segment(0, 1), None) == ([], None)


def test_expiry_is_written_where_there_is_one(dynamodb: Any) -> None:
    store = DynamoStates(dynamodb, empty_table(dynamodb, STATES, "entity"), FixedClock(NOON))
    store.write([write("card#1", expires=1_700_000_000), write("card#2")])
    items = {item["entity"]["S"]: item for item in dynamodb.scan(TableName="states")["Items"]}
    assert items["card#1"]["expires"] == {"N": "1700000000"}
    assert "expires" not in items["card#2"]


# Scores


def score(number: int | str, value: float = 0.5) -> ScoreRecord:
    return ScoreRecord(
        id=str(number),
        source="payments",
        event_time=us_to_text(NOON),
        score=value,
        rung=Rung.REAL_TIME,
        model_version="open-1",
        definition_hash="0" * 16,
        late=False,
        entities={"card": "1"},
        features={"amount": 0.1 + 0.2},
        imputed={"discount": Imputed(Cause.NOT_IN_EVENT, 1.5)},
        ages={"card": None, "shop": 2.5},
        scored_at=us_to_text(NOON),
        degraded=["card"],
    )


def batch_score(number: int, value: float = 0.25, as_of: int = NOON) -> BatchScore:
    return BatchScore(
        entity="card",
        entity_id=str(number),
        as_of=us_to_text(as_of),
        score=value,
        model_version="open-1",
        definition_hash="0" * 16,
        features={"amount": 1e-9},
        imputed={},
        age=None,
        expires=NOON // SECOND + 10,
    )


def last_score(number: int, at: int = NOON, value: float = 0.75) -> LastScore:
    return LastScore(
        entity="card",
        entity_id=str(number),
        id=f"e{at}",
        event_time=us_to_text(at),
        score=value,
        model_version="open-1",
        definition_hash="0" * 16,
        expires=at // SECOND + 10,
    )


def batch_of(scores: ScoreStore, number: int, entity: str = "card") -> BatchScore | None:
    key = f"{entity}#{number}"
    return scores.get_known([key])[key].batch


def test_score_comes_back_as_it_was_put(scores: ScoreStore) -> None:
    scores.put_new([score(1, 1 / 3)])
    assert scores.get("1") == score(1, 1 / 3)
    assert scores.get("2") is None


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 5e-324, 1 - 2**-53])
def test_every_probability_can_be_stored(scores: ScoreStore, value: float) -> None:
    scores.put_new([score(1, value)])
    scores.put_batch([batch_score(1, value)])
    assert scores.get("1") == score(1, value)
    assert batch_of(scores, 1) == batch_score(1, value)


def test_more_scores_than_one_request_takes_are_put(scores: ScoreStore) -> None:
    scores.put_new([score(n) for n in range(60)])
    assert all(scores.get(str(n)) == score(n) for n in range(60))


def test_nothing_to_put_is_no_fault(scores: ScoreStore) -> None:
    scores.put_new([])
    assert scores.put_first([]) == 0
    assert scores.put_batch([]) == (0, 0)


def test_first_stored_score_wins(scores: ScoreStore) -> None:
    scores.put_new([score(1, 0.1)])
    assert scores.put_first([score(1, 0.9), score(2, 0.2)]) == 1
    assert scores.put_first([score(1, 0.9), score(2, 0.9), score(3, 0.3)]) == 2
    found = [scores.get(str(n)) for n in (1, 2, 3)]
    assert [each.score if each else None for each in found] == [0.1, 0.2, 0.3]


def test_batch_score_comes_back_as_it_was_put(scores: ScoreStore) -> None:
    assert scores.put_batch([batch_score(1), batch_score(2)]) == (0, 0)
    assert batch_of(scores, 1) == batch_score(1)
    assert batch_of(scores, 3) is None
    assert batch_of(scores, 1, "shop") is None


def test_replaced_batch_scores_are_counted_with_those_that_were_read(scores: ScoreStore) -> None:
    scores.put_batch([batch_score(n) for n in range(5)])
    for number in (1, 1, 3):
        scores.mark_read(f"card#{number}")
    assert batch_of(scores, 4) == batch_score(4)  # looked up and not given: not read
    assert scores.put_batch([batch_score(n, 0.75, NOON + SECOND) for n in range(6)]) == (5, 2)
    assert scores.put_batch([batch_score(1, 0.5, NOON + 2 * SECOND)]) == (1, 0)
    found = batch_of(scores, 3)
    assert found is not None
    assert found.score == 0.75


def test_more_batch_scores_than_one_request_takes_are_put(scores: ScoreStore) -> None:
    scores.put_batch([batch_score(n) for n in range(130)])
    for number in range(0, 130, 10):
        scores.mark_read(f"card#{number}")
    later = [batch_score(n, 0.75, NOON + SECOND) for n in range(140)]
    assert scores.put_batch(later) == (130, 13)
    assert all(batch_of(scores, int(each.entity_id)) == each for each in later)


def test_batch_scores_of_the_same_run_replace_nothing(scores: ScoreStore) -> None:
    scores.put_batch([batch_score(1), batch_score(2)])
    scores.mark_read("card#1")
    assert scores.put_batch([batch_score(1), batch_score(2)]) == (0, 0)


def test_batch_score_of_an_earlier_run_does_not_replace_a_later_one(scores: ScoreStore) -> None:
    later = batch_score(1, 0.75, NOON + SECOND)
    scores.put_batch([later])
    scores.mark_read("card#1")
    assert scores.put_batch([batch_score(1), batch_score(2)]) == (0, 0)
    assert batch_of(scores, 1) == later
    assert batch_of(scores, 2) == batch_score(2)
    assert scores.put_batch([batch_score(1, 0.5, NOON + 2 * SECOND)]) == (1, 1)


def test_events_and_entities_of_one_id_do_not_meet(scores: ScoreStore) -> None:
    scores.put_new([score("card#1")])
    scores.put_batch([batch_score(1)])
    scores.put_new([], [last_score(1)])
    scores.put_progress("card#1", b"p", None)
    assert scores.get("card#1") == score("card#1")
    assert scores.get_known(["card#1"]) == {"card#1": Known(last_score(1), batch_score(1))}


def test_record_from_below_real_time_comes_back_as_it_was_put(scores: ScoreStore) -> None:
    fallen = msgspec.structs.replace(
        score(1), rung=Rung.BATCH, reason=Reason.STORE_SLOW, age=2.5, given="x",
        causes={Rung.LAST: Passed.TOO_OLD},
    )  # fmt: skip
    scores.put_new([fallen])
    assert scores.get("1") == fallen


def test_last_scores_are_put_with_new_scores_or_without(scores: ScoreStore) -> None:
    scores.put_new([score(n) for n in range(24)], [last_score(1), last_score(2)])
    scores.put_new([], [last_score(3)])
    found = scores.get_known([f"card#{n}" for n in range(1, 5)])
    assert [each.last for each in found.values()] == [
        last_score(1), last_score(2), last_score(3), None,
    ]  # fmt: skip
    assert scores.get("23") == score(23)


def test_last_score_takes_the_place_of_the_former_one(scores: ScoreStore) -> None:
    for at in (NOON, NOON + SECOND, NOON + SECOND):
        scores.put_new([], [last_score(1, at)])
    assert scores.get_known(["card#1"])["card#1"].last == last_score(1, NOON + SECOND)


def test_last_score_of_a_redrive_never_takes_the_place_of_a_newer_one(scores: Any) -> None:
    scores.put_last([last_score(1), last_score(2)])
    scores.put_new([], [last_score(2, NOON + 1)])
    scores.put_last([last_score(1, NOON + 1, 0.1), last_score(2, NOON, 0.1)])
    scores.put_last([last_score(1, NOON + 1, 0.2)])
    found = scores.get_known(["card#1", "card#2"])
    assert found["card#1"].last == last_score(1, NOON + 1, 0.2)
    assert found["card#2"].last == last_score(2, NOON + 1)


def test_more_entities_than_one_request_takes_are_looked_up(scores: ScoreStore) -> None:
    scores.put_new([], [last_score(n) for n in range(120)])
    scores.put_batch([batch_score(n) for n in range(0, 120, 2)])
    found = scores.get_known([f"card#{n}" for n in range(130)])
    assert len(found) == 130
    assert found["card#118"] == Known(last_score(118), batch_score(118))
    assert found["card#119"] == Known(last_score(119), None)
    assert found["card#129"] == Known()
    assert scores.get_known([]) == {}


def test_marking_what_is_not_there_makes_nothing(scores: ScoreStore) -> None:
    scores.mark_read("card#1")
    assert scores.get_known(["card#1"]) == {"card#1": Known()}
    assert scores.put_batch([batch_score(1)]) == (0, 0)


def test_what_cannot_be_decoded_counts_as_not_stored(dynamodb: Any) -> None:
    store = DynamoScores(dynamodb, empty_table(dynamodb, SCORES, "id"), FixedClock(NOON), DAYS)
    store.put_batch([batch_score(1)])
    for item in ({"record": {"S": '{"score": 1}'}}, {"record": {"S": "{"}}, {}):
        dynamodb.put_item(TableName=SCORES, Item={"id": {"S": f"{LAST_PREFIX}card#1"}, **item})
        assert store.get_known(["card#1"]) == {"card#1": Known(None, batch_score(1))}


def test_keys_left_unprocessed_are_not_taken_for_not_stored(dynamodb: Any) -> None:
    empty_table(dynamodb, SCORES, "id")
    store = DynamoScores(dynamodb, SCORES, FixedClock(NOON), DAYS)
    store.put_new([], [last_score(n) for n in range(4)])
    injector = Injector(Faults(unprocessed=1.0), seed=1)
    injector.watch(dynamodb.meta.events)
    found = store.get_known([f"card#{n}" for n in range(4)])
    assert injector.counts["unprocessed"] == 1
    assert len(found) < 4
    assert all(known.last is not None for known in found.values())


def test_record_stored_before_there_was_a_ladder_is_read(dynamodb: Any) -> None:
    store = DynamoScores(dynamodb, empty_table(dynamodb, SCORES, "id"), FixedClock(NOON), DAYS)
    store.put_new([score(1)])
    item = dynamodb.scan(TableName=SCORES)["Items"][0]
    assert not {"reason", "causes", "given", "age"} & json.loads(item["record"]["S"]).keys()
    found = store.get("1")
    assert found is not None
    assert (found.reason, found.age, found.given, found.causes) == (None, None, "", {})


def test_progress_comes_back_as_it_was_put(scores: ScoreStore) -> None:
    assert scores.get_progress("current") is None
    assert scores.put_progress("current", b"\x00first", None)
    assert scores.put_progress("current", b"second\xff", b"\x00first")
    assert scores.put_progress("3/16", b"part", None)
    assert scores.get_progress("current") == b"second\xff"
    assert scores.get_progress("3/16") == b"part"


@pytest.mark.parametrize("expected", [None, b"zeroth", b"firs", b""])
def test_progress_is_put_only_in_place_of_what_was_expected(
    scores: ScoreStore, expected: bytes | None
) -> None:
    scores.put_progress("current", b"first", None)
    assert not scores.put_progress("current", b"second", expected)
    assert scores.get_progress("current") == b"first"
    assert not scores.put_progress("other", b"first", b"first")
    assert scores.get_progress("other") is None


def test_scores_expire_after_their_retention(dynamodb: Any) -> None:
    store = DynamoScores(dynamodb, empty_table(dynamodb, SCORES, "id"), FixedClock(NOON), DAYS)
    store.put_new([score(1)])
    store.put_first([score(2)])
    store.put_batch([batch_score(1)])
    store.put_new([], [last_score(1)])
    items = {i["id"]["S"]: i for i in dynamodb.scan(TableName="scores")["Items"]}
    kept = str(NOON // SECOND + DAYS * 86_400)
    assert items["event#1"]["expires"] == items["event#2"]["expires"] == {"N": kept}
    assert items[f"{BATCH_PREFIX}card#1"]["expires"] == {"N": str(batch_score(1).expires)}
    assert items[f"{LAST_PREFIX}card#1"]["expires"] == {"N": str(last_score(1).expires)}
    assert items["event#1"]["rung"] == {"S": "real_time"}


# Out of reach


@pytest.fixture(scope="module")
def nowhere() -> Any:
    """A client of an endpoint where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return aws_client(
        "dynamodb",
        f"http://127.0.0.1:{port}",
        connect_timeout=0.2,
        read_timeout=0.2,
        retries={"total_max_attempts": 2, "mode": "standard"},
    )


SCORE_CALLS: dict[str, Any] = {
    "put_new": lambda store: store.put_new([score(n) for n in range(30)]),
    "put_first": lambda store: store.put_first([score(1), score(2)]),
    "get": lambda store: store.get("1"),
    "put_batch": lambda store: store.put_batch([batch_score(1), batch_score(2)]),
    "put_last": lambda store: store.put_last([last_score(1), last_score(2)]),
    "get_known": lambda store: store.get_known([f"card#{n}" for n in range(60)]),
    "mark_read": lambda store: store.mark_read("card#1"),
    "get_progress": lambda store: store.get_progress("current"),
    "put_progress": lambda store: store.put_progress("current", b"", None),
}
STATE_CALLS: dict[str, Any] = {
    "read": lambda store: store.read([f"card#{n}" for n in range(150)]),
    "scan": lambda store: store.scan("card", Segment(0, 1), None),
}


@pytest.mark.parametrize("call", SCORE_CALLS.values(), ids=list(SCORE_CALLS))
def test_scores_out_of_reach_are_unavailable_in_bounded_time(nowhere: Any, call: Any) -> None:
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="scores cannot be"):
        call(DynamoScores(nowhere, "scores", FixedClock(NOON), DAYS))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("call", STATE_CALLS.values(), ids=list(STATE_CALLS))
def test_states_out_of_reach_are_unavailable_in_bounded_time(nowhere: Any, call: Any) -> None:
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="states cannot be"):
        call(DynamoStates(nowhere, "states", FixedClock(NOON)))
    assert time.monotonic() - start < 5


def test_writes_out_of_reach_fail_one_by_one_and_do_not_raise(nowhere: Any) -> None:
    outcome = DynamoStates(nowhere, "states", FixedClock(NOON)).write([write("a#1"), write("a#2")])
    assert outcome.lost == frozenset()
    assert set(outcome.failed) == {"a#1", "a#2"}
    shown = f"state of {shown_key('a#1')} could not be written: EndpointConnectionError"
    assert shown in outcome.failed["a#1"]


def test_table_that_is_not_there_is_unavailable(dynamodb: Any) -> None:
    with pytest.raises(StoreUnavailable, match="ResourceNotFoundException"):
        DynamoStates(dynamodb, "nonesuch", FixedClock(NOON)).read(["card#1"])
    with pytest.raises(StoreUnavailable, match="ResourceNotFoundException"):
        DynamoScores(dynamodb, "nonesuch", FixedClock(NOON), DAYS).get_known(["card#1"])


def test_stored_scores_of_many_events_are_found_at_once(scores: Any) -> None:
    stored = [score(f"e{n}", n / 20) for n in range(12)]
    scores.put_new(stored)

    found = scores.get_all(["none", *(f"e{n}" for n in range(3, 12))])

    assert found == {each.id: each for each in stored[3:]}
    assert scores.get_all([]) == {}
