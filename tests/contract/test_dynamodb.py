"""What DynamoDB itself does, as far as the adapters lean on it, and what each engine gets wrong.

A deviation is asserted: its test fails when the engine is mended, and the line goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headrace.adapters.aws import error_code
from headrace.adapters.clock import FixedClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.errors import StoreUnavailable
from headrace.events import shown_key
from headrace.local.moto_server import serve_moto
from headrace.ports import StateWrite
from tests.aws import (
    SCORES,
    STATES,
    dynamodb_client,
    empty_stores,
    empty_table,
    stored_scores,
)
from tests.fakes import NOON, SECOND, Lab, payment, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.scores import ScoreRecord

LARGEST_ITEM = 400 * 1024  # attribute names and values
KINDS = ["moto", pytest.param("dynamodb-local", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with serve_moto() as endpoint:
        yield endpoint


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dynamodb(request: pytest.FixtureRequest, kind: str) -> Any:
    """A client of the engine, and empty tables."""
    client = dynamodb_client(request.getfixturevalue(kind.replace("-", "_")))
    empty_stores(client)
    return client


def item(key: str, size: int) -> dict[str, Any]:
    """An item of a version and a state that takes ``size`` bytes by DynamoDB's count.

    Source: DynamoDB Developer Guide, "Item sizes and formats": UTF-8 bytes of names and strings,
    bytes of binaries, a byte for every two digits of a number and one more.
    """
    rest = len("entity") + len(key.encode()) + len("version") + 2 + len("state")
    return {"entity": {"S": key}, "version": {"N": "1"}, "state": {"B": b"\xff" * (size - rest)}}


def refused(call: Callable[[], Any]) -> str:
    """The code with which an engine refuses a call, or "" where it takes it."""
    try:
        call()
    except ClientError as error:
        return error_code(error)
    return ""


# What DynamoDB does, each as a function that says whether an engine does it too.


def refuses_26_writes_in_a_batch(client: Any) -> bool:
    puts = [{"PutRequest": {"Item": item(f"card#{n}", 100)}} for n in range(26)]
    return refused(lambda: client.batch_write_item(RequestItems={STATES: puts})) != ""


def refuses_101_reads_in_a_batch(client: Any) -> bool:
    keys = [{"entity": {"S": str(n)}} for n in range(101)]
    return refused(lambda: client.batch_get_item(RequestItems={STATES: {"Keys": keys}})) != ""


def refuses_a_key_twice_in_a_batch(client: Any) -> bool:
    puts = [{"PutRequest": {"Item": item("card#1", 100)}}] * 2
    return refused(lambda: client.batch_write_item(RequestItems={STATES: puts})) != ""


def refuses_numbers_of_39_digits(client: Any) -> bool:
    long = {**item("card#1", 100), "number": {"N": "1" * 39}}
    return refused(lambda: client.put_item(TableName=STATES, Item=long)) != ""


def refuses_numbers_nearer_to_0_than_1e_130(client: Any) -> bool:
    tiny = {**item("card#1", 100), "number": {"N": "1e-131"}}
    return refused(lambda: client.put_item(TableName=STATES, Item=tiny)) != ""


def takes_an_item_of_400_kb(client: Any) -> bool:
    largest = item("card#1", LARGEST_ITEM)
    return refused(lambda: client.put_item(TableName=STATES, Item=largest)) == ""


def refuses_an_item_over_400_kb(client: Any) -> bool:
    larger = item("card#1", LARGEST_ITEM + 1)
    return refused(lambda: client.put_item(TableName=STATES, Item=larger)) == "ValidationException"


def counts_a_unit_for_every_kb_written(client: Any) -> bool:
    put = {"TableName": STATES, "ReturnConsumedCapacity": "TOTAL"}
    sizes = (1_024, 1_025, 100_000)
    told = [client.put_item(Item=item("card#1", size), **put) for size in sizes]
    return [each["ConsumedCapacity"]["CapacityUnits"] for each in told] == [1, 2, 98]


def counts_a_unit_for_every_4_kb_read_consistently(client: Any) -> bool:
    client.put_item(TableName=STATES, Item=item("card#1", 8_193))
    told = client.get_item(
        TableName=STATES,
        Key={"entity": {"S": "card#1"}},
        ConsistentRead=True,
        ReturnConsumedCapacity="TOTAL",
    )
    return bool(told["ConsumedCapacity"]["CapacityUnits"] == 3)


def answers_16_mb_of_a_batch_and_names_the_keys_left(client: Any) -> bool:
    answer = read_60_large_items(client)
    found, left = answer["Responses"][STATES], answer["UnprocessedKeys"][STATES]["Keys"]
    return 0 < len(found) * 380_000 <= 16 * 1024**2 and len(found) + len(left) == 60


def keeps_the_consistency_of_keys_left(client: Any) -> bool:
    left = read_60_large_items(client)["UnprocessedKeys"][STATES]
    return bool(left.get("ConsistentRead", False))


def read_60_large_items(client: Any) -> Any:
    keys = [f"card#{n}" for n in range(60)]
    for key in keys:
        client.put_item(TableName=STATES, Item=item(key, 380_000))
    asked = {"Keys": [{"entity": {"S": key}} for key in keys], "ConsistentRead": True}
    return client.batch_get_item(RequestItems={STATES: asked})


def carries_out_a_transaction_of_one_token_once(client: Any) -> bool:
    add = {
        "TableName": STATES,
        "Key": {"entity": {"S": "card#1"}},
        "UpdateExpression": "ADD version :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    for _ in range(2):
        client.transact_write_items(TransactItems=[{"Update": add}], ClientRequestToken="once")
    found = client.get_item(TableName=STATES, Key={"entity": {"S": "card#1"}})["Item"]
    return bool(found["version"] == {"N": "1"})


def throttles_what_goes_far_over_provisioned_capacity(client: Any) -> bool:
    """Five minutes of unused capacity are kept: 300 units here, and these are 2,000."""
    name = empty_table(client, "provisioned", "entity")
    one = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
    client.update_table(TableName=name, BillingMode="PROVISIONED", ProvisionedThroughput=one)
    puts = [
        refused(lambda: client.put_item(TableName=name, Item=item("card#1", 200 * 1024)))
        for _ in range(10)
    ]
    return "ProvisionedThroughputExceededException" in puts


RULES: dict[str, Callable[[Any], bool]] = {
    rule.__name__: rule
    for rule in (
        refuses_26_writes_in_a_batch,
        refuses_101_reads_in_a_batch,
        refuses_a_key_twice_in_a_batch,
        refuses_numbers_of_39_digits,
        refuses_numbers_nearer_to_0_than_1e_130,
        takes_an_item_of_400_kb,
        refuses_an_item_over_400_kb,
        counts_a_unit_for_every_kb_written,
        counts_a_unit_for_every_4_kb_read_consistently,
        answers_16_mb_of_a_batch_and_names_the_keys_left,
        keeps_the_consistency_of_keys_left,
        carries_out_a_transaction_of_one_token_once,
        throttles_what_goes_far_over_provisioned_capacity,
    )
}
DEVIATIONS: dict[str, dict[str, str]] = {
    "moto": {
        "refuses_26_writes_in_a_batch": "takes any number",
        "refuses_numbers_of_39_digits": "takes them",
        "takes_an_item_of_400_kb": "refuses over 405,000 bytes, 4,600 too early",
        "counts_a_unit_for_every_kb_written": "says 1 for every item",
        "counts_a_unit_for_every_4_kb_read_consistently": "says 1 for every item",
        "keeps_the_consistency_of_keys_left": "names the keys alone",
        "carries_out_a_transaction_of_one_token_once": "ignores the token",
        "throttles_what_goes_far_over_provisioned_capacity": "never throttles",
    },
    "dynamodb-local": {
        "throttles_what_goes_far_over_provisioned_capacity": "never throttles",
    },
}


@pytest.mark.parametrize("rule", RULES)
def test_engine_does_as_dynamodb_except_where_written_down(
    dynamodb: Any, kind: str, rule: str
) -> None:
    deviation = DEVIATIONS[kind].get(rule)
    told = f"{kind}: {deviation or 'does as DynamoDB'}, it says above; it is no longer so"
    assert RULES[rule](dynamodb) is (deviation is None), told


# What the adapters make of it


class Requests:
    """Watches the requests of one operation, and may hold parts of them back."""

    def __init__(self, client: Any, operation: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self.hold_back: Callable[[Sequence[Any]], int] = lambda _: 0
        self._held: list[Any] = []
        event = f"dynamodb.{operation}"
        client.meta.events.register(f"provide-client-params.{event}", self._before)
        client.meta.events.register(f"after-call.{event}", self._after)

    def _before(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        ((table, entries),) = params["RequestItems"].items()
        self.seen.append({table: entries})
        if isinstance(entries, dict):
            return params  # keys: DynamoDB itself leaves some
        keep = len(entries) - self.hold_back(entries)
        self._held = entries[keep:]
        return {**params, "RequestItems": {table: entries[:keep]}}

    def _after(self, parsed: dict[str, Any], **_: Any) -> None:
        if self._held:
            parsed["UnprocessedItems"] = {SCORES: self._held}


def states_of(client: Any) -> DynamoStates:
    return DynamoStates(client, STATES, FixedClock(NOON))


def test_keys_that_dynamodb_left_are_read_again_consistently(dynamodb: Any, kind: str) -> None:
    keys = [f"card#{n}" for n in range(100)]
    store = states_of(dynamodb)
    data = {key: (key.encode() * 65_000)[:380_000] for key in keys}
    outcome = store.write([StateWrite(key, 0, data[key], None) for key in keys])
    assert outcome == (frozenset(), {})
    requests = Requests(dynamodb, "BatchGetItem")
    found = store.read([*keys, "card#none"])
    assert {key: item.data for key, item in found.items()} == data
    asked = [each[STATES] for each in requests.seen]
    assert len(asked) > 2
    if "keeps_the_consistency_of_keys_left" not in DEVIATIONS[kind]:
        assert all(each["ConsistentRead"] for each in asked)


@pytest.mark.slow
def test_state_of_400_kb_is_written_and_one_byte_more_fails_alone(dynamodb_local: str) -> None:
    client = dynamodb_client(dynamodb_local)
    empty_stores(client)
    store = states_of(client)
    largest = item("card#1", LARGEST_ITEM)["state"]["B"]
    outcome = store.write(
        [
            StateWrite("card#1", 0, largest, None),
            StateWrite("card#2", 0, largest + b"x", None),
            StateWrite("card#3", 0, b"x", None),
        ]
    )
    assert outcome.lost == frozenset()
    reason = f"state of {shown_key('card#2')} could not be written: ValidationException"
    assert outcome.failed == {"card#2": reason}
    found = store.read(["card#1", "card#2", "card#3"])
    assert {key: len(item.data) for key, item in found.items()} == {
        "card#1": len(largest),
        "card#3": 1,
    }


@pytest.mark.slow
def test_expiry_counts_in_the_size_of_an_item(dynamodb_local: str) -> None:
    """What an item may hold of state is what names, key, version and expiry leave of 400 KB."""
    client = dynamodb_client(dynamodb_local)
    empty_stores(client)
    room = len(item("card#1", LARGEST_ITEM)["state"]["B"]) - len("expires") - 6  # ten digits
    store, expires = states_of(client), 1_700_000_001
    assert store.write([StateWrite("card#1", 0, b"x" * room, expires)]).failed == {}
    assert list(store.write([StateWrite("card#1", 1, b"x" * (room + 1), expires)]).failed) == [
        "card#1"
    ]
    assert store.read(["card#1"])["card#1"].version == 1


def scored(count: int) -> list[ScoreRecord]:
    lab = Lab()
    lab.stream.score(records([payment(n) for n in range(count)]))
    return list(lab.scores.records.values())


def test_scores_that_dynamodb_left_are_written_again(dynamodb: Any) -> None:
    requests = Requests(dynamodb, "BatchWriteItem")
    requests.hold_back = lambda entries: len(entries) // 2
    clock = FixedClock(NOON)
    DynamoScores(dynamodb, SCORES, clock, 30).put_new(scored(20))
    assert [len(each[SCORES]) for each in requests.seen] == [20, 10, 5, 2, 1]
    assert stored_scores(dynamodb) == {each.id: each for each in scored(20)}
    assert NOON < clock.now() < NOON + SECOND


def test_scores_that_dynamodb_never_takes_are_unavailable_after_bounded_attempts(
    dynamodb: Any,
) -> None:
    requests = Requests(dynamodb, "BatchWriteItem")
    requests.hold_back = lambda entries: len(entries) - 1
    with pytest.raises(StoreUnavailable, match="scores cannot be written: 14 unprocessed"):
        DynamoScores(dynamodb, SCORES, FixedClock(NOON), 30).put_new(scored(20))
    assert len(stored_scores(dynamodb)) == 6
