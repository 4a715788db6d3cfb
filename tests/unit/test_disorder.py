"""State and scores are as if every event had come once and in order, whatever the stream did."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.clock import FixedClock
from headrace.definition import (
    Aggregate,
    Count,
    Definition,
    Label,
    Max,
    Mean,
    Number,
    Std,
    Sum,
    View,
    days,
    hours,
)
from headrace.loading import checked
from headrace.recent import MOST, Recent
from tests.fakes import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Lab,
    card,
    dispute,
    disputes,
    payment,
    payments,
    record,
    records,
    shop,
    without_order,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from headrace.events import Record

revised = replace(disputes, fields={**disputes.fields, "revision": Number()}, revised_by="revision")
ALL: list[Aggregate] = [Count(), Sum("amount"), Mean("amount"), Std("amount"), Max("amount")]


def definition_of(hop: timedelta | None = None) -> Definition:
    """Payments by card, and disputes by shop, which may be revised."""
    paid = View(name="paid", entity=card, source=payments, aggregates=ALL,
                windows=[hours(1), days(1)], hop=hop)  # fmt: skip
    risk = View(name="risk", entity=shop, source=revised, aggregates=[Mean("is_fraud"), Count()],
                windows=[days(1)], hop=hop)  # fmt: skip
    return checked(
        Definition(
            sources=[payments, revised],
            scored=payments,
            views=[paid, risk],
            inputs=["amount"],
            batch_entity=card,
            label=Label(revised, "is_fraud"),
        )
    )


DEFINITIONS = {"exact": definition_of(), "hop": definition_of(hours(1))}
every_kind = pytest.mark.parametrize("kind", DEFINITIONS)


def event_of(number: int, revision: int = 0) -> dict[str, Any]:
    """An event: the same number has the same content, whenever it is sent."""
    seeded = Random(number)
    at = NOON - seeded.randrange(90) * MINUTE - seeded.randrange(3) * SECOND // 2
    keys = {"card_id": seeded.randrange(2), "shop_id": seeded.randrange(2)}
    if number % 3:
        return payment(number, at, **keys, amount=seeded.choice([5.0, 0.25, 17.99, None, 300.0]))
    fraud = bool((number + revision) % 2)
    return dispute(number, at, **keys, is_fraud=fraud, revision=revision)


def arriving(events: Iterable[dict[str, Any]]) -> list[Record]:
    return [record(event, NOON, sequence) for sequence, event in enumerate(events)]


def run(kind: str, events: Iterable[dict[str, Any]], cut: int) -> Lab:
    """Score batches of ``cut`` records."""
    lab, found = Lab(DEFINITIONS[kind]), arriving(events)
    for start in range(0, len(found), cut):
        assert lab.stream.score(found[start : start + cut]).failed is None
    return lab


def states_of(lab: Lab) -> dict[str, bytes]:
    return without_order(lab.scorer.codec, lab.states.items)


def features_of(lab: Lab, as_of: int = NOON) -> dict[str, list[float | None]]:
    """Features of every entity and view."""
    codec, found = lab.scorer.codec, {}
    for key, stored in lab.states.items.items():
        state = codec.decode(key, *stored)
        for fold in codec.folds[state.entity]:
            features = fold.reader.features_as_of(codec.view(state, fold), as_of)
            found[f"{key} {fold.view.name}"] = features
    return found


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=25)
RANDOM = st.randoms(use_true_random=False)


@every_kind
@given(numbers=NUMBERS, random=RANDOM, cut=st.integers(1, 9))
@settings(max_examples=80)
def test_any_order_and_repetition_within_the_lateness_ends_in_the_same_bytes(
    kind: str, numbers: list[int], random: Random, cut: int
) -> None:
    once = sorted(set(numbers))
    mixed = [*numbers, *once]
    random.shuffle(mixed)
    expected = run(kind, map(event_of, once), 100)
    found = run(kind, map(event_of, mixed), cut)
    assert states_of(found) == states_of(expected)
    assert set(found.scores.records) == {str(n) for n in once if n % 3}


@every_kind
@given(numbers=NUMBERS, random=RANDOM, cut=st.integers(1, 9))
@settings(max_examples=80)
def test_the_last_revision_of_a_label_counts_once_in_whatever_order_they_come(
    kind: str, numbers: list[int], random: Random, cut: int
) -> None:
    last = {number: random.randrange(3) for number in numbers}
    revisions = [(n, r) for n, most in last.items() for r in range(most + 1)]
    mixed = [*revisions, *random.choices(revisions, k=5)]
    random.shuffle(mixed)
    expected = run(kind, [event_of(n, r) for n, r in last.items()], 100)
    found = run(kind, [event_of(n, r) for n, r in mixed], cut)
    assert features_of(found) == features_of(expected)


def test_a_revision_without_its_field_or_too_late_changes_nothing() -> None:
    at = NOON - HOUR
    first = dispute(1, at, is_fraud=True, revision=1)
    same = [dispute(1, at, is_fraud=False), dispute(1, at, is_fraud=False, revision=1)]
    lab = run("exact", [first, *same], 1)
    assert features_of(lab)["shop#1 risk"] == [1.0, 1.0]
    late = record(dispute(1, at, is_fraud=False, revision=2), NOON + 72 * HOUR)
    outcome = lab.stream.score([late])
    assert outcome.late == 1
    assert features_of(lab)["shop#1 risk"] == [1.0, 1.0]


def test_a_revision_may_move_its_event() -> None:
    first = dispute(1, NOON - 2 * HOUR, is_fraud=True)
    moved = dispute(1, NOON - 30 * HOUR, is_fraud=True, revision=1)
    lab = run("exact", [first, moved], 1)
    assert features_of(lab)["shop#1 risk"] == [None, 0.0]
    assert features_of(lab, NOON - 10 * HOUR)["shop#1 risk"] == [1.0, 1.0]


def test_a_skewed_clock_changes_when_a_score_is_dated_and_nothing_else() -> None:
    from tests.fakes import Lab, payment

    labs = [Lab(clock=FixedClock(NOON + skew)) for skew in (0, 3_600 * SECOND, -3_600 * SECOND)]
    for lab in labs:
        assert lab.stream.score(records([payment(n) for n in range(5)])).failed is None
    right, *wrong = labs
    for lab in wrong:
        assert lab.states.items == right.states.items
        assert {k: (r.score, r.features) for k, r in lab.scores.records.items()} == {
            k: (r.score, r.features) for k, r in right.scores.records.items()
        }


# What arrived lately


def recent_of(*seconds: int) -> Recent:
    recent = Recent()
    for number, second in enumerate(seconds):
        recent.note(number.to_bytes(6, "big"), second * SECOND)
    return recent


def test_order_of_arrival_is_remembered() -> None:
    recent = recent_of(5, 6, 6)
    assert recent.after((0).to_bytes(6, "big")) == [n.to_bytes(6, "big") for n in (1, 2)]
    assert recent.after((2).to_bytes(6, "big")) == []
    assert recent.after((3).to_bytes(6, "big")) is None


def test_a_digest_is_found_at_its_place_only() -> None:
    recent = Recent()
    recent.note(b"aaabbb", 0)
    recent.note(b"cccddd", 0)
    assert recent.after(b"bbbccc") is None
    assert recent.after(b"cccddd") == []


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ((), 0),
        ((0, 3_600), 2),
        ((0, 3_601), 1),
        ((3_601, 0), 2),  # they are in order of arrival but for moments; the first one decides
        (tuple(range(MOST + 3)), MOST),
    ],
)
def test_what_can_hardly_come_again_is_forgotten(seconds: Sequence[int], kept: int) -> None:
    met = recent_of(*seconds)
    recent = Recent(met.arrivals.tobytes(), met.digests)
    recent.trim()
    assert (len(recent.arrivals), len(recent.digests)) == (kept, 6 * kept)


def test_what_came_in_this_batch_is_kept_however_long_it_spans() -> None:
    recent = recent_of(0, 9_000, 18_000)
    recent.trim()
    assert list(recent.arrivals) == [0, 9_000, 18_000]
