"""The compiled fold against the one in Python: the same bytes and features, event by event.

Streams have late, repeated and out-of-order events, labels that are not scored, quiet months
after which rows are given up, amounts that outgrow their column, and states that are packed and
read in between.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from headrace import compiled_fold
from headrace.definition import (
    LIFETIME,
    Count,
    Definition,
    DistinctCount,
    Entity,
    First,
    Flag,
    Label,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Number,
    Source,
    Std,
    Sum,
    Text,
    TimeSinceLast,
    View,
    days,
    hours,
)
from headrace.errors import StateError
from headrace.events import Event, id_digest
from headrace.folding import EntityFold
from headrace.loading import checked
from headrace.outcome import Work
from headrace.state import StateCodec
from tests.strategies import seconds

if TYPE_CHECKING:
    from headrace.state import EntityState

pytestmark = pytest.mark.skipif(
    not compiled_fold.AVAILABLE,
    reason="the compiled fold was not built: install a C compiler and Python's headers, then "
    "`make setup` again",
)

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
KEY = "card#1"
card = Entity("card")
payments = Source(
    name="payments",
    id="payment_id",
    time="paid_at",
    entities={"card_id": card},
    fields={"amount": Number(), "flag": Flag(), "shop": Text()},
    lateness=hours(2),
)
labels = Source(
    name="labels",
    id="payment_id",
    time="paid_at",
    entities={"card_id": card},
    fields={"fraud": Flag()},
    lateness=days(3),
)
EVERY_STATISTIC = [
    Count(), Sum("amount"), Mean("amount"), Std("amount"), Min("amount"), Max("amount"),
    First("amount"), Last("amount"), LastN("amount", 3), DistinctCount("shop"), Mean("flag"),
]  # fmt: skip
WINDOWS = [hours(1), days(1), days(7)]


def is_flagged(event: Any) -> bool:
    return bool(event.flag)


def fails_on_absent(event: Any) -> bool:
    return bool(event.amount > 10)


def view(name: str, source: Source = payments, **parts: Any) -> View:
    given = {"aggregates": EVERY_STATISTIC, "windows": WINDOWS, **parts}
    return View(name=name, source=source, entity=card, **given)


VIEWS = {
    "every statistic": [view("card")],
    "without the event itself": [
        view("card", aggregates=[*EVERY_STATISTIC, TimeSinceLast()], include_current=False)
    ],
    "delayed": [view("card", aggregates=[*EVERY_STATISTIC, TimeSinceLast()], delay=hours(6))],
    "filtered": [view("flagged", where=is_flagged), view("large", where=fails_on_absent)],
    "of two sources": [
        view("card", windows=[seconds(90), days(2)]),
        view("risk", labels, aggregates=[Mean("fraud"), Count()], delay=hours(1)),
    ],
    "without fields": [view("card", aggregates=[Count()])],
}
SIZES = [1, 0.1, 2e5, 7.0001, 3e9, -5, 1e15, 2**53, 1e300]
AMOUNTS = {
    "cents": lambda random: round(random.lognormvariate(3, 1), 2),
    "whole and negative": lambda random: random.randrange(-(10**6), 10**6),
    "fractions": lambda random: random.gauss(0, 1e3),
    "of all sizes": lambda random: random.choice(SIZES),
    "often absent": lambda random: random.choice([None, None, 5.5]),
}
STEPS = {
    "seconds": lambda random: random.randrange(3_600) * SECOND_US,
    "milliseconds": lambda random: random.randrange(3_600_000) * 1_000,
    "microseconds and gaps": lambda random: random.choice(
        [0, random.randrange(10**10), random.randrange(DAY_US), 9 * DAY_US]
    ),
}


class Lane(NamedTuple):
    """One way of folding, with the state as it is now."""

    codec: StateCodec
    folding: EntityFold
    states: list[EntityState]

    def fold(self, event: Event) -> tuple[Any, ...]:
        work = Work(event, 0, "", dict(event.keys))
        state = self.states[-1]
        self.folding.fold(state, [work])
        part = work.parts["card"]
        return (repr(part.features), part.new, part.repeated, part.late, part.seen, part.newest,
                part.cut, state.last_id, state.newest_arrival, state.noted,
                bool(state.changed))  # fmt: skip

    def look(self, as_of: int) -> str:
        """Of what is packed, so that folding goes on as it did."""
        state = self.codec.decode(KEY, 1, self.packed())
        return repr(self.folding.look(state, as_of))

    def packed(self) -> bytes:
        return self.codec.encode(self.states[-1])

    def read_again(self, data: bytes) -> None:
        self.states[:] = [self.codec.decode(KEY, 1, data)]


def lane(definition: Definition, plan: compiled_fold.Planner) -> Lane:
    codec = StateCodec(definition, plan)
    return Lane(codec, EntityFold(definition, codec), [codec.empty(KEY)])


def lanes(definition: Definition) -> tuple[Lane, Lane]:
    """The compiled fold and Python's."""
    return lane(definition, compiled_fold.plan_of), lane(definition, compiled_fold.in_python)


