"""Scores do not depend on where a batch is cut, nor on how often it is delivered."""

from __future__ import annotations

from itertools import pairwise
from math import isclose
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.definition import (
    LIFETIME,
    Count,
    Definition,
    DistinctCount,
    Entity,
    Flag,
    Label,
    Last,
    Max,
    Mean,
    Min,
    Number,
    Source,
    Std,
    Sum,
    Text,
    View,
)
from headrace.errors import StoreUnavailable
from headrace.events import Record, us_to_text
from headrace.imputation import Imputer, Statistic
from headrace.loading import checked, definition_hash
from headrace.manifest import Manifest
from headrace.model import FORMAT, Bundle
from headrace.scoring import Scorer, StreamScorer
from tests import strategies as own
from tests.strategies import SECOND_US, START_US, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.scores import LastScore, ScoreRecord

card, shop = Entity("card"), Entity("shop")
payments = Source(
    name="payments",
    id="payment_id",
    time="paid_at",
    entities={"card_id": card, "shop_id": shop},
    fields={"amount": Number(), "channel": Text()},
    lateness=seconds(20),
)
refunds = Source(
    name="refunds",
    id="payment_id",
    time="paid_at",
    entities={"shop_id": shop},
    fields={"is_refund": Flag(required=True)},
    lateness=seconds(60),
)
SOME = [Count(), Sum("amount"), Mean("amount"), Std("amount"), Min("amount"), Max("amount"),
        Last("amount"), DistinctCount("shop_id")]  # fmt: skip


def definition_of(**parts: Any) -> Definition:
    """Payments by card (as told), and refunds by shop with a delay."""
    paid = {"aggregates": SOME, "windows": [seconds(10), seconds(30)], **parts}
    refunded = View(
        name="shop", entity=shop, source=refunds, aggregates=[Mean("is_refund"), Count()],
        windows=[seconds(60)], delay=seconds(5),
    )  # fmt: skip
    visits = View(name="visits", entity=shop, source=payments, aggregates=[Count()],
                  windows=[seconds(60)])  # fmt: skip
    return checked(
        Definition(
            sources=[payments, refunds],
            scored=payments,
            views=[View(name="card", entity=card, source=payments, **paid), refunded, visits],
            inputs=["amount"],
            batch_entity=card,
            label=Label(refunds, "is_refund"),
        )
    )


