"""Holes in history: how many, the same for a seed, and what becomes of the events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Misconfigured
from headrace.offline.holes import UNSEEN, HoleMaker, Holes
from headrace.scores import Rung
from tests.fakes import HOUR, NOON, SECOND, Lab, dispute, make_definition, payment, record

if TYPE_CHECKING:
    from headrace.events import Record

EVENTS = 4_000
HISTORY = [
    record(payment(n, NOON + n * 4 * SECOND, amount=1 + n % 50), NOON + n * 4 * SECOND, n)
    for n in range(EVENTS)
]
ALL = Holes.parse("absent=0.1,negative=0.02,text=0.02,unseen=0.05,cents=0.02", seed=3)


def pierced(holes: Holes, cut: int = 1_000) -> tuple[list[Record], HoleMaker]:
    maker = HoleMaker(make_definition(), holes)
    parts = [maker.pierced(HISTORY[n : n + cut]) for n in range(0, EVENTS, cut)]
    return [each for part in parts for each in part], maker


def test_holes_are_made_in_their_shares_and_counted() -> None:
    found, maker = pierced(ALL)
    events = [json.loads(each.data) for each in found]
    assert maker.made["absent"] == sum("amount" not in each for each in events)
    assert maker.made["text"] == sum(isinstance(each.get("amount"), str) for each in events)
    numbers = [e["amount"] for e in events if isinstance(e.get("amount"), (int, float))]
    assert maker.made["negative"] == sum(number < 0 for number in numbers)
    assert maker.made["unseen"] == sum(str(each["shop_id"]).startswith(UNSEEN) for each in events)
    for kind, share in {"absent": 0.1, "negative": 0.02, "text": 0.02, "unseen": 0.05}.items():
        assert maker.made[kind] == pytest.approx(share * EVENTS, rel=0.3)


def test_amounts_come_in_cents_within_one_hour_only() -> None:
    found, maker = pierced(Holes.parse("cents=0.5", hour=NOON + HOUR))
    at = [r.arrival for r, old in zip(found, HISTORY, strict=True) if r.data != old.data]
    changed = [json.loads(r.data)["amount"] for r in found]
    assert maker.made["cents"] == sum(amount > 50 for amount in changed) > 300
    assert all(NOON + HOUR <= each.arrival < NOON + 2 * HOUR
               for each, amount in zip(found, changed, strict=True) if amount > 50)  # fmt: skip
    assert len(at) == EVENTS  # encoded anew, the values of the others unchanged


@pytest.mark.parametrize("cut", [1, 7, EVENTS])
def test_holes_do_not_depend_on_where_records_are_cut(cut: int) -> None:
    assert [r.data for r in pierced(ALL, cut)[0]] == [r.data for r in pierced(ALL)[0]]


def test_another_seed_makes_other_holes() -> None:
    other = Holes.parse("absent=0.1", seed=4)
    assert pierced(other)[0] != pierced(Holes.parse("absent=0.1", seed=5))[0]


def test_without_holes_and_for_other_sources_records_stay_as_they_are() -> None:
    maker = HoleMaker(make_definition(), Holes.parse("absent=1"))
    labels = [record(dispute(1), NOON)]
    assert maker.pierced(labels) == labels
    assert pierced(Holes())[0] == HISTORY


def test_every_event_with_holes_is_scored_or_quarantined() -> None:
    lab = Lab()
    found, maker = pierced(ALL)
    outcome = lab.stream.score(found)
    assert outcome.scored + sum(outcome.quarantined.values()) == EVENTS
    # cents push amounts of over ten beyond the bound of a thousand
    assert outcome.quarantined["wrong_type"] == maker.made["text"]
    assert outcome.quarantined["out_of_bounds"] >= maker.made["negative"]
    assert {each.rung for each in lab.scores.records.values()} == {Rung.REAL_TIME}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone=0.1", "got 'gone'; expected absent, negative, text, unseen, cents"),
        ("absent=2", "absent is '2'; expected a share from 0 to 1"),
        ("absent", "absent is ''; expected a share"),
        ("absent=0.6,text=0.6", "more than all events together"),
    ],
)
def test_holes_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        Holes.parse(text)