def definition_of(views: list[View]) -> Definition:
    return checked(
        Definition(
            sources=[payments, labels], scored=payments, views=views, inputs=["amount"],
            batch_entity=card, label=Label(labels, "fraud"),
        )
    )  # fmt: skip


def stream(random: Random, amount: Any, step: Any, n: int) -> list[Event]:
    """Events in order of arrival: some late, some twice, some labels."""
    found: list[Event] = []
    now = START_US
    for number in range(n):
        now += step(random)
        if found and random.random() < 0.05:
            found.append(arrived_again(random.choice(found[-40:]), now))
            continue
        source = labels if random.random() < 0.2 else payments
        back = random.choice([0, 0, 0, 0, SECOND_US, 600 * SECOND_US, 5 * DAY_US])
        fields = SimpleNamespace(amount=amount(random), flag=random.choice([None, True, False]),
                                 shop=random.choice([None, "a", "b", 3]),
                                 fraud=random.choice([None, True, False]))  # fmt: skip
        name = f"{number}é"
        late = back > source.lateness // seconds(1e-6)
        digest = id_digest(source.name, name)
        found.append(Event(source, name, digest, now - back, now, late, {"card": KEY}, fields))
    return found


def arrived_again(event: Event, now: int) -> Event:
    late = now - event.time > event.source.lateness // seconds(1e-6)
    return Event(event.source, event.id, event.digest, event.time, now, late, event.keys,
                 event.fields)  # fmt: skip


def agree(random: Random, views: str, amount: str, step: str, n: int = 200) -> int:
    """Fold a stream both ways; how many of its events were left to C."""
    ours, theirs = lanes(definition_of(VIEWS[views]))
    compiled = 0
    for event in stream(random, AMOUNTS[amount], STEPS[step], n):
        assert ours.fold(event) == theirs.fold(event)
        compiled += ours.states[-1].compiled is not None
        as_of = event.arrival + random.choice([0, -DAY_US, 3 * DAY_US])
        assert ours.look(as_of) == theirs.look(as_of)
        if random.random() < 0.4:
            data = ours.packed()
            assert data == theirs.packed()
            ours.read_again(data)
            theirs.read_again(data)
    assert ours.packed() == theirs.packed()
    return compiled


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("step", STEPS)
def test_it_gives_the_same_features_and_bytes_as_python(views: str, amount: str, step: str) -> None:
    compiled = agree(Random(f"{views}{amount}{step}"), views, amount, step)
    assert compiled > 50 or amount == "of all sizes"  # else this compared Python with itself


def test_it_takes_over_what_python_wrote_and_python_what_it_wrote() -> None:
    definition = definition_of(VIEWS["of two sources"])
    ours, theirs = lanes(definition)
    for number, event in enumerate(stream(Random(1), AMOUNTS["cents"], STEPS["seconds"], 300)):
        writer, reader = (ours, theirs) if number % 2 else (theirs, ours)
        writer.fold(event)
        reader.read_again(writer.packed())
        assert reader.packed() == writer.packed()


