"""Writers that race for one entity, on AWS's own DynamoDB engine: acknowledged equals stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from headrace.adapters.capacity import Capacity, MeteredScores, MeteredStates
from headrace.adapters.clock import SystemClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import LeanClient
from headrace.adapters.memory import MemoryQuarantine
from headrace.local.faults import Faults, Injector
from headrace.scoring import Scorer, StreamScorer
from tests.aws import SCORES, STATES, dynamodb_client, empty_stores
from tests.fakes import HOUR, NOON, make_bundle, payment, record

if TYPE_CHECKING:
    from headrace.events import Record

WRITERS = 16
EVENTS = 10  # of each writer
pytestmark = pytest.mark.slow


class Tables:
    """Empty state and score tables on one engine."""

    def __init__(self, url: str) -> None:
        self._url = url
        empty_stores(self.client())

    def client(self) -> Any:
        return dynamodb_client(self._url)

    def stores(self, client: Any | None = None) -> tuple[DynamoStates, DynamoScores]:
        mine, clock = client or self.client(), SystemClock()
        return DynamoStates(mine, STATES, clock), DynamoScores(mine, SCORES, clock, 30)


@pytest.fixture
def tables(dynamodb_local: str) -> Tables:
    return Tables(dynamodb_local)


def own_events(writer: int) -> list[Record]:
    """Payments of one card at one shop, other ones for each writer."""
    return [
        record(payment(f"{writer}-{n}", NOON - n), NOON, writer * 1_000 + n) for n in range(EVENTS)
    ]


def deliver(stream: StreamScorer, records: list[Record]) -> tuple[int, int]:
    """Deliver in twos until all are acknowledged, as a shard does: (conflicts, failures)."""
    conflicts = failures = 0
    while records:
        outcome = stream.score(records[:2])
        conflicts += outcome.conflicts
        if outcome.failed is None:
            records = records[2:]
        else:
            failures += 1
            records = [r for r in records if int(r.sequence) >= int(outcome.failed)]
        assert failures < 100
    return conflicts, failures


@pytest.mark.parametrize("lost_response", [0.0, 0.1], ids=["healthy", "answers-get-lost"])
def test_many_writers_of_one_entity_lose_and_double_nothing(
    tables: Tables, lost_response: float
) -> None:
    scorer = Scorer(make_bundle())

    def run(writer: int) -> tuple[int, int]:
        client = tables.client()
        Injector(Faults(lost_response=lost_response), writer).watch(client.meta.events)
        # Both ways of writing race each other.
        states, scores = tables.stores(lean(client, LeanClient) if writer % 2 else client)
        stream = StreamScorer(scorer, states, scores, MemoryQuarantine(), SystemClock())
        return deliver(stream, own_events(writer))

    with ThreadPoolExecutor(WRITERS) as pool:
        found = list(pool.map(run, range(WRITERS)))
    assert sum(conflicts for conflicts, _ in found) > 0  # they did race
    states, scores = tables.stores()
    sent = [f"{writer}-{n}" for writer in range(WRITERS) for n in range(EVENTS)]
    assert all(scores.get(each) is not None for each in sent)
    for key in ("card#1", "shop#1"):
        state = scorer.codec.decode(key, *states.read([key])[key])
        counted = [
            (len(scorer.codec.view(state, fold).rows), fold.view.name)
            for fold in scorer.codec.folds[state.entity]
            if fold.view.source is scorer.definition.scored
        ]
        assert counted == [(len(sent), name) for _, name in counted]


def test_units_are_those_that_dynamodb_counts(tables: Tables) -> None:
    """The meter against the engine's own ConsumedCapacity, lost writes included."""
    client, counted = tables.client(), {"read": 0.0, "write": 0.0}

    def ask(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def count(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        used = parsed.get("ConsumedCapacity", [])
        kind = "read" if model.name == "BatchGetItem" else "write"
        for each in used if isinstance(used, list) else [used]:
            counted[kind] += each["CapacityUnits"]

    for operation in ("BatchGetItem", "BatchWriteItem", "PutItem"):
        client.meta.events.register(f"provide-client-params.dynamodb.{operation}", ask)
        client.meta.events.register(f"after-call.dynamodb.{operation}", count)
    capacity, (states, scores) = Capacity(), tables.stores(client)
    stream = StreamScorer(
        Scorer(make_bundle()),
        MeteredStates(states, capacity),
        MeteredScores(scores, capacity),
        MemoryQuarantine(),
        SystemClock(),
    )
    for start in range(0, 600, 60):
        batch = [
            record(payment(f"u{n}", NOON - HOUR + n, shop_id=n % 5), NOON, n)
            for n in range(start, start + 60)
        ]
        assert stream.score(batch).failed is None
    assert capacity.state_writes > 60  # some items are large
    # AWS documents a unit for a key without an item; the engine counts none in BatchGetItem.
    absent = 1 + 5  # a card and five shops, once
    assert counted["read"] == capacity.state_reads - absent
    written = capacity.state_writes + capacity.score_writes + capacity.last_writes
    assert counted["write"] == written
