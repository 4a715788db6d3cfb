"""A stream goes on from states that history gave, without gap or double count."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

import polars as pl
import pytest

from headrace.offline.seed_parts import (
    History,
    fold_part,
    folded_parts,
    folder_of,
    newest_arrival,
    parts_of,
)
from headrace.offline.simulator import Plan, simulate
from headrace.seeding import Part, Progress, Seeder
from tests.fakes import DAY, HOUR, MINUTE, NOON, Lab
from tests.histories import (
    END,
    HAND_OVER,
    Tape,
    assert_equal,
    exact,
    folder_for,
    hop,
    lifetime,
    revised,
    scores,
    seeds,
    stream,
    views,
    write_history,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.definition import Definition

KINDS = pytest.mark.parametrize("make", [exact, hop, lifetime, revised])


def seeded(definition: Definition, history: History) -> Lab:
    """A stream whose states come from history."""
    lab, progress = Lab(definition), Progress()
    writes = seeds(definition, history)
    Seeder(lab.scorer.codec, lab.states, lab.clock).seed(writes, progress)
    assert progress.counts == {"written": len(writes)}
    return lab


@pytest.mark.parametrize(
    ("make", "delay"),
    [(exact, 0), *((make, 90 * MINUTE) for make in (exact, hop, lifetime, revised))],
)
def test_stream_that_starts_before_the_hand_over_ends_as_one_that_never_stopped(
    make: Callable[[], Definition], delay: int, tmp_path: Path
) -> None:
    definition, files = make(), write_history(tmp_path, 1, delay, twice=0)
    tape = Tape(definition, files)
    whole, handed_over = Lab(definition), seeded(definition, History(files, HAND_OVER))
    again = tape.between(HAND_OVER - HOUR, END + DAY)
    assert len(tape.between(HAND_OVER - HOUR, HAND_OVER)) > 2

    stream(whole, tape.between(0, END + DAY), 1)
    stream(handed_over, again, 1)

    items = {key: stored.data for key, stored in handed_over.states.items.items()}
    assert items == {key: stored.data for key, stored in whole.states.items.items()}
    assert_equal(scores(handed_over, again), scores(whole, again))


@KINDS
def test_hand_over_does_not_depend_on_where_the_stream_cuts_batches(
    make: Callable[[], Definition], tmp_path: Path
) -> None:
    definition, files = make(), write_history(tmp_path, 2)
    tape = Tape(definition, files)
    whole, handed_over = Lab(definition), seeded(definition, History(files, HAND_OVER))
    again = tape.between(HAND_OVER - HOUR, END + DAY)

    stream(whole, tape.between(0, END + DAY), 50)
    stream(handed_over, again, 7)

    assert views(handed_over) == views(whole)
    # Of a dispute and its correction a state keeps one: what came before it is told after it only.
    told = again if make is not revised else tape.between(HAND_OVER, END + DAY)
    assert_equal(scores(handed_over, told), scores(whole, told))


def test_stream_that_starts_long_before_the_hand_over_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    definition, files = exact(), write_history(tmp_path, 4)
    tape = Tape(definition, files)
    whole, handed_over = Lab(definition), seeded(definition, History(files, HAND_OVER))

    stream(whole, tape.between(0, END), 25)
    stream(handed_over, tape.between(HAND_OVER - DAY, END), 25)

    assert views(handed_over) == views(whole)
    remembered = tape.between(HAND_OVER - HOUR, END)
    assert_equal(scores(handed_over, remembered), scores(whole, remembered))


def test_events_that_happened_before_the_hand_over_and_arrive_after_it_are_counted_once(
    tmp_path: Path,
) -> None:
    definition, files = exact(), write_history(tmp_path, 6)
    tape = Tape(definition, files)
    whole, lab = Lab(definition), seeded(definition, History(files, HAND_OVER))
    decoder = lab.scorer.decoder
    events = [decoder.decode(r.data, r.arrival) for r in tape.between(HAND_OVER, END)]
    across = [event for event in events if event.time < HAND_OVER and not event.late]
    again = tape.between(HAND_OVER - HOUR, HAND_OVER + 3 * HOUR)

    stream(lab, again, 20)
    stream(lab, again, 20)
    stream(whole, tape.between(0, HAND_OVER + 3 * HOUR), 20)

    assert len(across) > 3
    assert views(lab) == views(whole)


@KINDS
def test_parts_together_are_the_whole(make: Callable[[], Definition], tmp_path: Path) -> None:
    definition, files = make(), write_history(tmp_path, 6)
    folder, history = folder_for(definition), History(files, HAND_OVER)
    cut = parts_of(folder, history, 100)

    whole, parts = seeds(definition, history), seeds(definition, history, 100)

    assert {part.total for part in cut} != {1}
    by_key = attrgetter("key")
    assert len(set(map(by_key, parts))) == len(parts)
    assert sorted(parts, key=by_key) == sorted(whole, key=by_key)


def test_folder_of_files_is_one_history(tmp_path: Path) -> None:
    files = write_history(tmp_path, 7)
    lake = tmp_path / "lake"
    lake.mkdir()
    for number, part in enumerate(pl.read_parquet(files["payments"]).iter_slices(100)):
        part.write_parquet(lake / f"{number:03}.parquet")

    one, many = History(files, HAND_OVER), History(files | {"payments": lake}, HAND_OVER)
    assert seeds(exact(), many) == seeds(exact(), one)


def test_only_entities_that_were_active_are_seeded(tmp_path: Path) -> None:
    files, since = write_history(tmp_path, 8), HAND_OVER - 3 * HOUR
    folder = folder_for(exact())
    codec = folder.codec
    (part,) = [p for p in parts_of(folder, History(files, HAND_OVER)) if p.entity == "card"]

    everyone = fold_part(folder, History(files, HAND_OVER), part).writes
    active = fold_part(folder, History(files, HAND_OVER, since), part).writes

    newest = {w.key: codec.decode(w.key, 1, w.data).newest_arrival for w in everyone}
    assert 0 < len(active) < len(everyone)
    assert active == [write for write in everyone if newest[write.key] >= since]


def test_states_in_which_nothing_can_matter_any_more_are_not_written(tmp_path: Path) -> None:
    files = write_history(tmp_path, 9)
    folder, later = folder_for(exact()), History(files, NOON + 100 * DAY)

    found = fold_part(folder, later, Part("card", 0, 1))

    assert found.writes == []
    assert found.counts["expired"] == 30


def test_refused_events_are_counted_once_however_many_entities_they_have(tmp_path: Path) -> None:
    files = write_history(tmp_path, 10)
    frame = pl.read_parquet(files["payments"]).with_columns(
        items=pl.when(pl.col("payment_id") < 3).then(None).otherwise(pl.col("items"))
    )
    frame.write_parquet(files["payments"])
    folder, history = folder_for(exact()), History(files, END + DAY)

    found = [fold_part(folder, history, part) for part in parts_of(folder, history)]

    rows = len(frame.filter(pl.col("payment_id") < 3))
    assert sum(part.counts["refused missing"] for part in found) == rows


def test_a_card_with_more_events_than_a_batch_is_as_the_stream_leaves_it(tmp_path: Path) -> None:
    files = write_history(tmp_path, 11)
    frame = pl.read_parquet(files["payments"]).with_columns(card_id=pl.lit(1))
    frame.write_parquet(files["payments"])
    definition = exact()
    whole = Lab(definition)

    stream(whole, Tape(definition, files).between(0, HAND_OVER), 1)
    found = {write.key: write.data for write in seeds(definition, History(files, HAND_OVER))}

    assert len(frame) > 450
    assert found["card#1"] == whole.states.items["card#1"].data


@pytest.mark.slow
def test_processes_fold_what_one_does(root: Path, tmp_path: Path) -> None:
    traffic = simulate(Plan(customers=20, terminals=30, days=10))
    files = {"transactions": tmp_path / "e.parquet", "labels": tmp_path / "l.parquet"}
    traffic.events.write_parquet(files["transactions"])
    traffic.labels.write_parquet(files["labels"])
    model = root / "layers" / "model"
    folder = folder_of(model)
    history = History(files, 0)
    history = replace(history, until=newest_arrival(folder, history) + 1)
    parts = parts_of(folder, history, 200)

    alone = list(folded_parts(model, history, parts, 1))
    together = list(folded_parts(model, history, parts, 2))

    assert len(parts) > 4
    assert [each.writes for each in together] == [each.writes for each in alone]
    assert sum(len(each.writes) for each in alone) > 40
