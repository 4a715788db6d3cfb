"""What the watch finds in an hour of events, and what it does not."""

from __future__ import annotations

from math import comb
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.events import Event
from headrace.reference import LEVELS, FieldReference, fit_reference
from headrace.watch import PORTION, PORTION_US, Finding, Kind, SparseWatch, Watch, upper_tail
from tests.fakes import HOUR, MINUTE, NOON, SECOND, Lab, make_definition, payment, payments, record

if TYPE_CHECKING:
    from collections.abc import Sequence

RANDOM = Random(1)
TRAINING = [round(RANDOM.lognormvariate(3, 0.8), 2) for _ in range(20_000)]
REFERENCE = fit_reference(
    make_definition(),
    {"amount": [*TRAINING, *[None] * 200], "channel": ["web", "till"] * 10_100},
)


def event(at: int, amount: Any, channel: str | None = "web", *, invalid: bool = False) -> Event:
    fields = SimpleNamespace(amount=amount, channel=channel)
    names = ("amount",) if invalid else ()
    return Event(payments, "1", b"", at, at, False, {}, fields, invalid=names)


def usual(count: int, seed: int = 2, start: int = NOON, apart: int = 9 * SECOND) -> list[Event]:
    """Events as in training, every nine seconds: four hundred an hour."""
    random = Random(seed)
    values = [None if random.random() < 0.01 else random.choice(TRAINING) for _ in range(count)]
    return [event(start + n * apart, value) for n, value in enumerate(values)]


def found(events: Sequence[Event]) -> dict[tuple[str, Kind], Finding]:
    """What lasts in a watch that sees these events five at a time; each begins once."""
    watch, begun = Watch(REFERENCE), []
    for start in range(0, len(events), 5):
        begun += watch.note(events[start : start + 5])
    assert [(each.field, each.kind) for each in begun] == list(watch.lasting)
    assert [each.since for each in begun] == [each.since for each in watch.lasting.values()]
    return watch.lasting


