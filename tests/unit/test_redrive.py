"""Redrive in memory: what becomes of kept records, twice, late, and after a crash anywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from headrace.adapters.memory import MemoryKept, MemoryScores, MemoryStates
from headrace.definition import Definition, Label, Number
from headrace.errors import Fault, StoreUnavailable
from headrace.events import us_to_text
from headrace.ports import FAILED_BATCH, Kept, Quarantined, Selection, StateWrite, WriteOutcome
from headrace.redrive import MOST_RECORDS, AsOf, Redriver
from headrace.redriven import MOST_SHOWN
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    CrashedError,
    FailingScores,
    FailingStates,
    Lab,
    dispute,
    disputes,
    make_definition,
    payment,
    payments,
    record,
    records,
    risk,
    spending,
    spread,
    traffic,
    without_order,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.events import Record
    from headrace.scores import ScoreRecord

GIVEN_UP = "RetryAttemptsExhausted"


def mended() -> Definition:
    """The small definition with amounts up to 10,000 instead of 1,000."""
    wide = replace(payments, fields={**payments.fields, "amount": Number(at_most=1e4)})
    views = [replace(view, source=wide) for view in (spending, spread, traffic)]
    return make_definition(
        sources=[wide, disputes],
        scored=wide,
        views=[*views, risk],
        label=Label(disputes, "is_fraud"),
    )


def large(number: int | str, at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A payment that only the mended definition takes."""
    return payment(number, at, amount=5_000.0, **fields)


class Bench:
    """A lab with kept records and a redriver of its own definition over the same stores."""

    def __init__(self, lab: Lab, kept: MemoryKept, definition: Definition | None = None) -> None:
        self.lab, self.kept = lab, kept
        self.scorer = Lab(definition or mended()).scorer
        self.redriver = Redriver(self.scorer, lab.states, lab.scores, kept, lab.clock)

    def ends(self) -> tuple[object, ...]:
        """Everything that a redrive may change."""
        return states_of(self.lab), self.lab.scores.records, self.kept.kept, self.kept.redriven


def states_of(lab: Lab) -> dict[str, bytes]:
    return without_order(lab.scorer.codec, lab.states.items)


def refused_by(definition: Definition | None = None, *given: Record) -> MemoryKept:
    """The quarantine of a run over these records, which scores nothing else."""
    kept = MemoryKept()
    lab = Lab(definition)
    for each in given:
        lab.stream.score([each])
    for refused in lab.quarantine.refused.values():
        kept.put(refused)
    return kept


def failed_batch(given: Iterable[Record], key: str = "batch") -> Kept:
    return Kept(key, GIVEN_UP, tuple(given))


def clean(given: Sequence[Record], clock: Any = None) -> Lab:
    """What a mended definition makes of the records where nothing ever fails."""
    lab = Lab(mended(), clock=clock)
    lab.stream.score(given)
    return lab


def the_scores(lab: Lab) -> dict[str, tuple[float, bool, dict[str, float]]]:
    return {r.id: (r.score, r.late, r.features) for r in lab.scores.records.values()}


def test_refused_record_is_scored_with_the_features_of_its_time() -> None:
    first = record(payment(1, NOON - 30 * MINUTE), NOON - 30 * MINUTE, 1)
    poison = record(large(2, NOON - 20 * MINUTE), NOON - 20 * MINUTE, 2)
    later = record(payment(3, NOON), NOON, 3)
    bench = Bench(Lab(), refused_by(None, poison))
    bench.lab.stream.score([first, later])

    found = bench.redriver.redrive()

    whole = clean([first, poison, later])
    assert (found.scored, found.folded, found.put_away, found.stopped) == (1, 1, 1, "")
    assert the_scores(bench.lab)["2"] == the_scores(whole)["2"]
    assert the_scores(bench.lab)["2"][2]["card_count_1d"] == 2.0
    assert states_of(bench.lab) == states_of(whole)


