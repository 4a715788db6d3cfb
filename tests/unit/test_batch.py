"""The scheduled run: every entity once, from where it stopped, and nothing done twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.batch import SEGMENTS, BatchScorer, End, Ran
from headrace.errors import StoreUnavailable
from headrace.events import us_to_text
from headrace.imputation import Cause
from headrace.ports import ScanPage, StoredState
from headrace.runs import ALIVE_US, CURRENT, Counts, Order, Report, Start, Step, Trigger, part_name
from headrace.scoring import Scorer
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    FailingScores,
    FailingStates,
    Lab,
    Switch,
    dispute,
    open_score,
    payment,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import Replaced, Segment
    from headrace.scores import BatchScore

CARDS = 30
RUN = NOON + DAY


def always() -> bool:
    return True


def pages(number: int) -> Callable[[], bool]:
    """Time for so many pages."""
    left = [number]

    def time_is_left() -> bool:
        left[0] -= 1
        return left[0] >= 0

    return time_is_left


def scheduled(as_of: int) -> Order:
    return Order(Step.RUN, Start(as_of, Trigger.SCHEDULE))


def on_demand(as_of: int) -> Order:
    return Order(Step.RUN, Start(as_of, Trigger.DEMAND))


class Night(Lab):
    """A lab with a history of thirty cards and a scheduled run; counts scores by card."""

    def __init__(self) -> None:
        super().__init__(states=FailingStates(), scores=FailingScores())
        self.batch = self.another()
        for n in range(CARDS):
            at = NOON - n * MINUTE
            events = [payment(n, at, card_id=n, amount=10 + n), dispute(n, at, shop_id=n % 3)]
            self.stream.score([record(event, NOON) for event in events])

    def another(self) -> BatchScorer:
        """As another process has it."""
        return BatchScorer(self.scorer, self.states, self.scores, self.clock)

    def obey(self, order: Order, time_is_left: Callable[[], bool] = always) -> Ran:
        return self.batch.obey(order, time_is_left)

    def run(
        self,
        as_of: int | None,
        time_is_left: Callable[[], bool] = always,
        trigger: Trigger = Trigger.SCHEDULE,
    ) -> Report:
        """Run and tell; a store that failed is raised."""
        ran = self.obey(Order(Step.RUN, Start(as_of, trigger)), time_is_left)
        if ran.error:
            raise StoreUnavailable(ran.error)
        assert ran.report is not None
        return ran.report


@pytest.fixture
def night() -> Night:
    return Night()


def test_run_scores_every_entity_of_the_batch_entity_once(night: Night) -> None:
    report = night.run(RUN)
    assert report.complete
    assert (report.entities, report.scored, report.fresh, report.resumed) == (CARDS, CARDS, 0, 0)
    assert (report.replaced, report.read) == (0, 0)
    assert set(night.scores.batch) == {("card", str(n)) for n in range(CARDS)}
    assert night.scores.batch["card", "7"].as_of == us_to_text(RUN)


def test_features_are_those_of_the_fold_as_of_the_runs_time(night: Night) -> None:
    as_of = NOON + 30 * MINUTE
    night.stream.score([record(payment(99, NOON + HOUR, card_id=3, amount=500), NOON + HOUR)])
    night.run(as_of + 12 * HOUR)
    codec = night.scorer.codec
    for number in range(CARDS):
        stored = night.scores.batch["card", str(number)]
        state = codec.decode(f"card#{number}", *night.states.items[f"card#{number}"])
        for fold in codec.folds["card"]:
            looked = fold.look(codec.view(state, fold), as_of + 12 * HOUR).features
            for name, value in zip(fold.features, looked, strict=True):
                if value is None:
                    assert stored.imputed[name].value == stored.features[name]
                else:
                    assert stored.features[name] == value
        assert stored.score == open_score(
            [stored.features[n] for n in night.bundle.definition.inputs]
        )


def test_what_only_an_event_would_bring_is_imputed_and_named(night: Night) -> None:
    night.run(RUN)
    imputed = night.scores.batch["card", "1"].imputed
    causes = {name: each.cause for name, each in imputed.items()}
    for name in ("amount", "discount", "amount_to_mean", "is_evening", "shop_count_1d"):
        assert causes[name] is Cause.NO_EVENT
    assert causes["card_amount_mean_1h"] is Cause.WINDOW_EMPTY
    assert "card_count_1d" not in causes


def test_batch_score_carries_its_age_and_expiry(night: Night) -> None:
    night.run(RUN)
    found = night.scores.batch["card", "2"]
    assert found.age == (DAY + 2 * MINUTE) / SECOND
    assert found.expires == (RUN + 2 * DAY) // SECOND
    assert found.definition_hash == night.bundle.manifest.definition_hash


def test_first_run_passes_nobody_over(night: Night) -> None:
    """Nothing tells yet when the next one comes."""
    report = night.run(NOON + HOUR)
    assert (report.fresh, report.scored) == (0, CARDS)


def test_entity_is_passed_over_where_its_score_lasts_until_the_next_run(night: Night) -> None:
    for hours in (-2, 0, 2):
        report = night.run(NOON + hours * HOUR)
    assert (report.fresh, report.scored) == (CARDS, 0)  # scored at noon, fresh until 18; next at 16
    report = night.run(NOON + 4 * HOUR - 10 * MINUTE)
    assert (report.fresh, report.scored) == (11, CARDS - 11)  # until 17:50, as the first gaps say
    assert night.scores.batch["card", "10"].as_of == us_to_text(NOON - 2 * HOUR)
    assert night.scores.batch["card", "11"].as_of == us_to_text(NOON + 4 * HOUR - 10 * MINUTE)


def test_entity_that_would_go_stale_before_the_next_run_is_scored(night: Night) -> None:
    """Fresh now, for four more hours, and the next run comes in a day."""
    night.run(NOON - DAY + 2 * HOUR)
    report = night.run(NOON + 2 * HOUR)
    assert (report.fresh, report.scored) == (0, CARDS)


def test_run_on_demand_does_not_shorten_the_period(night: Night) -> None:
    night.run(NOON - DAY)
    night.run(NOON)
    for minutes in (60, 61, 62):
        on_demand = night.run(NOON + minutes * MINUTE, trigger=Trigger.DEMAND)
        assert (on_demand.fresh, on_demand.scored) == (0, CARDS)
    report = night.run(NOON + DAY)
    assert (report.fresh, report.scored) == (0, CARDS)


def test_longest_of_the_latest_periods_counts(night: Night) -> None:
    """A schedule may pause over the weekend; a day later is too late to know."""
    for at in (-5 * DAY, -2 * DAY, -2 * DAY + HOUR, 0):
        night.run(NOON + at)
    report = night.run(NOON + HOUR)
    assert report.fresh == 0
    for at in range(2, 8):
        report = night.run(NOON + at * HOUR // 4 + HOUR)
    assert report.fresh == 0  # the long ones are among the latest eight still
    for at in range(8, 16):
        report = night.run(NOON + at * HOUR // 4 + HOUR)
    assert report.fresh == CARDS


def test_time_that_a_run_takes_counts_as_well(night: Night) -> None:
    """The next run may meet the entity at its very end."""

    def slow() -> bool:
        night.clock.sleep(31 * 60)
        return True

    for hours in (-4, -2):
        night.run(NOON + hours * HOUR, slow)
    report = night.run(NOON, slow)
    assert report.seconds == SEGMENTS * 31 * 60
    assert (report.fresh, report.scored) == (0, CARDS)  # in 2 h, and takes over 4 h


@pytest.mark.parametrize("at_a_time", [1, 3, 7])
def test_run_that_is_cut_goes_on_where_it_stopped(night: Night, at_a_time: int) -> None:
    calls = 0
    written = 0
    complete = False
    while not complete:
        report = night.run(RUN, pages(at_a_time))
        complete = report.complete
        calls += 1
        assert report.scored >= written
        written = report.scored
        assert calls < 20
    assert calls == -(-SEGMENTS // at_a_time)
    assert (report.entities, report.scored, report.replaced) == (CARDS, CARDS, 0)
    assert len(night.scores.batch) == CARDS
    assert report.resumed == calls - 1


def test_run_without_any_time_does_nothing_and_says_so(night: Night) -> None:
    report = night.run(RUN, lambda: False)
    assert not report.complete
    assert night.scores.batch == {}


def test_same_scheduled_event_twice_does_nothing(night: Night) -> None:
    first = night.run(RUN)
    before = dict(night.scores.batch)
    night.states.scans.fail()
    assert night.run(RUN) == first
    assert night.scores.batch == before


def test_event_of_an_earlier_run_that_comes_again_does_nothing(night: Night) -> None:
    """Schedules deliver at least once, and a retry may come after the next run."""
    night.run(RUN)
    night.run(RUN + DAY)
    night.run(RUN)
    assert night.scores.batch["card", "1"].as_of == us_to_text(RUN + DAY)


def test_next_run_counts_what_it_replaced_and_what_had_been_read(night: Night) -> None:
    night.run(RUN)
    for number in (1, 2, 2):
        night.scores.mark_read(f"card#{number}")
    report = night.run(RUN + DAY)
    assert (report.scored, report.replaced, report.read) == (CARDS, CARDS, 2)
    again = night.run(RUN + 2 * DAY)
    assert (again.replaced, again.read) == (CARDS, 0)


def test_store_that_fails_in_the_middle_loses_nothing(night: Night) -> None:
    night.states.scans.fail(times=100, after=3)
    with pytest.raises(StoreUnavailable):
        night.run(RUN)
    done = len(night.scores.batch)
    assert 0 < done < CARDS
    night.states.scans = Switch()
    report = night.run(RUN)
    assert (report.complete, report.entities, report.resumed) == (True, CARDS, 1)
    assert (len(night.scores.batch), report.replaced) == (CARDS, 0)


def test_page_that_fails_does_not_end_the_run_of_the_others(night: Night) -> None:
    scan: Callable[[str, Segment, str | None], ScanPage] = night.states.scan

    class OneBadSegment(FailingStates):
        def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
            if segment.number == 2:
                msg = "segment 2: told to fail"
                raise StoreUnavailable(msg)
            return scan(entity, segment, cursor)

    whole, night.states = night.states, OneBadSegment()
    night.batch = night.another()
    ran = night.obey(scheduled(RUN))
    assert (ran.end, ran.error) == (End.UNFINISHED, "segment 2: told to fail")
    assert ran.report is not None
    assert (ran.report.segments_left, ran.report.complete) == (1, False)
    assert 0 < ran.report.scored == len(night.scores.batch) < CARDS

    night.states = whole
    night.batch = night.another()
    report = night.run(RUN)
    assert (report.complete, report.entities, len(night.scores.batch)) == (True, CARDS, CARDS)


def test_page_that_fails_once_is_tried_again(night: Night) -> None:
    night.scores.puts.fail()
    report = night.run(RUN)
    assert (report.complete, report.scored, report.resumed) == (True, CARDS, 0)


def test_page_whose_progress_was_not_noted_is_done_again_to_the_same_scores(night: Night) -> None:
    night.scores.progress.fail(times=100, after=1)
    with pytest.raises(StoreUnavailable):
        night.run(RUN)
    first = dict(night.scores.batch)
    assert first
    night.scores.progress = Switch()
    report = night.run(RUN)
    assert {key: night.scores.batch[key] for key in first} == first
    assert len(night.scores.batch) == CARDS
    assert (report.entities, report.scored, report.replaced) == (CARDS, CARDS, 0)


def test_note_whose_answer_was_lost_is_known_again(night: Night) -> None:
    night.scores.lost_answers.fail(after=3)
    report = night.run(RUN)
    assert (report.complete, report.entities, report.scored) == (True, CARDS, CARDS)


def test_counts_of_the_invocations_add_up_to_the_report(night: Night) -> None:
    together, ran = Counts(), night.obey(scheduled(RUN), pages(2))
    while ran.end is End.UNFINISHED:
        together = together.plus(ran.done)
        ran = night.obey(scheduled(RUN), pages(2))
    together = together.plus(ran.done)
    assert ran.report is not None
    assert together == Counts(entities=CARDS, scored=CARDS)
    assert night.obey(scheduled(RUN)).done == Counts()


def test_report_tells_the_share_of_batch_scores_that_were_read(night: Night) -> None:
    assert night.run(RUN).read_share is None
    for number in range(3):
        night.scores.mark_read(f"card#{number}")
    assert night.run(RUN + DAY).read_share == 3 / CARDS


def test_states_that_cannot_be_read_are_counted_and_the_others_scored(night: Night) -> None:
    night.states.items["card#1"] = StoredState(1, b"no state")
    codec = night.scorer.codec
    views = codec.decode("card#2", *night.states.items["card#2"]).packed
    broken = night.states.items["card#2"].data.replace(views["card"][:4], b"\x91\xc0\xc0\xc0")
    night.states.items["card#2"] = StoredState(1, broken)
    report = night.run(RUN)
    assert (report.entities, report.unreadable, report.failed) == (CARDS, 2, 0)
    assert (report.complete, report.scored) == (True, CARDS - 2)


def test_row_that_the_model_refuses_does_not_take_its_page_along(
    night: Night,
) -> None:
    class Picky:
        def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
            if any(39.0 in row for row in rows):
                msg = "39 is not for me"
                raise ValueError(msg)
            return [0.5] * len(rows)

    picky = replace(night.bundle, model=Picky())
    night.batch = BatchScorer(Scorer(picky), night.states, night.scores, night.clock)
    report = night.run(NOON + 12 * HOUR)
    assert (report.failed, report.scored) == (1, CARDS - 1)
    assert ("card", "29") not in night.scores.batch


def test_run_over_no_entities_is_complete() -> None:
    lab = Lab()
    ran = BatchScorer(lab.scorer, lab.states, lab.scores, lab.clock).obey(scheduled(RUN), always)
    assert ran.report is not None
    assert (ran.end, ran.report.entities) == (End.COMPLETE, 0)


# Two at a time


def test_two_that_begin_the_same_run_leave_one_exact_report(night: Night) -> None:
    """EventBridge delivers at least once, and both may come at the same moment."""
    other = night.another()
    twins: list[Ran] = []

    def interrupted() -> bool:
        if not twins:
            twins.append(other.obey(scheduled(RUN), always))
        return True

    first = night.obey(scheduled(RUN), interrupted)
    assert (first.end, twins[0].end) == (End.GAVE_WAY, End.COMPLETE)
    assert first.done == Counts()
    report = night.run(RUN)
    assert (report.complete, report.entities, report.replaced) == (True, CARDS, 0)


def test_run_on_demand_gives_way_to_one_that_is_under_way(night: Night) -> None:
    demanded: list[Ran] = []

    def interrupted() -> bool:
        demanded.append(night.another().obey(on_demand(RUN + MINUTE), always))
        return True

    scheduled_one = night.obey(scheduled(RUN), interrupted)
    assert {each.end for each in demanded} == {End.GAVE_WAY}
    assert scheduled_one.end is End.COMPLETE
    assert {score.as_of for score in night.scores.batch.values()} == {us_to_text(RUN)}


def test_run_on_demand_takes_over_from_one_that_died(night: Night) -> None:
    night.obey(scheduled(RUN), pages(3))
    assert night.obey(on_demand(RUN + HOUR)).end is End.GAVE_WAY
    night.clock.sleep(ALIVE_US / SECOND)
    report = night.run(RUN + HOUR, trigger=Trigger.DEMAND)
    assert (report.complete, report.entities) == (True, CARDS)
    assert {score.as_of for score in night.scores.batch.values()} == {us_to_text(RUN + HOUR)}


def test_scheduled_run_takes_over_whatever_is_under_way(night: Night) -> None:
    taken: list[Ran] = []

    def interrupted() -> bool:
        if len(night.scores.batch) > CARDS // 2 and not taken:
            taken.append(night.another().obey(scheduled(RUN), always))
        return True

    demanded = night.obey(on_demand(RUN - MINUTE), interrupted)
    assert (demanded.end, taken[0].end) == (End.GAVE_WAY, End.COMPLETE)
    assert {score.as_of for score in night.scores.batch.values()} == {us_to_text(RUN)}
    assert len(night.scores.batch) == CARDS


def test_run_that_was_taken_over_does_not_write_older_scores_over_newer_ones(
    night: Night,
) -> None:
    """It may be in the middle of a page when the other begins and ends."""
    scores, other = night.scores, night.another()
    put_batch: Callable[[Sequence[BatchScore]], Replaced] = scores.put_batch
    interrupted = [False]

    def late(found: Sequence[BatchScore]) -> Replaced:
        if not interrupted[0]:
            interrupted[0] = True
            other.obey(scheduled(RUN), always)
        return put_batch(found)

    scores.put_batch = late
    assert night.obey(on_demand(RUN - MINUTE)).end is End.GAVE_WAY
    assert {score.as_of for score in scores.batch.values()} == {us_to_text(RUN)}


def test_new_run_begins_with_what_its_predecessor_left_and_does_all(night: Night) -> None:
    """Else the last segments would starve where every run is cut."""
    night.obey(scheduled(RUN), pages(3))
    night.obey(scheduled(RUN + DAY), pages(SEGMENTS - 3))
    assert len(night.scores.batch) == CARDS
    report = night.run(RUN + DAY)
    assert (report.complete, report.entities, report.segments_left) == (True, CARDS, 0)
    assert {score.as_of for score in night.scores.batch.values()} == {us_to_text(RUN + DAY)}


def test_run_without_a_time_takes_up_what_is_unfinished(night: Night) -> None:
    night.obey(scheduled(RUN), pages(3))
    night.clock.sleep(ALIVE_US / SECOND)
    report = night.run(None)
    assert (report.complete, report.as_of, report.resumed) == (True, us_to_text(RUN), 1)
    assert report.trigger is Trigger.SCHEDULE


# In parts

PARTS = 5


def in_parts(step: Step, as_of: int = RUN, segment: int | None = None) -> Order:
    return Order(step, Start(as_of, Trigger.SCHEDULE), PARTS, segment)


def do_parts(night: Night, as_of: int = RUN) -> Report:
    assert night.obey(in_parts(Step.OPEN, as_of)).end is End.COMPLETE
    for number in range(PARTS):
        assert night.obey(in_parts(Step.PART, as_of, number)).end is End.COMPLETE
    ran = night.obey(in_parts(Step.CLOSE, as_of))
    assert ran.report is not None
    assert ran.end is End.COMPLETE
    return ran.report


def test_run_in_parts_gives_what_one_function_gives(night: Night) -> None:
    alone = Night()
    whole = alone.run(RUN)
    report = do_parts(night)
    assert night.scores.batch == alone.scores.batch
    assert (report.complete, report.segments, report.segments_left) == (True, PARTS, 0)
    assert (report.entities, report.scored) == (whole.entities, whole.scored)
    for number in range(4):
        night.scores.mark_read(f"card#{number}")
    assert do_parts(night, RUN + DAY).read_share == 4 / CARDS


def test_part_that_is_cut_goes_on_where_it_stopped(night: Night) -> None:
    night.obey(in_parts(Step.OPEN))
    order = in_parts(Step.PART, segment=1)
    assert night.obey(order, pages(0)).end is End.UNFINISHED
    ran = night.obey(order)
    assert ran.report is not None
    assert (ran.end, ran.report.resumed, ran.report.segments) == (End.COMPLETE, 1, PARTS)
    assert night.scores.get_progress(part_name(1, PARTS)) is not None


def test_part_that_comes_again_does_nothing_and_tells_the_same(night: Night) -> None:
    night.obey(in_parts(Step.OPEN))
    first = night.obey(in_parts(Step.PART, segment=0))
    night.states.scans.fail()
    again = night.obey(in_parts(Step.PART, segment=0))
    assert (again.end, again.report, again.done) == (End.REPEATED, first.report, Counts())


def test_run_with_a_part_undone_is_not_complete_and_can_be_completed(night: Night) -> None:
    night.obey(in_parts(Step.OPEN))
    for number in range(1, PARTS):
        night.obey(in_parts(Step.PART, segment=number))
    ran = night.obey(in_parts(Step.CLOSE))
    assert ran.report is not None
    assert (ran.end, ran.report.segments_left, ran.report.complete) == (End.UNFINISHED, 1, False)
    assert do_parts_again(night).complete


def do_parts_again(night: Night) -> Report:
    """As the state machine does where it is started again for the same time."""
    assert night.obey(in_parts(Step.OPEN)).end is End.COMPLETE
    ends = [night.obey(in_parts(Step.PART, segment=n)).end for n in range(PARTS)]
    assert ends == [End.COMPLETE] + [End.REPEATED] * (PARTS - 1)
    report = night.obey(in_parts(Step.CLOSE)).report
    assert report is not None
    assert report.entities == CARDS
    return report


def test_run_in_parts_that_was_done_is_not_opened_again(night: Night) -> None:
    do_parts(night)
    assert night.obey(in_parts(Step.OPEN)).end is End.REPEATED
    assert night.obey(in_parts(Step.CLOSE)).end is End.REPEATED
    assert night.obey(in_parts(Step.OPEN, RUN - DAY)).end is End.GAVE_WAY


def test_run_in_parts_is_under_way_while_any_part_is(night: Night) -> None:
    night.obey(in_parts(Step.OPEN))
    night.clock.sleep(ALIVE_US / SECOND)
    night.obey(in_parts(Step.PART, segment=2), pages(0))
    demand = Order(Step.OPEN, Start(RUN + HOUR), PARTS)
    assert night.obey(demand).end is End.GAVE_WAY
    night.clock.sleep(ALIVE_US / SECOND)
    assert night.obey(demand).end is End.COMPLETE


def test_part_of_a_run_that_was_taken_over_gives_way(night: Night) -> None:
    night.obey(in_parts(Step.OPEN))
    night.obey(in_parts(Step.OPEN, RUN + DAY))
    ran = night.obey(in_parts(Step.PART, segment=0))
    assert (ran.end, night.scores.batch) == (End.GAVE_WAY, {})
    assert night.obey(in_parts(Step.CLOSE)).end is End.GAVE_WAY


def test_part_that_another_invocation_has_taken_must_be_waited_for(night: Night) -> None:
    """The state machine may not count a part as done while a twin is at it."""
    night.obey(in_parts(Step.OPEN))
    order, twins = in_parts(Step.PART, segment=0), list[Ran]()

    def interrupted() -> bool:
        if not twins:
            twins.append(night.another().obey(order, always))
        return True

    assert night.obey(order, interrupted).end is End.UNFINISHED
    assert twins[0].end is End.COMPLETE
    assert night.obey(order).end is End.REPEATED


def test_part_may_be_done_without_a_run_around_it(night: Night) -> None:
    ends = [night.obey(in_parts(Step.PART, segment=n)).end for n in range(PARTS)]
    assert set(ends) == {End.COMPLETE}
    assert len(night.scores.batch) == CARDS
    assert night.scores.get_progress(CURRENT) is None


def test_parts_know_the_period_of_their_run(night: Night) -> None:
    for hours in (-4, -2):
        do_parts(night, NOON + hours * HOUR)
    report = do_parts(night, NOON)
    assert (report.fresh, report.scored) == (CARDS, 0)
