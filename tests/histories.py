"""A few days of payments and disputes as files, and runs over them with and without a hand-over."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

from headrace.definition import LIFETIME, Definition, Number, days, hours
from headrace.events import us_to_time
from headrace.offline.feed import Feed, arrivals, feed_of, records
from headrace.offline.seed_parts import Folder, History, fold_part, parts_of
from headrace.recent import Recent
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Lab,
    disputes,
    make_bundle,
    make_definition,
    payments,
    risk,
    spending,
    spread,
    traffic,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.events import Record
    from headrace.ports import StateWrite
    from headrace.scores import ScoreRecord

HAND_OVER = NOON + 3 * DAY
END = NOON + 4 * DAY


def exact() -> Definition:
    """Every row is kept."""
    return make_definition()


def hop() -> Definition:
    """What is older than lateness and an hour is in tiles."""
    views = [replace(view, hop=hours(1)) for view in (spending, spread, traffic)]
    return make_definition(views=[*views, risk])


def lifetime() -> Definition:
    """Some windows reach back for ever."""
    ever = replace(traffic, windows=[days(1), LIFETIME])
    return make_definition(
        views=[spending, spread, ever, risk],
        inputs=[n for n in make_definition().inputs if not n.startswith("shop_")]
        + [*ever.features, *risk.features],
    )


def revised() -> Definition:
    """A dispute may be corrected."""
    fields = {**disputes.fields, "revision": Number()}
    source = replace(disputes, fields=fields, revised_by="revision")
    return make_definition(
        sources=[payments, source],
        views=[spending, spread, traffic, replace(risk, source=source)],
        label=replace(make_definition().label, source=source),
    )


def write_history(
    folder: Path, seed: int, delay: int = 90 * MINUTE, twice: float = 0.1
) -> dict[str, Path]:
    """Four days of events, out of order by up to ``delay`` and a share of them twice.

    Returns:
        Source name -> Parquet file.
    """
    random = Random(seed)
    paid: list[dict[str, Any]] = []
    disputed: list[dict[str, Any]] = []
    for number in range(450):
        time = NOON + random.randrange(4 * DAY // SECOND) * SECOND
        keys = {"card_id": random.randrange(30), "shop_id": random.randrange(12)}
        event = {
            "payment_id": number,
            "paid_at": us_to_time(time),
            **keys,
            "amount": random.randrange(100_000) / 100 if random.random() < 0.95 else None,
            "items": random.randrange(5),
        }
        for _ in range(1 + (random.random() < twice)):
            late = random.randrange(delay) if delay and random.random() < 0.5 else 0
            paid.append(event | {"arrival_time": us_to_time(time + late)})
        if random.random() < 0.4:
            after = time + random.randrange(DAY)
            label = {"payment_id": number, "disputed_at": us_to_time(time), **keys}
            for flag in (False, True)[: 1 + (random.random() < 0.3)]:
                known = us_to_time(after + flag * HOUR)
                told = {"is_fraud": flag, "revision": int(flag), "arrival_time": known}
                disputed.append(label | told)
    files = {"payments": folder / "payments.parquet", "disputes": folder / "disputes.parquet"}
    for path, rows in zip(files.values(), (paid, disputed), strict=True):
        pl.DataFrame(rows).write_parquet(path)
    return files


def folder_for(definition: Definition) -> Folder:
    """What folds history with it."""
    return Folder(make_bundle(definition))


def seeds(
    definition: Definition, history: History, rows_per_part: int = 100_000
) -> list[StateWrite]:
    """States of all parts."""
    folder = folder_for(definition)
    parts = parts_of(folder, history, rows_per_part)
    return [write for part in parts for write in fold_part(folder, history, part).writes]


class Tape:
    """All of a history as records, in order of arrival."""

    def __init__(self, definition: Definition, files: dict[str, Path]) -> None:
        self.feeds: list[Feed] = [
            feed_of(pl.read_parquet(files[source.name]), source) for source in definition.sources
        ]
        self._order = arrivals(self.feeds)

    def between(self, start: int, end: int) -> list[Record]:
        """What arrived in [start, end)."""
        part = self._order.filter(pl.col("arrival").is_between(start, end, closed="left"))
        return [record for chunk in records(self.feeds, part, 10_000) for record in chunk]


def views(lab: Lab) -> dict[str, bytes]:
    """Packed states by key, without what depends on where batches are cut.

    These are the order of arrival, which is forgotten batch by batch, and the arrival of an event
    that came twice, which is stored only with something new.
    """
    codec, found = lab.scorer.codec, {}
    for key, stored in lab.states.items.items():
        state = codec.decode(key, *stored)
        state.recent, state.newest_arrival = Recent(), 0
        found[key] = codec.encode(state)
    return found


def stream(lab: Lab, tape: Sequence[Record], batch: int) -> None:
    """Score records in batches; none may fail."""
    for start in range(0, len(tape), batch):
        part = tape[start : start + batch]
        lab.clock.set(part[-1].arrival)
        outcome = lab.stream.score(part)
        assert outcome.failed is None, outcome.error


def scores(lab: Lab, tape: Sequence[Record]) -> dict[str, ScoreRecord]:
    """Score records of the scored events among records, without when they were scored."""
    ids = {lab.scorer.decoder.decode(r.data, r.arrival).id for r in tape if b"payments" in r.data}
    found = lab.scores.records
    return {each: msgspec.structs.replace(found[each], scored_at="") for each in sorted(ids)}


def assert_equal(found: dict[str, ScoreRecord], expected: dict[str, ScoreRecord]) -> None:
    """The same records; features to 1e-9, as sums over tiles depend on their order."""
    bare = {key: msgspec.structs.replace(r, features={}, score=0.0) for key, r in found.items()}
    assert bare == {
        key: msgspec.structs.replace(r, features={}, score=0.0) for key, r in expected.items()
    }
    for key, record in found.items():
        other = expected[key]
        assert record.features == pytest.approx(other.features, rel=1e-9, nan_ok=True), key
        assert record.score == pytest.approx(other.score, rel=1e-9), key