def test_a_view_that_grows_beyond_its_bytes_goes_on_in_python_with_tiles() -> None:
    views = [view(f"card{n}", aggregates=[Count(), Sum("amount")]) for n in range(10)]
    definition = definition_of(views)  # which share the bytes of an item
    ours, theirs = lanes(definition)
    random = Random(5)
    events = stream(random, AMOUNTS["fractions"], lambda _: 7 * SECOND_US, 3_500)
    for event in events:
        if not event.late:
            ours.fold(event)
            theirs.fold(event)
    fold, *_ = theirs.codec.folds["card"]
    assert theirs.codec.view(theirs.states[-1], fold).tiles
    assert ours.packed() == theirs.packed()


def test_squares_of_many_large_integers_are_those_of_python() -> None:
    definition = definition_of([view("card", aggregates=[Std("amount"), Sum("amount")])])
    ours, theirs = lanes(definition)
    random = Random(7)
    most = 2**53 - 1
    events = stream(random, lambda r: r.choice([most, -most]) + 0.0, lambda _: SECOND_US, 2_500)
    for event in events:
        assert ours.fold(event) == theirs.fold(event)
    data = ours.packed()
    assert data == theirs.packed()
    ours.read_again(data)
    assert ours.look(events[-1].time) == theirs.look(events[-1].time)


@pytest.mark.parametrize("size", [1e149, 1e151, 1e160, 1e199])
def test_squares_of_large_fractions_are_those_of_python(size: float) -> None:
    definition = definition_of([view("card", aggregates=[Std("amount"), Sum("amount")])])
    ours, theirs = lanes(definition)
    for event in stream(Random(2), lambda r: r.choice([size, -size, 1.5]), STEPS["seconds"], 60):
        assert ours.fold(event) == theirs.fold(event)
        data = ours.packed()
        assert data == theirs.packed()
        ours.read_again(data)
        theirs.read_again(data)
        assert ours.look(event.time) == theirs.look(event.time)


@pytest.mark.parametrize("part", ["hop", "lifetime", "revised"])
def test_what_it_cannot_do_is_left_to_python(part: str) -> None:
    revised = Source(
        name="payments",
        id="payment_id",
        time="paid_at",
        entities={"card_id": card},
        fields={"amount": Number(), "revision": Number()},
        revised_by="revision",
    )
    views = {
        "hop": view("card", aggregates=[Count()], hop=seconds(60)),
        "lifetime": view("card", aggregates=[Count()], windows=[LIFETIME]),
        "revised": view("card", revised, aggregates=[Count()]),
    }
    definition = Definition(sources=[views[part].source, labels], scored=views[part].source,
                            views=[views[part]], inputs=["amount"], batch_entity=card,
                            label=Label(labels, "fraud"))  # fmt: skip
    assert StateCodec(definition).empty(KEY).compiled is None


def test_bytes_cut_short_or_altered_are_never_read_beyond_their_end() -> None:
    random = Random(3)
    data, event = one_state(random, "every statistic")
    codec, folding, _ = lane(definition_of(VIEWS["every statistic"]), compiled_fold.plan_of)
    refused = sum(not folds(codec, folding, altered(random, data), event) for _ in range(4_000))
    assert refused > 1_000


def one_state(random: Random, views: str) -> tuple[bytes, Event]:
    """A packed state, and an event that comes after it."""
    ours = lane(definition_of(VIEWS[views]), compiled_fold.plan_of)
    events = stream(random, AMOUNTS["cents"], STEPS["seconds"], 61)
    for event in events[:-1]:
        ours.fold(event)
    return ours.packed(), events[-1]


def altered(random: Random, data: bytes) -> bytes:
    """Bytes cut, replaced, taken out or put in."""
    found = bytearray(data[: random.randrange(len(data))] if random.random() < 0.3 else data)
    for _ in range(random.randrange(3)):
        at = random.randrange(len(found) + 1)
        more = bytes(random.randrange(256) for _ in range(random.randrange(9)))
        found[at : at + random.choice([0, 1, len(more)])] = more
    return bytes(found)


def folds(codec: StateCodec, folding: EntityFold, data: bytes, event: Event) -> bool:
    """Whether a state can be read, looked at, folded into and packed; nothing else may happen."""
    try:
        state = codec.decode(KEY, 1, data)
        folding.look(state, event.time)
        folding.fold(state, [Work(event, 0, "", dict(event.keys))])
        codec.encode(state)
    except StateError:
        return False
    return True