class SumModel:
    """The score is the sum of the inputs."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        return [sum(row) for row in rows]


def scorer_of(definition: Definition) -> Scorer:
    manifest = Manifest(
        format=FORMAT, model_version="v1", definition_hash=definition_hash(definition),
        inputs=list(definition.inputs), serving="none", estimator="sum", libraries={},
        trained_from="", trained_to="", rows=0, prior=0.5, metrics={}, files={},
    )  # fmt: skip
    imputer = Imputer(definition, {name: [Statistic(-1.0)] for name in definition.columns})
    return Scorer(Bundle(definition, manifest, SumModel(), imputer))


class StoppedClock:
    """It is always the same time."""

    def now(self) -> int:
        return START_US + 3_600 * SECOND_US

    def sleep(self, seconds: float) -> None:
        return None


class FailingScores(MemoryScores):
    """Refuses what it is told to refuse: the state is written by then, the score is not."""

    failing = False

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        self._refuse()
        super().put_new(records, last)

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        self._refuse()
        return super().put_first(records)

    def _refuse(self) -> None:
        if self.failing:
            msg = "scores: told to fail"
            raise StoreUnavailable(msg)


class Stream:
    """A stream scorer on memory stores."""

    def __init__(self, scorer: Scorer) -> None:
        self.states, self.scores = MemoryStates(), FailingScores()
        self.quarantine = MemoryQuarantine()
        self._stream = StreamScorer(
            scorer, self.states, self.scores, self.quarantine, StoppedClock()
        )

    def put(self, records: Sequence[Record]) -> None:
        assert self._stream.score(records).failed is None

    def crash_and_put_again(self, records: Sequence[Record]) -> None:
        """State is written, scores are not; the batch comes again from its first failed record."""
        self.scores.failing = True
        failed = self._stream.score(records).failed
        self.scores.failing = False
        rest = [n for n, record in enumerate(records) if record.sequence == failed]
        self.put(records[rest[0] :] if rest else [])

    def states_only(self, records: Sequence[Record]) -> None:
        """State is written; the process dies before the scores are."""
        self.scores.failing = True
        self._stream.score(records)
        self.scores.failing = False

    def bytes(self) -> dict[str, bytes]:
        return {key: stored.data for key, stored in self.states.items.items()}


def record_of(number: int, arrival: int, time: int, **fields: Any) -> Record:
    values = {"source": "payments", "payment_id": f"p{number}", "paid_at": us_to_text(time),
              "card_id": 1, "shop_id": 1, **fields}  # fmt: skip
    return Record(msgspec.json.encode(values), arrival, f"shard:{number}", str(number))


def after(second: float, number: int, lag: float = 0, **fields: Any) -> Record:
    """A payment that arrives so many seconds after START, ``lag`` after it was made."""
    arrival = START_US + round(second * SECOND_US)
    return record_of(number, arrival, arrival - round(lag * SECOND_US), **fields)


LAGS = st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 20.0, 20.5, 70.0])
STEPS = st.sampled_from([0.0, 0.0, 1.0, 2.0, 2.5, 0.001, 5.0, 30.0, 0.0, 1.0, 5.0, 3_700.0])


ANY, SENT_ONCE = "pppppprrdx", "pppppprrx"  # payment, refund, sent again, refused


@st.composite
def records(draw: st.DrawFn, kinds: str = ANY) -> list[Record]:
    """Payments and refunds of two cards and shops; some late, repeated or refused."""
    found: list[Record] = []
    now = 0.0
    for number in range(draw(st.integers(1, 20))):
        now += draw(STEPS)
        lag = draw(LAGS)
        keys = {"card_id": draw(st.integers(1, 2)), "shop_id": draw(st.integers(1, 2))}
        match draw(st.sampled_from(kinds)):
            case "r":
                values = {"source": "refunds", "is_refund": draw(st.booleans()), **keys}
                del values["card_id"]
                found.append(_refund(after(now, number, lag, **values)))
            case "d" if found:
                twice = draw(st.sampled_from(found))
                found.append(msgspec.structs.replace(
                    twice, arrival=START_US + round(now * SECOND_US), sequence=str(number),
                    position=f"shard:{number}"))  # fmt: skip
            case "x":
                found.append(after(now, number, lag, amount="much"))
            case _:
                amount = draw(st.none() | own.CENTS)
                found.append(after(now, number, lag, amount=amount, **keys))
    return found


def _refund(record: Record) -> Record:
    values = msgspec.json.decode(record.data)
    del values["card_id"]
    return msgspec.structs.replace(record, data=msgspec.json.encode(values))


def cut(found: Sequence[Record], points: Sequence[int]) -> list[Sequence[Record]]:
    edges = sorted({0, len(found), *(point for point in points if point < len(found))})
    return [found[a:b] for a, b in pairwise(edges)]


def short_batches(batches: Sequence[Sequence[Record]]) -> list[Sequence[Record]]:
    """The same, also cut where more than half an hour passed without a record."""
    found: list[Sequence[Record]] = []
    for batch in batches:
        gaps = [n for n, (a, b) in enumerate(pairwise(batch), 1)
                if b.arrival - a.arrival > 1_800 * SECOND_US]  # fmt: skip
        found += cut(batch, gaps)
    return found


CUTS = st.lists(st.integers(1, 20), max_size=10)
SCORERS = {
    "exact": scorer_of(definition_of()),
    "exact before": scorer_of(definition_of(include_current=False)),
    "delayed": scorer_of(definition_of(delay=seconds(5))),
    "filtered": scorer_of(definition_of(where=lambda event: event.amount > 50)),
    "lifetime": scorer_of(definition_of(windows=[seconds(10), LIFETIME])),
    "hop": scorer_of(definition_of(hop=seconds(5))),
    "delayed hop": scorer_of(definition_of(hop=seconds(5), delay=seconds(5))),
    "hop lifetime": scorer_of(definition_of(hop=seconds(5), windows=[LIFETIME])),
    "small head": scorer_of(definition_of(hop=seconds(5), head=2)),
}
every_kind = pytest.mark.parametrize("kind", SCORERS)


def one_by_one(kind: str, found: Sequence[Record]) -> Stream:
    stream = Stream(SCORERS[kind])
    for record in found:
        stream.put([record])
    return stream


def differences(
    got: dict[str, ScoreRecord], expected: dict[str, ScoreRecord], rounding: float = 0.0
) -> list[tuple[str, str, Any, Any]]:
    """(event, what, got, expected) wherever two sets of score records are not the same.

    ``rounding`` is how far numbers may be apart, relative to the larger one.
    """
    found: list[tuple[str, str, Any, Any]] = []
    if got.keys() != expected.keys():
        found.append(("", "ids", sorted(got), sorted(expected)))
    for name in sorted(got.keys() & expected.keys()):
        a, b = msgspec.to_builtins(got[name]), msgspec.to_builtins(expected[name])
        a, b = {**a, **a.pop("features")}, {**b, **b.pop("features")}
        found += [
            (name, key, a.get(key), b[key])
            for key in b
            if not equal(a.get(key), b[key], 0.0 if "count" in key else rounding)
        ]
    return found


def equal(a: Any, b: Any, rounding: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return isclose(a, b, rel_tol=rounding, abs_tol=0.0)
    return bool(a == b)


@every_kind
@given(found=records(), points=CUTS)
@settings(max_examples=40)
def test_scores_do_not_depend_on_where_batches_are_cut(
    kind: str, found: list[Record], points: list[int]
) -> None:
    stream = Stream(SCORERS[kind])
    for batch in cut(found, points):
        stream.put(batch)
    expected = one_by_one(kind, found)
    assert not differences(stream.scores.records, expected.scores.records)
    assert stream.quarantine.refused == expected.quarantine.refused


@every_kind
@given(found=records(), points=CUTS)
@settings(max_examples=40)
def test_batches_delivered_twice_leave_scores_and_state_as_delivered_once(
    kind: str, found: list[Record], points: list[int]
) -> None:
    once, twice = Stream(SCORERS[kind]), Stream(SCORERS[kind])
    for batch in cut(found, points):
        once.put(batch)
        twice.put(batch)
        twice.put(batch)
    assert not differences(twice.scores.records, once.scores.records)
    assert twice.bytes() == once.bytes()


@pytest.mark.parametrize("kind", [kind for kind in SCORERS if kind != "small head"])
@given(found=records(SENT_ONCE), points=CUTS)
@settings(max_examples=40)
def test_a_crash_between_state_and_scores_leaves_the_scores_of_a_run_without_one(
    kind: str, found: list[Record], points: list[int]
) -> None:
    # Tiles give no event back: a batch must not bring one entity more events than the head holds.
    # And what has left the rows since then is added up in another order: the last bits may differ.
    once, twice = Stream(SCORERS[kind]), Stream(SCORERS[kind])
    for batch in short_batches(cut(found, points)):
        once.put(batch)
        twice.crash_and_put_again(batch)
    assert not differences(twice.scores.records, once.scores.records, 1e-12)
    assert twice.bytes() == once.bytes()


@pytest.mark.parametrize("kind", [kind for kind in SCORERS if kind != "small head"])
@given(found=records(), points=CUTS, pieces=CUTS)
@settings(max_examples=40)
def test_a_batch_that_comes_again_in_parts_after_others_is_scored_as_the_first_time(
    kind: str, found: list[Record], points: list[int], pieces: list[int]
) -> None:
    """Bisected, or overtaken by other shards' batches: what came later stays unseen."""
    once, again = Stream(SCORERS[kind]), Stream(SCORERS[kind])
    half_an_hour = found[0].arrival + 1_800 * SECOND_US
    lately = [record for record in found if record.arrival < half_an_hour]
    for batch in cut(lately, points):
        once.put(batch)
        again.states_only(batch)
    for part in cut(lately, pieces):
        again.put(part)
    assert not differences(again.scores.records, once.scores.records, 1e-12)
    assert again.bytes() == once.bytes()