def test_lateness_is_judged_by_the_first_arrival_or_by_that_of_today() -> None:
    poison = record(large(1, NOON - DAY), NOON - DAY, 1)
    then, now = (Bench(Lab(), refused_by(None, poison)) for _ in range(2))

    then.redriver.redrive(as_of=AsOf.THEN)
    found = now.redriver.redrive(as_of=AsOf.NOW)

    assert then.lab.scores.get("1").late is False
    assert set(then.lab.states.items) == {"card#1", "shop#1"}
    assert now.lab.scores.get("1").late is True
    assert now.lab.states.items == {}
    assert (found.scored, found.folded, found.late) == (1, 0, 1)


def test_event_from_the_future_is_taken_once_its_time_has_come() -> None:
    early = record(payment(1, NOON - HOUR), NOON - DAY, 1)
    then, now = (Bench(Lab(), refused_by(None, early)) for _ in range(2))

    assert [each.reason for each in then.redriver.redrive().refused] == ["absurd_time"]
    assert now.redriver.redrive(as_of=AsOf.NOW).scored == 1
    assert then.kept.kept
    assert then.lab.scores.records == {}


def test_event_older_than_what_state_keeps_is_scored_late_and_not_folded() -> None:
    poison = record(large(1, NOON - 5 * DAY), NOON - 5 * DAY, 1)
    bench = Bench(Lab(), refused_by(None, poison))
    for number, at in ((2, NOON - 4 * DAY), (3, NOON)):
        bench.lab.stream.score([record(payment(number, at), at, number)])
    before = states_of(bench.lab)

    found = bench.redriver.redrive()

    assert bench.lab.scores.get("1").late is True
    assert states_of(bench.lab) == before
    assert (found.late, found.aged, found.put_away) == (1, 1, 1)


def test_redriving_twice_changes_nothing() -> None:
    poison = record(large(1), NOON, 1)
    bench = Bench(Lab(), refused_by(None, poison, record(b"{", NOON, 2)))
    bench.kept.kept["batch"] = failed_batch(records([payment(3), dispute(4)], first=3))
    first = bench.redriver.redrive()
    ends = bench.ends()

    again = bench.redriver.redrive()

    assert (first.scored, first.folded, first.records) == (2, 3, 4)
    assert (again.scored, again.folded, again.records, again.put_away) == (0, 0, 1, 0)
    assert bench.ends() == ends


@pytest.mark.parametrize("fields", [{}, {"card_id": 2, "shop_id": 3}, {"amount": 1.0}])
def test_event_that_was_sent_again_mended_is_not_doubled(fields: dict[str, Any]) -> None:
    bench = Bench(Lab(), refused_by(None, record(large(1), NOON, 1)))
    bench.lab.stream.score([record(payment(1, **fields), NOON + MINUTE, 2)])
    before = states_of(bench.lab), dict(bench.lab.scores.records)

    found = bench.redriver.redrive()

    assert (states_of(bench.lab), bench.lab.scores.records) == before
    assert [row.known for row in found.rows.values()] == [1]
    assert bench.kept.kept == {}
    assert len(bench.kept.redriven) == 1


def test_event_that_was_sent_again_too_late_stays_out_of_the_state() -> None:
    bench = Bench(Lab(), refused_by(None, record(large(1), NOON, 1)))
    bench.lab.stream.score([record(payment(1), NOON + DAY, 2)])

    found = bench.redriver.redrive()

    assert bench.lab.scores.records["1"].late is True
    assert bench.lab.states.items == {}
    assert (found.scored, found.folded, found.put_away) == (0, 0, 1)


def test_label_has_no_score_and_is_known_by_its_id_in_the_state() -> None:
    batch = [record(dispute(1), NOON, 1), record(dispute(2), NOON, 2)]
    bench = Bench(Lab(), MemoryKept([failed_batch(batch)]))
    bench.lab.stream.score(batch[:1])

    found = bench.redriver.redrive()

    assert (found.scored, found.folded) == (0, 1)
    assert states_of(bench.lab) == states_of(clean(batch))


