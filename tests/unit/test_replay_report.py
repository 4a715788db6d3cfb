"""What a replay tells of itself."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from headrace.adapters.memory import MemoryStates
from headrace.cli.replay_report import lost_events
from headrace.errors import Fault
from headrace.events import Record
from headrace.offline.feed import feed_of
from headrace.offline.replay import Replay, Window
from headrace.ports import Quarantined
from tests.fakes import payments

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVENTS = feed_of(
    pl.DataFrame(
        {"payment_id": [1, 2, 3], "paid_at": [NOON] * 3, "card_id": [7] * 3, "shop_id": [8] * 3}
    ),
    payments,
)


def replay_of(scored: list[int], refused: list[int]) -> Replay:
    kept = [
        Quarantined(Record(b'{"payment_id": %d}' % each, 0, "", ""), (Fault("missing", "", ""),))
        for each in refused
    ]
    return Replay(pl.DataFrame({"payment_id": scored}), MemoryStates(), kept, 0)


@pytest.mark.parametrize(
    ("scored", "refused", "lost"),
    [
        ([1, 2, 3], [], 0),
        ([1, 3], [2], 0),
        ([1, 3], [2, 2], 0),
        ([1, 3], [], 1),
        ([1], [3, 3], 1),  # what came twice and was refused twice stands for no other event
    ],
)
def test_event_is_lost_that_was_neither_scored_nor_refused(
    scored: list[int], refused: list[int], lost: int
) -> None:
    assert lost_events(replay_of(scored, refused), EVENTS, Window()) == lost
