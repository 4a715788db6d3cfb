"""A small definition with a model that can be seen through, and stores that fail on request.

Card payments are scored; disputes are labels that also feed the shop's risk, without a delay, so
that what arrives when can be seen in the features. The fakes wrap the memory stores, which pass
the same contract suite as the real ones.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import exp
from typing import TYPE_CHECKING, Any

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.definition import (
    Constant,
    Count,
    Definition,
    Entity,
    Flag,
    Label,
    Max,
    Mean,
    Number,
    Source,
    Std,
    Sum,
    Text,
    View,
    days,
    hours,
)
from headrace.errors import StoreUnavailable, StreamUnavailable
from headrace.events import Record, time_to_us
from headrace.imputation import Imputer, Statistic, Statistics
from headrace.loading import checked, definition_hash
from headrace.manifest import Manifest
from headrace.model import FORMAT, Bundle
from headrace.policies import steps
from headrace.ports import (
    Quarantined,
    Replaced,
    ScanPage,
    Segment,
    StateWrite,
    StoredState,
    WriteOutcome,
)
from headrace.recent import Recent
from headrace.scoring import Scorer, StreamScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.ports import Clock, ScoreStore, StateStore
    from headrace.scores import BatchScore, Known, LastScore, ScoreRecord
    from headrace.state import StateCodec

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = time_to_us(datetime(2025, 5, 1, 12, tzinfo=UTC))

card = Entity("card")
shop = Entity("shop")

payments = Source(
    name="payments",
    id="payment_id",
    time="paid_at",
    entities={"card_id": card, "shop_id": shop},
    fields={
        "amount": Number(at_least=0, at_most=1_000),
        "discount": Number(at_least=0, at_most=1),
        "channel": Text(one_of=("web", "till")),
        "note": Text(max_length=10),
        "contactless": Flag(),
        "items": Number(required=True),
    },
    lateness=hours(2),
)

disputes = Source(
    name="disputes",
    id="payment_id",
    time="disputed_at",
    entities={"card_id": card, "shop_id": shop},
    fields={"is_fraud": Flag(required=True)},
    lateness=days(2),
)

spending = View(
    name="card",
    entity=card,
    source=payments,
    aggregates=[Count(), Mean("amount"), Max("amount")],
    windows=[hours(1), days(1)],
)

spread = View(
    name="card_before",
    entity=card,
    source=payments,
    aggregates=[Std("amount")],
    windows=[days(1)],
    include_current=False,
)

traffic = View(
    name="shop",
    entity=shop,
    source=payments,
    aggregates=[Count(), Sum("amount")],
    windows=[days(1)],
)

risk = View(
    name="shop_risk", entity=shop, source=disputes, aggregates=[Mean("is_fraud")], windows=[days(1)]
)


def amount_to_mean(event: Any, features: Mapping[str, float | None]) -> float | None:
    ratio: float = event.amount / features["card_amount_mean_1d"]  # None: not computable
    return ratio


def is_evening(event: Any, features: Mapping[str, float | None]) -> float | None:
    return float(event.paid_at.hour >= 18)


INPUTS = (
    "amount",
    "discount",
    "amount_to_mean",
    "is_evening",
    *spending.features,
    *spread.features,
    *traffic.features,
    *risk.features,
)


def make_definition(**changes: Any) -> Definition:
    """The small definition, with some of its attributes replaced."""
    attributes: dict[str, Any] = {
        "sources": [payments, disputes],
        "scored": payments,
        "views": [spending, spread, traffic, risk],
        "request_features": [amount_to_mean, is_evening],
        "inputs": list(INPUTS),
        "imputation": {"shop_risk": Constant(0.25), "discount": Constant(0.0)},
        "batch_entity": card,
        "label": Label(disputes, "is_fraud"),
        "fresh_for": hours(6),
        "batch_valid_for": days(2),
    }
    return checked(Definition(**(attributes | changes)))


PRIOR = 0.125


class OpenModel:
    """A model that can be computed by hand: the logistic function of the inputs' sum over 1000."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """See ``Model.score``; notes how many rows each call had."""
        self.calls.append(len(rows))
        return [open_score(row) for row in rows]


def open_score(row: Sequence[float]) -> float:
    """What the open model answers for one row of inputs."""
    return 1 / (1 + exp(-sum(row) / 1_000))


def imputed_values(definition: Definition) -> dict[str, float]:
    """A value of its own for each column, so that it is seen where it came from."""
    return {name: 1_000.0 + number for number, name in enumerate(definition.columns)}