def test_two_redrives_at_once_end_as_one() -> None:
    first = Bench(Lab(), MemoryKept(crowd()))
    second = Bench(first.lab, first.kept)
    listed = list(first.kept.select(Selection()))
    alone = Bench(Lab(), MemoryKept(crowd()))
    alone.redriver.redrive()

    class Late(MemoryKept):
        """Lists what was there before the other one began."""

        def select(self, selection: Selection) -> Any:
            yield from listed

    second.redriver.redrive()
    late = Late()
    late.kept, late.redriven = first.kept.kept, first.kept.redriven
    Bench(first.lab, late).redriver.redrive()

    assert states_of(first.lab) == states_of(alone.lab)
    assert the_scores(first.lab) == the_scores(alone.lab)
    assert (late.kept, late.redriven) == (alone.kept.kept, alone.kept.redriven)


def test_event_that_is_kept_twice_is_taken_as_it_came_first() -> None:
    kept = refused_by(None, record(large(1, card_id=7), NOON, 1))
    kept.kept["batch"] = failed_batch([record(payment(1, card_id=8), NOON + SECOND, 2)])
    bench = Bench(Lab(), kept)

    found = bench.redriver.redrive()

    assert set(bench.lab.states.items) == {"card#7", "shop#1"}
    assert (found.scored, found.put_away) == (1, 2)


def test_first_score_stays_where_state_has_forgotten_the_event() -> None:
    bench = Bench(Lab(), MemoryKept([failed_batch([record(payment(1), NOON, 1)])]))
    bench.lab.stream.score([record(payment(1), NOON, 1)])
    first = bench.lab.scores.records["1"]
    bench.lab.states.items.clear()
    bench.lab.clock.set(NOON + DAY)
    bench.lab.scores.get_all = lambda ids: {}  # as if it came in between

    bench.redriver.redrive()

    assert bench.lab.scores.records == {"1": first}


def test_failed_batch_ends_as_if_it_had_not_failed() -> None:
    stream = records([payment(n, NOON + n * SECOND, card_id=n % 3) for n in range(40)])
    bench = Bench(Lab(mended()), MemoryKept([failed_batch(stream[10:30])]))
    bench.lab.stream.score(stream[:10])

    found = bench.redriver.redrive()
    bench.lab.stream.score(stream[30:])

    assert found.scored == 20
    assert states_of(bench.lab) == states_of(clean(stream))
    assert the_scores(bench.lab) == the_scores(clean(stream))


@pytest.mark.parametrize("seed", range(10))
def test_any_failed_batches_and_refusals_end_in_the_state_of_a_clean_run(seed: int) -> None:
    chance = Random(seed)
    stream = records(
        [
            chance.choice([payment, large])(
                n, NOON + chance.randrange(HOUR), card_id=chance.randrange(3)
            )
            for n in range(60)
        ],
        NOON + HOUR,
    )
    lab, kept = Lab(), MemoryKept()
    for start in range(0, 60, 6):
        batch = stream[start : start + 6]
        if chance.random() < 0.5:
            kept.kept[f"batch {start}"] = failed_batch(batch, f"batch {start}")
        else:
            lab.stream.score(batch)
    for refused in lab.quarantine.refused.values():
        kept.put(refused)
    bench = Bench(lab, kept)

    bench.redriver.redrive()

    assert kept.kept == {}
    assert states_of(lab) == states_of(clean(stream))
    assert set(lab.scores.records) == {str(n) for n in range(60)}


def test_what_is_still_refused_stays_with_its_new_reason() -> None:
    unknown = record(payment(1, source="nowhere"), NOON - DAY, 1)
    kept = MemoryKept()
    kept.put(Quarantined(unknown, (Fault("missing", "amount", "as it was"),)))
    bench = Bench(Lab(), kept)

    found = bench.redriver.redrive(as_of=AsOf.NOW)

    (left,) = kept.kept.values()
    assert left.reason == "unknown_source"
    assert left.records == (unknown,)
    assert left.faults[0].field == "source"
    assert kept.redriven == {}
    (told,) = found.refused
    assert (told.position, told.kept_as, told.reason) == (
        unknown.position,
        "missing",
        "unknown_source",
    )
    assert [(row.reason, row.refused) for row in found.rows.values()] == [("missing", 1)]