def crashed(kind: str, *batches: Sequence[Record]) -> Stream:
    """All batches put, the last one with a crash between state and scores."""
    stream = Stream(SCORERS[kind])
    for batch in batches[:-1]:
        stream.put(batch)
    stream.crash_and_put_again(batches[-1])
    return stream


def test_rows_stay_while_a_batch_that_spans_long_may_come_again() -> None:
    first, second, third = after(0, 0), after(9, 1), after(100, 2)
    found = crashed("exact", [first], [second, third]).scores.records
    assert found["p1"].features["card_count_10s"] == 2


def test_a_batch_that_spans_long_may_come_again_in_a_hop_view() -> None:
    found = crashed("hop", [after(0, 0), after(100, 1)]).scores.records
    assert found["p0"].features["card_count_10s"] == 1


def test_an_event_that_was_sent_again_after_another_still_counts_in_the_other() -> None:
    batch = [after(0, 0), after(1, 1), after(0, 0)]
    found = crashed("exact", batch).scores.records
    assert found["p1"].features["card_count_10s"] == 2


def test_state_does_not_depend_on_where_a_repetition_with_another_time_is_cut() -> None:
    found = [after(0, 0), after(9, 0), after(5, 1)]
    whole = Stream(SCORERS["exact"])
    whole.put(found)
    key = "card#1"
    codec = SCORERS["exact"].codec
    states = [
        codec.decode(key, *stream.states.items[key])
        for stream in (whole, one_by_one("exact", found))
    ]
    assert [state.last_id for state in states] == ["p1", "p1"]


@pytest.mark.parametrize("amounts", [[1e306], [0.25, 1e306], [1.7e308, 1.7e308], [-1e200, 1e200]])
def test_no_number_stops_the_stream(amounts: list[float]) -> None:
    stream = Stream(SCORERS["exact"])
    stream.put([after(n, n, amount=amount) for n, amount in enumerate(amounts)])
    assert len(stream.scores.records) + len(stream.quarantine.refused) == len(amounts)


def test_no_event_stops_the_stream_at_a_filter() -> None:
    filtered = definition_of(where=lambda event: event.channel.startswith("web"))
    stream = Stream(scorer_of(filtered))
    stream.put([after(0, 0), after(1, 1, channel="web")])
    assert stream.scores.records["p1"].features["card_count_10s"] == 1


def test_an_event_does_not_lack_one_that_is_sent_again_after_it() -> None:
    stream = Stream(SCORERS["exact"])
    stream.put([after(0, 0)])
    stream.put([after(1, 1), after(0, 0)])
    assert stream.scores.records["p1"].features["card_count_10s"] == 2


def test_the_last_score_of_an_entity_is_known_whatever_the_filter_passes_over() -> None:
    stream = Stream(SCORERS["filtered"])
    stream.put([after(0, 0, amount=1.0)])
    codec = SCORERS["filtered"].codec
    assert {codec.decode(key, *stored).last_id for key, stored in stream.states.items.items()} == {
        "p0"
    }
