"""The watch on two months of card events: silent on what is usual, heard where amounts change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from headrace.events import Event, time_to_us
from headrace.loading import load_definition
from headrace.offline.feed import Feed, read_feed
from headrace.offline.splits import Split
from headrace.offline.train import reference_of
from headrace.watch import Finding, Kind, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.definition import Definition

TRAINED_TO = datetime(2018, 5, 1, tzinfo=UTC)
CENTS_FROM = datetime(2018, 5, 12, 14, tzinfo=UTC)


@pytest.fixture(scope="module")
def definition(root: Path) -> Definition:
    return load_definition(root / "layers" / "model" / "definition.py")


@pytest.fixture(scope="module")
def feed(oracle_data: Path, definition: Definition) -> Feed:
    path = oracle_data / "card_events.parquet"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {oracle_data}; the small file has too few an hour")
    return read_feed(path, definition.scored)


def findings(definition: Definition, feed: Feed, frame: pl.DataFrame) -> list[Finding]:
    """What a watch finds in a frame, after training on April."""
    first = datetime(2018, 4, 1, tzinfo=UTC)
    watch = Watch(reference_of(definition, feed, Split(first, TRAINED_TO, TRAINED_TO, TRAINED_TO)))
    times = frame.select(pl.col("event_time").dt.epoch("us"))["event_time"].to_list()
    events = [
        Event(definition.scored, "", b"", at, at, False, {}, SimpleNamespace(amount=amount))
        for at, amount in zip(times, frame["amount"].to_list(), strict=True)
    ]
    return [f for n in range(0, len(events), 500) for f in watch.note(events[n : n + 500])]


def test_nothing_is_found_in_two_months_of_clean_events(definition: Definition, feed: Feed) -> None:
    assert feed.frame.height == 585_177
    assert findings(definition, feed, feed.frame) == []


def test_two_percent_of_amounts_in_cents_are_found_within_their_hour(
    definition: Definition, feed: Feed
) -> None:
    time = pl.col("event_time")
    within = time.is_between(CENTS_FROM, CENTS_FROM + timedelta(hours=1), closed="left")
    some = pl.col("transaction_id") % 50 == 0
    day = feed.frame.filter(time.dt.date() == CENTS_FROM.date())
    changed = day.with_columns(
        amount=pl.col("amount") * pl.when(within & some).then(100).otherwise(1)
    )
    (found,) = findings(definition, feed, changed)
    assert (found.field, found.kind, found.factor) == ("amount", Kind.UNIT_CHANGE, 100.0)
    assert time_to_us(CENTS_FROM) < found.since < time_to_us(CENTS_FROM + timedelta(hours=1))
