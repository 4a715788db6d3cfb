"""States of history are written beside what a stream has stored, once, and never over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.adapters.memory import MemoryScores
from headrace.errors import Misconfigured, StoreUnavailable
from headrace.merging import Fit, merge
from headrace.offline.seed_parts import History, fold_part, name_of, parts_of
from headrace.ports import StateWrite, StoredState
from headrace.recent import Recent
from headrace.seeding import FoldedPart, Part, Progress, Seeder, SeedRun
from tests.fakes import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    CrashedError,
    FailingScores,
    FailingStates,
    Lab,
    payment,
    records,
)
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
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.definition import Definition

BEGUN = HAND_OVER - 40 * MINUTE  # when a stream starts that does not wait for history


def seed(lab: Lab, writes: list[StateWrite]) -> Progress:
    progress = Progress()
    Seeder(lab.scorer.codec, lab.states, lab.clock).seed(writes, progress)
    return progress


@pytest.mark.parametrize("make", [exact, hop, lifetime, revised])
@pytest.mark.parametrize(
    ("begun", "seen"),
    [(-160 * MINUTE, -20 * MINUTE), (-40 * MINUTE, 100 * MINUTE)],
    ids=["behind the hand-over", "beyond the hand-over"],
)
def test_history_joins_what_a_stream_has_stored_that_was_faster(
    make: Callable[[], Definition], begun: int, seen: int, tmp_path: Path
) -> None:
    definition, files = make(), write_history(tmp_path, 21)
    tape, writes = Tape(definition, files), seeds(definition, History(files, HAND_OVER))
    whole, live = Lab(definition), Lab(definition)

    stream(live, tape.between(HAND_OVER + begun, HAND_OVER + seen), 20)
    there = len(live.states.items)
    progress = seed(live, writes)
    stream(live, tape.between(HAND_OVER + seen, END), 20)
    stream(whole, tape.between(0, END), 20)

    assert there > 5
    assert progress.counts["merged"] > 5
    assert progress.counts["written"] > 5
    assert sum(progress.counts.values()) == len(writes)
    after = tape.between(HAND_OVER + 2 * HOUR, END)
    assert_equal(scores(live, after), scores(whole, after))


@pytest.mark.parametrize("make", [exact, hop, revised])
def test_seeding_again_while_the_stream_goes_on_changes_nothing(
    make: Callable[[], Definition], tmp_path: Path
) -> None:
    definition, files = make(), write_history(tmp_path, 22)
    tape, writes = Tape(definition, files), seeds(definition, History(files, HAND_OVER))
    lab = Lab(definition)
    seed(lab, writes)
    stream(lab, tape.between(HAND_OVER - HOUR, HAND_OVER + HOUR), 20)
    before = dict(lab.states.items)

    progress = seed(lab, writes)

    assert progress.counts == {"there": len(writes)}
    assert lab.states.items == before


def test_state_of_a_lifetime_that_has_grown_is_left_alone_and_named(tmp_path: Path) -> None:
    definition, files = lifetime(), write_history(tmp_path, 22)
    tape, writes = Tape(definition, files), seeds(definition, History(files, HAND_OVER))
    lab = Lab(definition)
    seed(lab, writes)
    stream(lab, tape.between(HAND_OVER - HOUR, HAND_OVER + HOUR), 20)
    before = dict(lab.states.items)

    progress = seed(lab, writes)

    assert set(progress.counts) == {"there", "apart"}
    assert all(key.startswith("shop#") for key in progress.apart)
    assert lab.states.items == before


def test_state_whose_events_went_into_tiles_is_left_alone_and_named(tmp_path: Path) -> None:
    definition, files = hop(), write_history(tmp_path, 23)
    tape, writes = Tape(definition, files), seeds(definition, History(files, HAND_OVER))
    lab = Lab(definition)
    stream(lab, tape.between(HAND_OVER - 9 * HOUR, HAND_OVER), 20)
    before = dict(lab.states.items)

    progress = seed(lab, writes)

    assert progress.counts["apart"] > 5
    assert len(progress.apart) == progress.counts["apart"]
    for key in progress.apart:
        assert lab.states.items[key] == before[key]


def test_state_that_cannot_be_read_is_left_alone_and_named() -> None:
    lab = Lab()
    lab.states.items["card#1"] = StoredState(3, b"of another program")

    progress = seed(lab, [StateWrite("card#1", 0, b"history", None)])

    assert progress.apart == ["card#1"]
    assert lab.states.items["card#1"] == StoredState(3, b"of another program")


def test_merge_keeps_the_newest_scored_event_whichever_side_has_it() -> None:
    history, stored = Lab(), Lab()
    stream(history, records([payment(1), payment(2, NOON + HOUR)], NOON + HOUR), 1)
    stream(stored, records([payment(3, NOON + HOUR // 2)], NOON + HOUR), 1)
    codec = history.scorer.codec
    ours = codec.decode("card#1", *history.states.items["card#1"])
    theirs = codec.decode("card#1", *stored.states.items["card#1"])

    found = merge(codec, ours, theirs)

    assert found.fit is Fit.MERGED
    assert found.state is not None
    assert found.state.last_id == "2"
    assert found.state.version == 1


def test_orders_of_arrival_are_joined_and_the_streams_own_counts() -> None:
    ours, theirs = Recent(), Recent()
    for name, second in (("a", 1), ("b", 3), ("c", 5)):
        ours.note(name.encode() * 6, second * SECOND)
    for name, second in (("d", 2), ("b", 4), ("e", 4)):
        theirs.note(name.encode() * 6, second * SECOND)

    found = ours.joined(theirs)

    assert found.pairs() == [
        (second, name.encode() * 6)
        for name, second in (("a", 1), ("d", 2), ("b", 4), ("e", 4), ("c", 5))
    ]


def test_race_with_the_stream_is_merged_again_and_loses_nothing(tmp_path: Path) -> None:
    definition, files = exact(), write_history(tmp_path, 24)
    tape, writes = Tape(definition, files), seeds(definition, History(files, HAND_OVER))
    states = FailingStates()
    lab, whole = Lab(definition, states=states), Lab(definition)
    coming = iter([tape.between(HAND_OVER, HAND_OVER + HOUR), []])
    stream(lab, tape.between(BEGUN, HAND_OVER), 20)

    def race(_: list[str]) -> None:
        states.races = None
        stream(lab, next(coming), 20)

    states.races = race
    progress = seed(lab, writes)
    stream(whole, tape.between(0, HAND_OVER + HOUR), 20)

    assert next(coming) == []
    assert sum(progress.counts.values()) == len(writes)
    expected = views(whole)
    assert set(views(lab)) == set(expected)
    stream(lab, tape.between(HAND_OVER + HOUR, END), 20)
    stream(whole, tape.between(HAND_OVER + HOUR, END), 20)
    after = tape.between(HAND_OVER + HOUR, END)
    assert_equal(scores(lab, after), scores(whole, after))


def test_writes_that_fail_are_tried_again(tmp_path: Path) -> None:
    files = write_history(tmp_path, 25)
    writes = seeds(exact(), History(files, HAND_OVER))
    states = FailingStates()
    states.refused = {writes[0].key: 3, writes[1].key: 1}
    lab = Lab(states=states)

    progress = seed(lab, writes)

    assert progress.counts == {"written": len(writes)}
    assert lab.clock.now() > NOON


def test_store_that_goes_on_failing_stops_the_seeding_with_its_reason(tmp_path: Path) -> None:
    files = write_history(tmp_path, 26)
    writes = seeds(exact(), History(files, HAND_OVER))
    states = FailingStates()
    states.refused = {writes[0].key: 99}
    lab, progress = Lab(states=states), Progress()
    seeder = Seeder(lab.scorer.codec, states, lab.clock)

    with pytest.raises(StoreUnavailable, match=rf"1 of {len(writes)} states .*told to fail"):
        seeder.seed(writes, progress)

    assert progress.counts == {"written": len(writes) - 1}


class Seeding:
    """A seeding in many parts that can be killed after some writes."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.folder, self.history = folder_for(exact()), History(files, HAND_OVER)
        self.parts = parts_of(self.folder, self.history, 100)
        self.lab, self.notes = Lab(), MemoryScores()
        self.folded: list[Part] = []

    def run(self, killed_after: int | None = None) -> Progress:
        seeder = Seeder(self.lab.scorer.codec, self.lab.states, self.lab.clock)
        name = name_of(self.folder, self.history, self.parts)
        run, done = SeedRun(seeder, self.notes, name), 0
        run.resume()

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if killed_after is not None and done > killed_after:
                raise CrashedError

        run.run(self.folds(run.left(self.parts)), advance)
        return run.progress

    def folds(self, parts: list[Part]) -> Iterator[FoldedPart]:
        for part in parts:
            self.folded.append(part)
            yield fold_part(self.folder, self.history, part)


