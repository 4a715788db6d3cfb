"""Features as of other instants than the events' own, against the fold's own look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import EventRejected
from headrace.events import EventDecoder
from headrace.offline.as_of import DAY_US, Known, last_midnight
from headrace.offline.feed import arrivals, records
from headrace.state import StateCodec
from tests import strategies as own
from tests.unit.test_backfill import close, feeds_of, rounded

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.events import Event
    from headrace.offline.feed import Feed
    from tests.strategies import Case

SECOND_US = 1_000_000
OFFSETS = np.array([-9, -4, -3, -1, 0, 0, 1, 2, 30, 100_000]) * SECOND_US


def accepted(definition: Definition, feeds: list[Feed]) -> list[Event]:
    """Every event of all feeds that the decoder takes, in order of arrival."""
    decoder = EventDecoder(definition)
    found = []
    for part in records(feeds, arrivals(feeds), 1_000):
        for record in part:
            try:
                found.append(decoder.decode(record.data, record.arrival))
            except EventRejected:
                continue
    return found


def looked_at(
    definition: Definition, events: list[Event], key: str, as_of: int
) -> dict[str, float | None]:
    """What the fold of everything that had arrived says of one entity as of an instant."""
    found: dict[str, float | None] = {}
    folds = StateCodec(definition).folds[key.partition("#")[0]]
    for fold in folds:
        if fold.view not in definition.scored_views:
            continue
        state = fold.empty()
        for event in events:
            mine = event.source == fold.view.source and key in event.keys.values()
            if mine and event.arrival <= as_of:
                fold.fold(state, event)
        found |= zip(fold.features, fold.look(state, as_of).features, strict=True)
    return found


@settings(max_examples=40)
@given(own.cases(), st.integers(0, 2**32 - 1))
def test_features_as_of_any_instant_are_what_the_fold_says_then(case: Case, seed: int) -> None:
    definition, feeds = case.definition, feeds_of(case)
    known = Known.of(definition, feeds)
    scored = known.scored
    as_of = scored.time + np.random.default_rng(seed).choice(OFFSETS, len(scored))
    events = accepted(definition, feeds)
    found = known.stored_as_of(as_of)
    if not scored.ids_are_unique:  # rows of first arrivals only: which is told by their features
        return
    inexact = rounded(definition)
    every = np.arange(len(scored))
    for event, at, row in zip(
        scored.events(every), as_of.tolist(), found.iter_rows(named=True), strict=True
    ):
        for key in event.keys.values():
            for name, value in looked_at(definition, events, key, at).items():
                same = row[name] == value or (name in inexact and close(row[name], value))
                assert same, (name, row[name], value)


def test_last_midnight_is_before_an_event_and_never_at_it() -> None:
    times = np.array([0, 1, DAY_US - 1, DAY_US, DAY_US + 1]) + 5 * DAY_US
    assert (last_midnight(times) // DAY_US).tolist() == [4, 5, 5, 5, 6]