def test_refused_record_of_a_failed_batch_goes_to_quarantine() -> None:
    batch = [record(payment(1), NOON, 1), record(b"\xff", NOON, 2), record(payment(3), NOON, 3)]
    bench = Bench(Lab(), MemoryKept([failed_batch(batch)]))

    found = bench.redriver.redrive()

    assert (found.scored, found.put_away) == (2, 1)
    (left,) = bench.kept.kept.values()
    assert (left.reason, left.records) == ("not_utf8", (batch[1],))
    assert set(bench.kept.redriven) == {"batch"}


def test_plan_tells_what_a_redrive_would_do_and_changes_nothing() -> None:
    given = [record(large(1), NOON, 1), record(large(2), NOON - DAY, 2), record(b"{", NOON, 3)]
    bench = Bench(Lab(), refused_by(None, *given))
    bench.kept.kept["batch"] = failed_batch(records([payment(4), payment(5)], first=4))
    bench.lab.stream.score([record(payment(5), NOON, 9)])
    before = states_of(bench.lab), dict(bench.lab.scores.records), dict(bench.kept.kept)

    plan = bench.redriver.plan()

    rows = {key: (row.records, row.accepted, row.known, row.refused)
            for key, row in plan.rows.items()}  # fmt: skip
    assert rows == {
        ("out_of_bounds", "2025-04-30"): (1, 0, 0, 1),
        ("out_of_bounds", "2025-05-01"): (1, 1, 0, 0),
        ("not_json", "2025-05-01"): (1, 0, 0, 1),
        (GIVEN_UP, "2025-05-01"): (2, 1, 1, 0),
    }
    assert {each.reason for each in plan.refused} == {"absurd_time", "not_json"}
    assert (plan.objects, plan.records, plan.scored, plan.put_away) == (4, 5, 0, 0)
    assert (states_of(bench.lab), bench.lab.scores.records, bench.kept.kept) == before


def test_plan_counts_what_would_be_late() -> None:
    bench = Bench(Lab(), refused_by(None, record(large(1, NOON - DAY), NOON - DAY, 1)))

    assert bench.redriver.plan(as_of=AsOf.THEN).late == 0
    assert bench.redriver.plan(as_of=AsOf.NOW).late == 1


def test_selection_is_by_reason_condition_and_arrival() -> None:
    kept = refused_by(
        None, record(large(1), NOON - HOUR, 1), record(b"{", NOON, 2), record(large(3), NOON, 3)
    )
    kept.kept["batch"] = failed_batch([record(payment(4), NOON + HOUR, 4)])

    def taken(**choice: Any) -> list[str]:
        return [each.records[0].sequence for each in kept.select(Selection(**choice))]

    assert taken() == ["1", "2", "3", "4"]
    assert taken(reasons=frozenset({"not_json"})) == ["2"]
    assert taken(reasons=frozenset({FAILED_BATCH, "not_json"})) == ["2", "4"]
    assert taken(reasons=frozenset({GIVEN_UP})) == ["4"]
    assert taken(since=NOON) == ["2", "3", "4"]
    assert taken(since=NOON, until=NOON + HOUR) == ["2", "3"]


def test_limit_begins_no_further_object_and_cuts_none() -> None:
    kept = MemoryKept(
        [failed_batch(records([payment(n)], NOON + n, n), f"b{n}") for n in range(3)]
        + [failed_batch(records([payment(n) for n in range(3, 9)], NOON + 3, 3), "whole")]
    )
    bench = Bench(Lab(), kept)

    assert bench.redriver.redrive(limit=2).records == 2
    assert sorted(kept.kept) == ["b2", "whole"]
    assert bench.redriver.redrive(limit=2).records == 7
    assert kept.kept == {}