@pytest.mark.parametrize("killed_after", [0, 10, 25])
def test_seeding_that_was_killed_goes_on_and_ends_the_same(
    killed_after: int, tmp_path: Path
) -> None:
    files = write_history(tmp_path, 27)
    whole, cut = Seeding(files), Seeding(files)
    expected = whole.run()

    with pytest.raises(CrashedError):
        cut.run(killed_after)
    begun = len(cut.folded)
    progress = cut.run()

    assert cut.lab.states.items == whole.lab.states.items
    assert len(cut.folded) == len(cut.parts) + 1  # the one in which it was killed, twice
    assert begun < len(cut.parts)
    assert progress.done == expected.done
    total = progress.counts["written"] + progress.counts["there"]
    assert total == expected.counts["written"]
    assert progress.counts["there"] > 0
    assert progress.counts["events"] == expected.counts["events"]


def test_seeding_that_is_done_folds_and_writes_nothing_again(tmp_path: Path) -> None:
    seeding = Seeding(write_history(tmp_path, 28))
    first = seeding.run()
    folded = len(seeding.folded)

    assert seeding.run() == first
    assert len(seeding.folded) == folded


def test_another_history_or_instant_is_another_seeding(tmp_path: Path) -> None:
    files = write_history(tmp_path, 29)
    folder, history = folder_for(exact()), History(files, HAND_OVER)
    parts = parts_of(folder, history)
    later, active = History(files, END), History(files, HAND_OVER, NOON)

    names = {name_of(folder, each, parts) for each in (history, history, later, active)}

    assert len(names) == 3


def test_progress_of_two_at_once_is_refused_and_states_stay_right(tmp_path: Path) -> None:
    seeding = Seeding(write_history(tmp_path, 30))
    name = name_of(seeding.folder, seeding.history, seeding.parts)
    run = SeedRun(Seeder(seeding.lab.scorer.codec, seeding.lab.states, seeding.lab.clock),
                  seeding.notes, name)  # fmt: skip
    run.resume()
    seeding.run()
    before = dict(seeding.lab.states.items)

    with pytest.raises(Misconfigured, match="another process seeds the same history"):
        run.run(seeding.folds(seeding.parts), lambda _: None)

    assert seeding.lab.states.items == before


def test_progress_whose_answer_was_lost_is_known_again(tmp_path: Path) -> None:
    seeding = Seeding(write_history(tmp_path, 31))
    seeding.notes = FailingScores()
    seeding.notes.lost_answers.fail()

    with pytest.raises(StoreUnavailable):
        seeding.run()
    progress = seeding.run()

    assert sum(len(numbers) for numbers in progress.done.values()) == len(seeding.parts)
    stored = next(iter(seeding.notes.progress_of.values()))
    assert msgspec.json.decode(stored, type=Progress) == progress