def changed(events: Sequence[Event], share: float, to: Any, **more: Any) -> list[Event]:
    """The events with some of them replaced, evenly spread, from the second hour on."""
    every = round(1 / share)
    return [
        event(each.arrival, to(each.fields.amount), **more)
        if each.arrival >= NOON + HOUR and number % every == 0 and each.fields.amount is not None
        else each
        for number, each in enumerate(events)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_what_training_saw(seed: int) -> None:
    assert found(usual(5_000, seed)) == {}


@pytest.mark.parametrize(
    ("share", "factor"),
    [(0.02, 100.0), (0.1, 100.0), (1.0, 100.0), (0.1, 1_000.0), (1.0, 1_000.0), (1.0, 1 / 100),
     (1.0, 60.0)],
)  # fmt: skip
def test_change_of_unit_is_found_within_the_hour_with_its_factor(
    share: float, factor: float
) -> None:
    def to(value: float) -> float:
        return value * factor

    events = changed(usual(800), share, to)
    finding = found(events)["amount", Kind.UNIT_CHANGE]
    assert NOON + HOUR < finding.since <= NOON + 2 * HOUR
    assert finding.factor == pytest.approx(factor)


def test_events_that_come_one_by_one_are_looked_at_together() -> None:
    events = changed(usual(800), 0.1, lambda value: value * 100)
    watch, sparse = Watch(REFERENCE), SparseWatch(REFERENCE)
    (begun,) = [each for e in events for each in sparse.note([e])]
    (sooner,) = [each for e in events for each in watch.note([e])]
    assert (begun.kind, begun.factor) == (Kind.UNIT_CHANGE, 100.0)
    assert 0 <= begun.since - sooner.since <= 2 * PORTION_US
    assert sparse.note([]) == []


def test_many_events_within_seconds_are_looked_at_by_their_number() -> None:
    sparse = SparseWatch(REFERENCE)
    crowd = [event(NOON + n, 20.0) for n in range(PORTION)]
    assert sparse.note(crowd[:-1]) == []
    assert [each.kind for each in sparse.note(crowd[-1:])] == [Kind.CONSTANT]


def test_sensor_that_stays_at_one_value_is_found() -> None:
    finding = found(changed(usual(800), 1.0, lambda _: 20.0))["amount", Kind.CONSTANT]
    assert finding.share == 1.0


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_field_that_went_missing_is_found(share: float) -> None:
    finding = found(changed(usual(800), share, lambda _: None))["amount", Kind.MISSING]
    assert finding.expected == pytest.approx(0.01, abs=0.001)
    assert finding.since <= NOON + 2 * HOUR


def test_text_that_went_missing_is_found() -> None:
    events = changed(usual(800), 0.1, lambda value: value, channel=None)
    assert set(found(events)) == {("channel", Kind.MISSING)}


def test_invalid_values_are_told_from_absent_ones() -> None:
    events = changed(usual(800), 0.05, lambda _: None, invalid=True)
    assert set(found(events)) == {("amount", Kind.INVALID)}


@pytest.mark.parametrize(("share", "heard"), [(0.02, False), (0.2, True)])
def test_invalid_values_are_held_against_those_of_training(share: float, heard: bool) -> None:
    """A source of which two percent have always been invalid is no alarm every night."""
    absent = [None if n % 100 == 1 else value for n, value in enumerate(TRAINING)]
    values = [None if n % 50 == 0 else value for n, value in enumerate(absent)]
    invalid = {"amount": values.count(None) - absent.count(None)}
    watch = Watch(fit_reference(make_definition(), {"amount": values}, invalid))
    watch.note(changed(usual(800, apart=9 * SECOND), share, lambda _: None, invalid=True))
    assert (("amount", Kind.INVALID) in watch.lasting) == heard
    assert ("amount", Kind.MISSING) not in watch.lasting


def test_values_outside_of_what_training_saw_are_found_where_no_unit_explains_them() -> None:
    events = changed(usual(800), 0.05, lambda _: 2e9)
    assert set(found(events)) == {("amount", Kind.OUT_OF_RANGE)}


def test_a_rare_strange_value_is_no_finding() -> None:
    assert found(changed(usual(2_000), 0.004, lambda _: 1e7)) == {}


def test_few_events_prove_nothing() -> None:
    assert found([event(NOON + n * SECOND, None) for n in range(49)]) == {}


def test_finding_is_told_once_while_it_lasts_and_again_when_it_returns() -> None:
    bad = [event(NOON + n * 9 * SECOND, None) for n in range(400)]
    good = usual(1_200, start=NOON + HOUR)
    again = [event(NOON + 4 * HOUR + n * 9 * SECOND, None) for n in range(400)]
    watch, begun = Watch(REFERENCE), []
    for each in (*bad, *good):
        begun += watch.note([each])
    assert [finding.kind for finding in begun] == [Kind.MISSING]
    assert watch.lasting == {}
    for each in again:
        begun += watch.note([each])
    assert [finding.kind for finding in begun] == [Kind.MISSING, Kind.MISSING]
    assert watch.lasting["amount", Kind.MISSING].since == begun[1].since


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    watch = Watch(REFERENCE)
    watch.note([event(NOON, None) for _ in range(100)])
    assert watch.lasting
    watch.note(usual(100, start=NOON + HOUR + 5 * MINUTE))
    assert not watch.lasting


@given(n=st.integers(1, 60), share=st.floats(0.01, 1), p=st.sampled_from([0.001, 0.01, 0.1, 0.3]))
def test_tail_is_that_of_the_binomial_distribution(n: int, share: float, p: float) -> None:
    k = max(1, round(n * share))
    assume(k >= n * p)
    exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert upper_tail(n, k, p) == pytest.approx(exact, rel=1e-9)


def test_reference_keeps_quantiles_of_numbers_and_shares_of_the_rest() -> None:
    definition = make_definition()
    columns: dict[str, Sequence[Any]] = {
        "amount": [float(n) for n in range(1_001)] + [None],
        "channel": ["web", "web", "web", None],
    }
    reference = fit_reference(definition, columns)
    assert reference["channel"] == FieldReference(4, 1, 1.0)
    amount = reference["amount"]
    assert (amount.events, amount.missing, amount.commonest) == (1_002, 1, 1 / 1_001)
    assert amount.quantiles == tuple(round(level * 1_000) for level in LEVELS)
    assert "discount" not in reference


def test_batch_tells_what_began_in_it_and_scores_are_as_without_a_watch() -> None:
    lab, plain = Lab(), Lab()
    lab.stream._watch = Watch(REFERENCE)
    batch = [
        record(payment(n, NOON + n * SECOND, amount=None), NOON + n * SECOND, n) for n in range(100)
    ]
    outcome = lab.stream.score(batch)
    plain.stream.score(batch)
    assert {(each.field, each.kind) for each in outcome.findings} == {
        ("amount", Kind.MISSING), ("channel", Kind.MISSING),
    }  # fmt: skip
    assert lab.scores.records == plain.scores.records
    assert lab.states.items == plain.states.items
