"""Writes keep within a budget of units, whatever their sizes."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from headrace.adapters.capacity import write_units
from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryStates
from headrace.adapters.paced import PacedStates, WriteBudget
from headrace.ports import Segment, StateWrite, StoredState, WriteOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000


@pytest.mark.parametrize("rate", [1, 7.5, 100, 4_000])
def test_no_stretch_of_time_has_more_units_than_the_budget_and_its_burst(rate: float) -> None:
    clock, random = FixedClock(), Random(1)
    budget, taken = WriteBudget(rate, clock), []
    for _ in range(400):
        units = random.randrange(1, 12)
        budget.take(units)
        taken.append((clock.now(), units))
        if random.random() < 0.05:
            clock.sleep(random.random() * 5)

    for first in range(0, len(taken), 7):
        total = 0
        for time, units in taken[first:]:
            total += units
            seconds = (time - taken[first][0]) / SECOND
            assert total <= rate * (seconds + 1) + 12 + 1e-6


def test_budget_is_used_up_where_there_is_always_more_to_write() -> None:
    clock = FixedClock()
    budget = WriteBudget(100, clock)

    for _ in range(1_000):
        budget.take(3)

    assert clock.now() / SECOND == pytest.approx(30, rel=0.02)


def test_item_larger_than_the_bucket_is_written_all_the_same_and_paid_for() -> None:
    clock = FixedClock()
    budget = WriteBudget(10, clock)

    budget.take(35)
    budget.take(5)

    assert clock.now() / SECOND == pytest.approx(4, rel=0.02)


def test_clock_that_is_set_back_gives_no_units() -> None:
    clock = FixedClock(100 * SECOND)
    budget = WriteBudget(10, clock)
    budget.take(10)
    clock.set(0)

    budget.take(5)

    assert clock.now() / SECOND == pytest.approx(0.5, rel=0.02)


class Watched(MemoryStates):
    """Notes when what was written, and fails what it is told to."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__()
        self.clock, self.calls = clock, list[tuple[int, int]]()

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        self.calls.append((self.clock.now(), sum(map(write_units, writes))))
        outcome = super().write([each for each in writes if each.key != "card#13"])
        failed = {w.key: "told to fail" for w in writes if w.key == "card#13"}
        return WriteOutcome(outcome.lost, failed)


def test_states_are_written_a_few_at_a_time_and_every_outcome_is_told() -> None:
    clock = FixedClock()
    states = Watched(clock)
    paced = PacedStates(states, WriteBudget(40, clock))
    writes = [StateWrite(f"card#{n}", 0, bytes(n * 100), None) for n in range(30)]
    states.items["card#7"] = StoredState(1, b"there")

    outcome = paced.write(writes)

    assert outcome == WriteOutcome(frozenset({"card#7"}), {"card#13": "told to fail"})
    total = sum(map(write_units, writes))
    assert sum(units for _, units in states.calls) == total
    assert max(units for _, units in states.calls) <= 10
    assert clock.now() / SECOND == pytest.approx(total / 40, rel=0.1)
    assert paced.read(["card#29"])["card#29"].data == writes[29].data
    assert len(paced.scan("card", Segment(0, 1), None).items) == 29
