"""The scheduled run: every entity once, from where it stopped, and nothing done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.batch import SEGMENTS, BatchScorer, Progress
from headrace.errors import StoreUnavailable
from headrace.events import us_to_text
from headrace.imputation import Cause
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    FailingScores,
    FailingStates,
    Lab,
    dispute,
    open_score,
    payment,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Night(Lab):
    """A lab with a history of thirty cards and a scheduled run; counts scores by card."""

    def __init__(self) -> None:
        super().__init__(states=FailingStates(), scores=FailingScores())
        self.batch = BatchScorer(self.scorer, self.states, self.scores, self.clock)
        for n in range(CARDS):
            at = NOON - n * MINUTE
            events = [payment(n, at, card_id=n, amount=10 + n), dispute(n, at, shop_id=n % 3)]
            self.stream.score([record(event, NOON) for event in events])


@pytest.fixture
def night() -> Night:
    return Night()


def test_run_scores_every_entity_of_the_batch_entity_once(night: Night) -> None:
    report = night.batch.run(RUN, always)
    assert report.complete
    assert (report.entities, report.scored, report.fresh, report.resumed) == (CARDS, CARDS, 0, 0)
    assert (report.replaced, report.read) == (0, 0)
    assert set(night.scores.batch) == {("card", str(n)) for n in range(CARDS)}
    assert night.scores.batch["card", "7"].as_of == us_to_text(RUN)


def test_features_are_those_of_the_fold_as_of_the_runs_time(night: Night) -> None:
    as_of = NOON + 30 * MINUTE
    night.stream.score([record(payment(99, NOON + HOUR, card_id=3, amount=500), NOON + HOUR)])
    night.batch.run(as_of + 12 * HOUR, always)
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
    night.batch.run(RUN, always)
    imputed = night.scores.batch["card", "1"].imputed
    causes = {name: each.cause for name, each in imputed.items()}
    for name in ("amount", "discount", "amount_to_mean", "is_evening", "shop_count_1d"):
        assert causes[name] is Cause.NO_EVENT
    assert causes["card_amount_mean_1h"] is Cause.WINDOW_EMPTY
    assert "card_count_1d" not in causes


def test_batch_score_carries_its_age_and_expiry(night: Night) -> None:
    night.batch.run(RUN, always)
    found = night.scores.batch["card", "2"]
    assert found.age == (DAY + 2 * MINUTE) / SECOND
    assert found.expires == (RUN + 2 * DAY) // SECOND
    assert found.definition_hash == night.bundle.manifest.definition_hash


def test_entities_with_a_fresh_score_are_passed_over(night: Night) -> None:
    as_of = NOON + 6 * HOUR - 10 * MINUTE  # the limit is 6 hours
    report = night.batch.run(as_of, always)
    assert (report.fresh, report.scored) == (11, CARDS - 11)
    assert ("card", "10") not in night.scores.batch
    assert ("card", "11") in night.scores.batch


@pytest.mark.parametrize("at_a_time", [1, 3, 7])
def test_run_that_is_cut_goes_on_where_it_stopped(night: Night, at_a_time: int) -> None:
    calls = 0
    written = 0
    report = Progress(as_of="")
    while not report.complete:
        report = night.batch.run(RUN, pages(at_a_time))
        calls += 1
        assert report.scored >= written
        written = report.scored
        assert calls < 20
    assert calls == -(-SEGMENTS // at_a_time)
    assert (report.entities, report.scored, report.replaced) == (CARDS, CARDS, 0)
    assert len(night.scores.batch) == CARDS
    assert report.resumed == calls - 1


def test_run_without_any_time_does_nothing_and_says_so(night: Night) -> None:
    report = night.batch.run(RUN, lambda: False)
    assert not report.complete
    assert night.scores.batch == {}


def test_same_scheduled_event_twice_does_nothing(night: Night) -> None:
    first = night.batch.run(RUN, always)
    before = dict(night.scores.batch)
    night.states.scans.fail()
    assert night.batch.run(RUN, always) == first
    assert night.scores.batch == before


def test_event_of_an_earlier_run_that_comes_again_does_nothing(night: Night) -> None:
    """Schedules deliver at least once, and a retry may come after the next run."""
    night.batch.run(RUN, always)
    night.batch.run(RUN + DAY, always)
    night.batch.run(RUN, always)
    assert night.scores.batch["card", "1"].as_of == us_to_text(RUN + DAY)


def test_next_run_counts_what_it_replaced_and_what_had_been_read(night: Night) -> None:
    night.batch.run(RUN, always)
    for number in (1, 2, 2):
        night.scores.mark_read(f"card#{number}")
    report = night.batch.run(RUN + DAY, always)
    assert (report.scored, report.replaced, report.read) == (CARDS, CARDS, 2)
    again = night.batch.run(RUN + 2 * DAY, always)
    assert (again.replaced, again.read) == (CARDS, 0)


def test_store_that_fails_in_the_middle_loses_nothing(night: Night) -> None:
    night.states.scans.fail(after=3)
    with pytest.raises(StoreUnavailable):
        night.batch.run(RUN, always)
    done = len(night.scores.batch)
    assert 0 < done < CARDS
    report = night.batch.run(RUN, always)
    assert (report.complete, report.entities, report.resumed) == (True, CARDS, 1)
    assert (len(night.scores.batch), report.replaced) == (CARDS, 0)


def test_page_whose_progress_was_not_noted_is_done_again_to_the_same_scores(night: Night) -> None:
    night.scores.progress.fail()
    with pytest.raises(StoreUnavailable):
        night.batch.run(RUN, always)
    first = dict(night.scores.batch)
    night.batch.run(RUN, always)
    assert {key: night.scores.batch[key] for key in first} == first
    assert len(night.scores.batch) == CARDS


def test_run_over_no_entities_is_complete() -> None:
    lab = Lab()
    report = BatchScorer(lab.scorer, lab.states, lab.scores, lab.clock).run(RUN, always)
    assert (report.complete, report.entities) == (True, 0)