def test_at_most_500_records_are_scored_together() -> None:
    batch = records([payment(n, NOON + n) for n in range(1_100)])
    singles = [
        failed_batch(records([payment(n)], NOON + n, n), f"b{n}") for n in range(2_000, 2_600)
    ]
    bench = Bench(Lab(mended()), MemoryKept([failed_batch(batch), *singles]))
    told: list[int] = []

    found = bench.redriver.redrive(progress=told.append)

    model: Any = bench.scorer.bundle.model
    assert found.scored == 1_700
    assert max(model.calls) == MOST_RECORDS
    assert sum(told) == 1_700


def test_refusals_told_one_by_one_are_bounded() -> None:
    given = [record(b"{", NOON, n) for n in range(MOST_SHOWN + 20)]
    bench = Bench(Lab(), refused_by(None, *given))

    found = bench.redriver.plan()

    assert len(found.refused) == MOST_SHOWN
    assert found.row("not_json", NOON).refused == MOST_SHOWN + 20


def test_dependency_that_fails_stops_the_redrive_and_the_rest_stays() -> None:
    states = FailingStates()
    kept = MemoryKept(
        [failed_batch([record(payment(n, card_id=n), NOON + n, n)], f"b{n}") for n in range(4)]
    )
    bench = Bench(Lab(states=states), kept)
    states.refused = {"card#2": 1}

    found = bench.redriver.redrive()
    left = sorted(kept.kept)
    again = bench.redriver.redrive()

    assert found.stopped == "told to fail"
    assert (found.records, found.put_away) == (2, 2)
    assert left == ["b2", "b3"]
    assert (again.stopped, kept.kept) == ("", {})
    assert set(bench.lab.scores.records) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("what", ["reads", "puts"])
def test_store_out_of_reach_is_told_and_leaves_everything(what: str) -> None:
    states, scores = FailingStates(), FailingScores()
    (states.reads if what == "reads" else scores.puts).fail()
    bench = Bench(Lab(states=states, scores=scores), refused_by(None, record(large(1), NOON, 1)))
    before = dict(bench.kept.kept)

    assert "told to fail" in bench.redriver.redrive().stopped
    assert bench.kept.kept == before
    assert bench.redriver.redrive().scored == 1


def test_bucket_that_cannot_be_listed_is_told() -> None:
    class Unlisted(MemoryKept):
        def select(self, selection: Selection) -> Any:
            raise StoreUnavailable("listing: told to fail")  # noqa: EM101

    bench = Bench(Lab(), Unlisted())

    assert bench.redriver.redrive().stopped == "listing: told to fail"
    assert bench.redriver.plan().stopped == "listing: told to fail"


# A crash between any two writes