def statistics_of(definition: Definition) -> Statistics:
    """The same as statistics: of every policy of a column, that value."""
    return {
        name: [Statistic(value) for _ in steps(definition.policy(name))]
        for name, value in imputed_values(definition).items()
    }


def make_bundle(definition: Definition | None = None, imputer: Imputer | None = None) -> Bundle:
    """A bundle around the open model."""
    definition = definition or make_definition()
    manifest = Manifest(
        format=FORMAT,
        model_version="open-1",
        definition_hash=definition_hash(definition),
        inputs=list(definition.inputs),
        serving="program",
        estimator="OpenModel()",
        libraries={},
        trained_from="",
        trained_to="",
        rows=0,
        prior=PRIOR,
        metrics={},
        files={},
    )
    return Bundle(
        definition,
        manifest,
        OpenModel(),
        imputer or Imputer(definition, statistics_of(definition)),
    )


def iso(us: int) -> str:
    """Microseconds UTC as ISO 8601 text."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


def payment(number: int | str, at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A valid payment of card 1 at shop 1, with some fields replaced."""
    values = {
        "source": "payments",
        "payment_id": number,
        "paid_at": iso(at),
        "card_id": 1,
        "shop_id": 1,
        "amount": 10.0,
        "items": 1,
    }
    return values | fields


