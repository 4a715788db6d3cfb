"""States of a history written before a replay: into an empty table, whatever answers get lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.adapters.memory import MemoryStates
from headrace.errors import Unavailable
from headrace.local.stream_replay import seed
from headrace.ports import StateWrite
from headrace.scoring import Scorer
from tests.fakes import NOON, make_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import WriteOutcome

KEYS = ("card#7", "shop#8")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(make_bundle())


def history(scorer: Scorer, arrival: int = NOON) -> MemoryStates:
    """States of two entities."""
    states = MemoryStates()
    for key in KEYS:
        state = scorer.codec.empty(key)
        state.note_arrival(arrival)
        states.write([StateWrite(key, 0, scorer.codec.encode(state), None)])
    return states


class LosesItsAnswer(MemoryStates):
    """Commits a write whose answer never comes, so that the client sends it again."""

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        super().write(writes)
        return super().write(writes)


def test_write_that_was_sent_again_is_no_state_of_somebody_else(scorer: Scorer) -> None:
    states, store = history(scorer), LosesItsAnswer()
    seed(scorer, states, store)

    assert {key: stored.data for key, stored in store.items.items()} == {
        key: stored.data for key, stored in states.items.items()
    }


def test_another_state_in_the_table_is_refused_unless_a_replay_goes_on(scorer: Scorer) -> None:
    store = MemoryStates()
    seed(scorer, history(scorer), store)
    later = history(scorer, NOON + 60_000_000)

    with pytest.raises(Unavailable, match="2 of 2 states are in the table already; expected an"):
        seed(scorer, later, store)
    seed(scorer, later, store, resume=True)