class Steps:
    """Counts writes, and ends the process before one of them."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.taken, self.crash_at = 0, crash_at

    def step(self) -> None:
        if self.taken == self.crash_at:
            self.crash_at = None
            raise CrashedError
        self.taken += 1


class SteppedStates(MemoryStates):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        lost: set[str] = set()
        for each in writes:
            self.steps.step()
            lost |= super().write([each]).lost
        return WriteOutcome(frozenset(lost), {})


class SteppedScores(MemoryScores):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        there = 0
        for each in records:
            self.steps.step()
            there += super().put_first([each])
        return there


class SteppedKept(MemoryKept):
    """Writes a copy first and then deletes, each a step of its own."""

    def __init__(self, steps: Steps, kept: Iterable[Kept]) -> None:
        super().__init__(kept)
        self.steps = steps

    def put(self, refused: Quarantined) -> None:
        self.steps.step()
        super().put(refused)

    def replace(self, kept: Kept, refused: Quarantined) -> None:
        self.put(refused)
        self.steps.step()
        super().replace(kept, refused)

    def put_away(self, kept: Kept) -> None:
        self.steps.step()
        self.redriven[kept.key] = kept
        self.steps.step()
        super().put_away(kept)


def crowd() -> list[Kept]:
    """Something of every kind."""
    poison = [record(large(n, NOON - n * MINUTE), NOON - n * MINUTE, n) for n in (3, 2, 1)]
    fault = Fault("out_of_bounds", "amount", "as it was")
    singles = [Kept(f"out_of_bounds/{p.position}", "out_of_bounds", (p,), (fault,)) for p in poison]
    mute = record(payment(4, items=None), NOON - SECOND, 4)
    singles.append(Kept(f"out_of_bounds/{mute.position}", "out_of_bounds", (mute,), (fault,)))
    batch = records(
        [payment(5, card_id=2), b"\xff", large(6, NOON - 90 * SECOND), payment(5), dispute(7)],
        first=5,
    )
    return [*singles, failed_batch(batch)]


def crashing(crash_at: int | None, kept: Iterable[Kept] | None = None) -> tuple[Bench, Steps]:
    steps = Steps(crash_at)
    lab = Lab(states=SteppedStates(steps), scores=SteppedScores(steps))
    bench = Bench(lab, SteppedKept(steps, crowd() if kept is None else kept))
    return bench, steps


def run_through() -> tuple[Bench, int]:
    bench, steps = crashing(None)
    bench.redriver.redrive()
    return bench, steps.taken


WRITES = run_through()[1]


def test_every_kind_of_write_takes_part_in_the_crashes() -> None:
    bench, writes = run_through()

    assert writes == 20
    assert sorted(bench.lab.scores.records) == ["1", "2", "3", "5", "6"]
    assert len(bench.kept.redriven) == 4
    assert sorted(each.reason for each in bench.kept.kept.values()) == ["missing", "not_utf8"]


@pytest.mark.parametrize("crash_at", range(WRITES))
def test_crash_before_any_write_and_a_second_run_end_the_same(crash_at: int) -> None:
    bench, _ = crashing(crash_at)
    with pytest.raises(CrashedError):
        bench.redriver.redrive()
    assert nothing_is_lost(bench)

    bench.redriver.redrive()

    assert bench.ends() == run_through()[0].ends()


@pytest.mark.parametrize("seed", range(5))
def test_many_crashes_over_many_batches_end_as_none(seed: int) -> None:
    chance = Random(seed)
    events = [
        payment(n, NOON - chance.randrange(HOUR), card_id=chance.randrange(4)) for n in range(900)
    ]
    stream = records(events)
    cuts = [0, *sorted(chance.sample(range(1, 900), 5)), 900]
    kept = [
        failed_batch(stream[a:b], f"b{a}") for a, b in pairwise(cuts)
    ]  # some with more records than are scored together
    bench, steps = crashing(None, kept)
    smooth, _ = crashing(None, kept)
    smooth.redriver.redrive()

    crashes = 0
    for _ in range(5):
        steps.crash_at = steps.taken + chance.randrange(500)
        try:
            bench.redriver.redrive()
        except CrashedError:
            crashes += 1
    steps.crash_at = None
    bench.redriver.redrive()

    assert crashes > 1
    assert bench.ends() == smooth.ends()


def nothing_is_lost(bench: Bench) -> bool:
    """Whether every record is still kept, or was put away."""
    objects = [*bench.kept.kept.values(), *bench.kept.redriven.values()]
    there = {each.position for kept in objects for each in kept.records}
    return there == {each.position for kept in crowd() for each in kept.records}


def test_rows_name_the_day_of_arrival() -> None:
    bench = Bench(Lab(), refused_by(None, record(large(1), NOON, 1)))

    assert [row.day for row in bench.redriver.plan().rows.values()] == [us_to_text(NOON)[:10]]


def test_redriven_event_becomes_the_last_score_only_where_it_is_the_newest() -> None:
    old = record(large(1, NOON - 30 * MINUTE), NOON - 30 * MINUTE, 1)
    new = record(large(2, NOON - 10 * MINUTE, card_id=2), NOON - 10 * MINUTE, 2)
    bench = Bench(Lab(), refused_by(None, old, new))
    live = [payment(3, NOON - 20 * MINUTE), payment(4, NOON - 20 * MINUTE, card_id=2)]
    bench.lab.stream.score([record(event, NOON - 20 * MINUTE, n) for n, event in enumerate(live)])

    bench.redriver.redrive()

    found = {entity_id: each.id for (_, entity_id), each in bench.lab.scores.last.items()}
    assert found == {"1": "3", "2": "2"}