def dispute(number: int | str, at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A valid dispute of a payment of card 1 at shop 1, with some fields replaced."""
    values = {
        "source": "disputes",
        "payment_id": number,
        "disputed_at": iso(at),
        "card_id": 1,
        "shop_id": 1,
        "is_fraud": True,
    }
    return values | fields


def encoded(event: Mapping[str, Any]) -> bytes:
    """An event as JSON."""
    return json.dumps(event).encode()


def record(event: Mapping[str, Any] | bytes, arrival: int, sequence: int = 0) -> Record:
    """A record of the stream; ``sequence`` gives its position too."""
    data = event if isinstance(event, bytes) else encoded(event)
    return Record(data, arrival, f"shardId-000000000000:{sequence}", str(sequence))


def records(
    events: Iterable[Mapping[str, Any] | bytes], arrival: int = NOON, first: int = 0
) -> list[Record]:
    """Records that arrive a millisecond apart."""
    return [
        record(event, arrival + 1_000 * number, first + number)
        for number, event in enumerate(events)
    ]


class Lab:
    """A stream scorer with its stores, each of which can be replaced."""

    def __init__(
        self,
        definition: Definition | None = None,
        *,
        states: StateStore | None = None,
        scores: ScoreStore | None = None,
        quarantine: MemoryQuarantine | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.bundle = make_bundle(definition)
        self.scorer = Scorer(self.bundle)
        self.states: Any = states or MemoryStates()
        self.scores: Any = scores or MemoryScores()
        self.quarantine = quarantine or MemoryQuarantine()
        self.clock: Any = clock or FixedClock(NOON)
        self.stream = StreamScorer(
            self.scorer, self.states, self.scores, self.quarantine, self.clock
        )

    @property
    def model(self) -> OpenModel:
        """The open model."""
        assert isinstance(self.bundle.model, OpenModel)
        return self.bundle.model


class Switch:
    """Lets a few calls pass and fails a few after them; never fails unless told to."""

    def __init__(self) -> None:
        self._plan: deque[bool] = deque()

    def fail(self, times: int = 1, after: int = 0) -> None:
        """Fail ``times`` calls, once ``after`` have passed."""
        self._plan.extend([False] * after + [True] * times)

    def check(self, what: str) -> None:
        """Raise where the plan says so."""
        if self._plan and self._plan.popleft():
            msg = f"{what}: told to fail"
            raise StoreUnavailable(msg)


class FailingStates(MemoryStates):
    """States whose reads, scans or single writes fail, and whose races can be lost.

    Attributes:
        reads: Fails ``read``.
        scans: Fails ``scan``.
        refused: Keys that are not written, with how often that is still so.
        races: Called with the keys after each read; may change the items, as another would.
        attempts: Keys of each call of ``write``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.scans = Switch(), Switch()
        self.refused: dict[str, int] = {}
        self.races: Callable[[list[str]], None] | None = None
        self.attempts: list[list[str]] = []

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """See the port."""
        wanted = list(keys)
        self.reads.check("read")
        found = super().read(wanted)
        if self.races is not None:
            self.races(wanted)
        return found

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port."""
        self.attempts.append([write.key for write in writes])
        failed = {w.key: "told to fail" for w in writes if self.refused.get(w.key, 0) > 0}
        for key in failed:
            self.refused[key] -= 1
        outcome = super().write([write for write in writes if write.key not in failed])
        return WriteOutcome(outcome.lost, failed)

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port."""
        self.scans.check("scan")
        return super().scan(entity, segment, cursor)


class CrashedError(BaseException):
    """The process died: nothing may catch it."""


class FailingScores(MemoryScores):
    """Scores whose writes fail as a dependency does, or take the process with them.

    Attributes:
        puts: Fails ``put_new``, ``put_first`` and ``put_batch``.
        reads: Fails ``get``, ``get_known`` and ``mark_read``.
        progress: Fails ``put_progress``.
        lost_answers: Fails ``put_progress`` once it is done.
        crashes: How many writes of scores end the process instead.
        new: Ids of each call of ``put_new``.
        first: Ids of each call of ``put_first``.
        lasts: Keys of the last scores of each call of ``put_new``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.puts, self.reads, self.progress = Switch(), Switch(), Switch()
        self.lost_answers = Switch()
        self.crashes = 0
        self.new: list[list[str]] = []
        self.first: list[list[str]] = []
        self.lasts: list[list[str]] = []

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port."""
        self._check()
        self.new.append([each.id for each in records])
        self.lasts.append([f"{each.entity}#{each.entity_id}" for each in last])
        super().put_new(records, last)

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port."""
        self._check()
        self.first.append([each.id for each in records])
        return super().put_first(records)

    def put_batch(self, scores: Sequence[BatchScore]) -> Replaced:
        """See the port."""
        self._check()
        return super().put_batch(scores)

    def get(self, event_id: str) -> ScoreRecord | None:
        """See the port."""
        self.reads.check("get")
        return super().get(event_id)

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """See the port."""
        self.reads.check("get_known")
        return super().get_known(keys)

    def mark_read(self, key: str) -> None:
        """See the port."""
        self.reads.check("mark_read")
        super().mark_read(key)

    def put_progress(self, run: str, data: bytes, expected: bytes | None) -> bool:
        """See the port."""
        self.progress.check("put_progress")
        done = super().put_progress(run, data, expected)
        self.lost_answers.check("put_progress, whose answer was lost")
        return done

    def _check(self) -> None:
        if self.crashes:
            self.crashes -= 1
            raise CrashedError
        self.puts.check("put")


class DirectLookups:
    """Look-ups without threads or a deadline; fulfils ``reads.Lookups``.

    Attributes:
        begun: What each request asked for: keys of states, keys of last and batch scores.
        known_reads: How often last and batch scores were read.
    """

    def __init__(self, states: StateStore, scores: ScoreStore) -> None:
        self.states, self.scores = states, scores
        self.begun: list[tuple[list[str], list[str]]] = []
        self.known_reads = 0

    def begin(self, states: Sequence[str], known: Sequence[str]) -> DirectLookup:
        """See the port."""
        self.begun.append((list(states), list(known)))
        return DirectLookup(self, states, known)


class DirectLookup:
    """Fulfils ``reads.Lookup``."""

    def __init__(self, owner: DirectLookups, states: Sequence[str], known: Sequence[str]) -> None:
        self._owner, self._states, self._known = owner, states, known

    def states(self) -> dict[str, StoredState]:
        """See the port."""
        return self._owner.states.read(self._states) if self._states else {}

    def known(self) -> dict[str, Known] | None:
        """See the port."""
        self._owner.known_reads += bool(self._known)
        try:
            return self._owner.scores.get_known(self._known) if self._known else {}
        except StoreUnavailable:
            return None

    def record(self, event_id: str) -> ScoreRecord | None:
        """See the port."""
        return self._owner.scores.get(event_id)

    def mark_read(self, keys: Sequence[str]) -> None:
        """See the port."""
        with suppress(StoreUnavailable):
            for key in keys:
                self._owner.scores.mark_read(key)


class FailingQuarantine(MemoryQuarantine):
    """A quarantine that fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = Switch()

    def put(self, refused: Quarantined) -> None:
        """See the port."""
        self.puts.check("quarantine")
        super().put(refused)


class FailingStream:
    """A stream that takes nothing."""

    def put(self, data: bytes, partition_key: str) -> str:
        """See the port."""
        msg = "stream: told to fail"
        raise StreamUnavailable(msg)


def without_order(codec: StateCodec, states: Mapping[str, StoredState]) -> dict[str, bytes]:
    """Packed states by key, without the order of arrival that they remember for an hour."""
    found = {}
    for key, stored in states.items():
        state = codec.decode(key, *stored)
        state.recent = Recent()
        found[key] = codec.encode(state)
    return found
