"""The stream scorer: what is stored, and what becomes of it when something fails on the way."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from headrace.adapters.clock import FixedClock
from headrace.definition import Count, Max, Number, Source, View, hours
from headrace.ports import StoredState
from headrace.scores import Rung
from headrace.scoring import MAX_ATTEMPTS, OUT_OF_TIME, PORTION
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    CrashedError,
    FailingQuarantine,
    FailingScores,
    FailingStates,
    Lab,
    card,
    dispute,
    make_definition,
    open_score,
    payment,
    payments,
    record,
    records,
    risk,
    shop,
    spending,
    spread,
    traffic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.events import Record
    from headrace.scores import ScoreRecord

BAD = b"{not json"


def essence(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """States by key, and of the scores all but the time of writing."""
    codec = lab.scorer.codec
    states = {}
    for key, item in lab.states.items.items():
        state = codec.decode(key, *item)
        states[key] = (state.newest_arrival, state.last_id, state.last_time, state.packed)
    stored = lab.scores.records.items()
    scores = {key: (r.features, r.score, r.imputed, r.ages, r.late) for key, r in stored}
    return states, scores


def clean(batch: Sequence[Record], before: Sequence[Record] = ()) -> Lab:
    """A run of the same records in which nothing fails."""
    lab = Lab()
    for each in (before, batch):
        assert lab.stream.score(each).failed is None
    return lab


def mixed(seed: int, first: int = 0, size: int = 40) -> list[Record]:
    """Payments and disputes of two cards at two shops, out of order by up to an hour."""
    random = Random(seed)
    events: list[dict[str, Any]] = []
    for number in range(first, first + size):
        at = NOON - random.randrange(60) * MINUTE
        keys = {"card_id": random.randrange(2), "shop_id": random.randrange(2)}
        if random.random() < 0.3:
            events.append(dispute(number - 1, at, is_fraud=random.random() < 0.5, **keys))
        else:
            events.append(payment(number, at, amount=random.randrange(1, 500), **keys))
    return records(events, NOON + first * 1_000, first)


# What is stored


def test_score_record_holds_all_that_its_score_came_from() -> None:
    lab = Lab()
    first = record(payment(1, NOON, amount=10.0, discount=0.5), NOON)
    second = record(payment(2, NOON + MINUTE, amount=30.0), NOON + MINUTE, 1)
    lab.clock.set(NOON + 2 * MINUTE)
    lab.stream.score([first, second])
    found = lab.scores.get("2")
    assert found.features["card_count_1h"] == 2
    assert found.features["card_amount_mean_1d"] == 20
    assert found.features["shop_amount_sum_1d"] == 40
    assert found.features["amount_to_mean"] == 1.5
    assert found.features["card_before_amount_std_1d"] == 0
    assert found.score == open_score([found.features[n] for n in lab.bundle.definition.inputs])
    assert (found.rung, found.late, found.degraded) == (Rung.REAL_TIME, False, [])
    assert found.entities == {"card": "1", "shop": "1"}
    assert found.ages == {"card": 60.0, "shop": 60.0}
    assert found.event_time == "2025-05-01T12:01:00Z"
    assert found.scored_at == "2025-05-01T12:02:00Z"
    assert found.definition_hash == lab.bundle.manifest.definition_hash
    assert set(found.imputed) == {"discount", "shop_risk_is_fraud_mean_1d"}


def test_first_event_of_an_entity_has_no_age() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1)]))
    assert lab.scores.get("1").ages == {"card": None, "shop": None}


def test_one_model_call_scores_the_whole_batch() -> None:
    lab = Lab()
    lab.stream.score(records([payment(n, card_id=n) for n in range(7)]))
    assert lab.model.calls == [7]


def test_events_of_other_sources_change_state_and_are_not_scored() -> None:
    lab = Lab()
    outcome = lab.stream.score(records([dispute(1), payment(2)]))
    assert (outcome.records, outcome.scored, outcome.folded) == (2, 1, 2)
    assert list(lab.scores.records) == ["2"]
    assert lab.scores.get("2").features["shop_risk_is_fraud_mean_1d"] == 1


def test_empty_batch_is_a_batch() -> None:
    outcome = Lab().stream.score([])
    assert (outcome.records, outcome.scored, outcome.failed) == (0, 0, None)


def test_cutting_a_batch_elsewhere_changes_nothing() -> None:
    batch = mixed(1)
    whole, one_by_one = clean(batch), Lab()
    for each in batch:
        one_by_one.stream.score([each])
    assert essence(one_by_one) == essence(whole)


def test_counters_count_what_was_met() -> None:
    lab = Lab()
    batch = records(
        [
            payment(1, colour="red", size=3),
            payment(2, NOON - 3 * HOUR, colour="red"),
            BAD,
            payment(3, amount="ten"),
            dispute(1),
        ]
    )
    lab.clock.set(NOON + 10 * SECOND)
    outcome = lab.stream.score(batch)
    assert (outcome.records, outcome.scored, outcome.late) == (5, 2, 1)
    assert outcome.folded == 2
    assert outcome.unknown_fields == {"colour": 2, "size": 1}
    assert outcome.quarantined == {"not_json": 1, "wrong_type": 1}
    assert sum(outcome.imputed.values()) == sum(
        len(each.imputed) for each in lab.scores.records.values()
    )
    assert outcome.lags == pytest.approx([10.0, 9.999])
    assert (outcome.conflicts, outcome.repeated, outcome.failed) == (0, 0, None)


def test_repeated_events_are_not_counted_as_folded() -> None:
    lab = Lab()
    batch = records([payment(1), payment(2)])
    assert lab.stream.score(batch).folded == 2
    again = lab.stream.score(batch)
    assert (again.repeated, again.folded) == (2, 0)


# Late and repeated events


def test_late_event_is_scored_flagged_and_changes_no_state() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1)]))
    before = dict(lab.states.items)
    outcome = lab.stream.score([record(payment(2, NOON - 2 * HOUR - SECOND), NOON, 1)])
    found = lab.scores.get("2")
    assert (outcome.late, outcome.scored, outcome.folded) == (1, 1, 0)
    assert found.late
    assert found.features["card_count_1d"] == 1  # itself; the event at noon came after it
    assert lab.states.items == before


def test_event_exactly_as_late_as_allowed_is_folded() -> None:
    lab = Lab()
    outcome = lab.stream.score([record(payment(1, NOON - 2 * HOUR), NOON)])
    assert (outcome.late, outcome.folded) == (0, 1)
    assert not lab.scores.get("1").late


def test_redelivered_batch_changes_neither_state_nor_scores() -> None:
    batch = mixed(2)
    lab = clean(batch)
    versions, first = dict(lab.states.items), dict(lab.scores.records)
    lab.clock.set(NOON + HOUR)
    outcome = lab.stream.score(batch)
    assert lab.states.items == versions
    assert lab.scores.records == first
    assert outcome.repeated == outcome.scored == len(first)


def test_event_that_comes_twice_in_one_batch_is_counted_once() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1), payment(1), payment(2)]))
    assert lab.scores.get("2").features["card_count_1d"] == 2


def test_id_used_twice_in_one_batch_keeps_its_first_score() -> None:
    """A producer's mistake: no entity has seen both, and one write may not hold a key twice."""
    scores = FailingScores()
    lab = Lab(scores=scores)
    lab.stream.score(records([payment(1, amount=1), payment(1, amount=2, card_id=2, shop_id=2)]))
    assert [len(ids) for ids in scores.new] == [len(set(ids)) for ids in scores.new]
    assert lab.scores.get("1").features["amount"] == 1


def test_score_of_an_id_is_put_once_in_a_batch() -> None:
    """Conditional puts go out in parallel: which of two came first would be left to chance."""
    scores = FailingScores()
    lab = Lab(scores=scores)
    batch = records([payment(1), payment(1), payment(1)])
    assert lab.stream.score(batch).repeated == 2
    assert lab.stream.score(batch).repeated == 3
    assert all(len(ids) == len(set(ids)) for ids in scores.first + scores.new)


# Poison records and the quarantine


def test_poison_records_are_quarantined_and_the_rest_is_scored() -> None:
    good = [payment(1), payment(2), payment(3)]
    batch = records([good[0], BAD, good[1], b"\xff", payment(9, amount=-1), good[2]])
    lab = Lab()
    outcome = lab.stream.score(batch)
    assert outcome.failed is None
    assert outcome.quarantined == {"not_json": 1, "not_utf8": 1, "out_of_bounds": 1}
    refused = {each.record: [f.reason for f in each.faults]
               for each in lab.quarantine.refused.values()}  # fmt: skip
    assert refused == {
        batch[1]: ["not_json"],
        batch[3]: ["not_utf8"],
        batch[4]: ["out_of_bounds"],
    }
    assert essence(lab) == essence(clean([batch[0], batch[2], batch[5]]))


def test_batch_of_poison_alone_is_acknowledged() -> None:
    lab = Lab()
    outcome = lab.stream.score(records([BAD, BAD]))
    assert (outcome.failed, outcome.scored, len(lab.quarantine.refused)) == (None, 0, 2)


def test_first_reason_counts_where_an_event_has_several_faults() -> None:
    lab = Lab()
    outcome = lab.stream.score(records([payment(1, amount=-1, items="x", shop_id=None)]))
    assert sum(outcome.quarantined.values()) == 1


def test_quarantine_down_fails_the_batch_at_the_first_bad_record() -> None:
    quarantine = FailingQuarantine()
    lab = Lab(quarantine=quarantine)
    batch = records([payment(1), BAD, payment(2), BAD])
    quarantine.puts.fail()
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.failed_number) == ("1", 1)
    assert "told to fail" in outcome.error
    assert list(lab.scores.records) == ["1"]
    assert lab.stream.score(batch[1:]).failed is None
    assert essence(lab) == essence(clean(batch))


def test_number_too_large_to_sum_does_not_break_the_batch() -> None:
    """A field without bounds is still a number that windows have to hold."""
    unbounded = Source(
        name="payments",
        id="payment_id",
        time="paid_at",
        entities=payments.entities,
        fields={**payments.fields, "amount": Number()},
        lateness=hours(2),
    )
    views = [
        View(name=v.name, entity=v.entity, source=unbounded, aggregates=v.aggregates,
             windows=v.windows, include_current=v.include_current)
        if v.source is payments else v
        for v in make_definition().views
    ]  # fmt: skip
    definition = make_definition(
        sources=[unbounded, make_definition().sources[1]], scored=unbounded, views=views
    )
    lab = Lab(definition)
    outcome = lab.stream.score(
        records([payment(1, amount=1.5e308), payment(2, amount=1.7e308), payment(3, amount=2)])
    )
    assert outcome.failed is None
    assert "3" in lab.scores.records


def test_time_at_the_edge_of_the_calendar_does_not_break_the_batch() -> None:
    lab = Lab()
    edges = ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
    outcome = lab.stream.score(records([*(payment(9, paid_at=at) for at in edges), payment(1)]))
    assert outcome.quarantined == {"absurd_time": 2}
    assert "1" in lab.scores.records


# Stores that fail


def test_state_read_down_changes_nothing_and_reports_the_first_record() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    states.reads.fail()
    batch = records([payment(1), payment(2)], first=7)
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.scored, outcome.folded) == ("7", 0, 0)
    assert essence(lab) == ({}, {})
    assert lab.stream.score(batch).failed is None
    assert essence(lab) == essence(clean(batch))


def test_one_entity_that_cannot_be_written_holds_up_only_what_touches_it() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    states.refused = {"card#2": 1}
    batch = records(
        [payment(1), payment(2, card_id=2), payment(3), payment(4, card_id=2), payment(5)]
    )
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.failed_number) == ("1", 1)
    assert set(lab.scores.records) == {"1", "3", "5"}
    assert (outcome.scored, outcome.folded) == (3, 3)


def of_another_layout(lab: Lab) -> bytes:
    """A shop's state as a definition wrote it whose view had another aggregate."""
    other = replace(traffic, aggregates=[Count(), Max("items")])
    before = Lab(
        make_definition(views=[spending, spread, other, risk], inputs=["amount", "discount"])
    )
    before.stream.score(records([payment(0, shop_id=7)]))
    return bytes(before.states.items["shop#7"].data)


def of_another_filter(lab: Lab) -> bytes:
    """A shop's state as a definition wrote it whose view did not want every event."""
    other = replace(traffic, where=has_amount)
    before = Lab(make_definition(views=[spending, spread, other, risk]))
    before.stream.score(records([payment(0, shop_id=7)]))
    return bytes(before.states.items["shop#7"].data)


def has_amount(event: Any) -> bool:
    return event.amount is not None


@pytest.mark.parametrize("data", [lambda _: b"scrambled", of_another_layout, of_another_filter])
def test_state_that_cannot_be_read_holds_up_only_what_touches_it(
    data: Callable[[Lab], bytes],
) -> None:
    lab = Lab()
    lab.states.items["shop#7"] = StoredState(1, data(lab))
    batch = records([payment(1), payment(2, shop_id=7), payment(3, card_id=2)])
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.scored) == ("1", 2)
    assert outcome.error.startswith("state of shop ")
    assert lab.scores.get("2") is None
    del lab.states.items["shop#7"]
    again = lab.stream.score(batch[1:])
    assert (again.failed, again.scored, again.repeated) == (None, 2, 1)
    assert essence(lab) == essence(clean(batch))


@pytest.mark.parametrize("key", ["card#0", "card#1", "shop#0", "shop#1"])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_retry_after_a_failed_write_ends_as_a_clean_run(key: str, seed: int) -> None:
    before, batch = mixed(seed), mixed(seed + 100, 40)
    states = FailingStates()
    lab = Lab(states=states)
    lab.stream.score(before)
    states.refused = {key: 1}
    failed = lab.stream.score(batch).failed
    assert failed is not None
    lab.stream.score([each for each in batch if int(each.sequence) >= int(failed)])
    assert essence(lab) == essence(clean(batch, before))


@pytest.mark.parametrize("seed", [6, 7, 8, 9])
def test_retry_after_scores_could_not_be_written_scores_as_a_clean_run(seed: int) -> None:
    before, batch = mixed(seed), mixed(seed + 100, 40)
    scores = FailingScores()
    lab = Lab(scores=scores)
    lab.stream.score(before)
    scores.puts.fail()
    outcome = lab.stream.score(batch)
    first_scored = next(r for r in batch if b'"payments"' in r.data)
    assert (outcome.failed, outcome.scored) == (first_scored.sequence, 0)
    lab.stream.score([r for r in batch if int(r.sequence) >= int(first_scored.sequence)])
    assert essence(lab) == essence(clean(batch, before))


@pytest.mark.parametrize("seed", range(10, 18))
def test_crash_between_state_and_scores_leaves_no_trace_after_redelivery(seed: int) -> None:
    before, batch = mixed(seed), mixed(seed + 100, 40)
    scores = FailingScores()
    lab = Lab(scores=scores)
    lab.stream.score(before)
    scores.crashes = 1
    with pytest.raises(CrashedError):
        lab.stream.score(batch)
    lab.stream.score(batch)
    assert essence(lab) == essence(clean(batch, before))


def crashed_then_redelivered(
    batch: Sequence[Record], again: Sequence[Sequence[Record]], before: Sequence[Record] = ()
) -> Lab:
    scores = FailingScores()
    lab = Lab(scores=scores)
    lab.stream.score(before)
    scores.crashes = 1
    with pytest.raises(CrashedError):
        lab.stream.score(batch)
    for part in again:
        lab.stream.score(part)
    return lab


def test_after_a_crash_an_event_does_not_see_a_dispute_that_came_after_it() -> None:
    batch = records([payment(1), dispute(7, NOON - MINUTE)])
    lab = crashed_then_redelivered(batch, [batch])
    assert essence(lab) == essence(clean(batch))


def test_after_a_crash_a_dispute_does_not_hide_the_payment_that_it_is_about() -> None:
    """Both carry the payment's id, and each source remembers ids for itself."""
    before = records([payment(1, NOON - 10 * MINUTE)])
    batch = records([payment(2), dispute(1, NOON - 10 * MINUTE)], NOON + SECOND, 1)
    lab = crashed_then_redelivered(batch, [batch], before)
    assert essence(lab) == essence(clean(batch, before))


@pytest.mark.parametrize(
    "numbers", [[1, 1], [1, 2, 1], [1, 1, 2, 2]], ids=["at-once", "around", "pairs"]
)
def test_after_a_crash_an_event_sent_twice_in_the_batch_counts_itself(numbers: list[int]) -> None:
    batch = records([payment(number) for number in numbers])
    lab = crashed_then_redelivered(batch, [batch])
    assert essence(lab) == essence(clean(batch))


# Races


def another_writer(lab: Lab, states: FailingStates, event: Mapping[str, Any], times: int) -> None:
    """Between read and write, another function folds an event of the shop."""
    left = [times]

    def race(keys: list[str]) -> None:
        if "shop#1" in keys and left[0]:
            left[0] -= 1
            number = 1_000 + left[0]
            work = lab.scorer.work(record(dict(event) | {"payment_id": number}, NOON))
            stored = states.items.get("shop#1", StoredState(0, b""))
            codec = lab.scorer.codec
            state = codec.decode("shop#1", *stored) if stored.version else codec.empty("shop#1")
            lab.scorer.fold_entity(state, [work])
            states.items["shop#1"] = StoredState(stored.version + 1, codec.encode(state))

    states.races = race


def test_lost_race_folds_again_only_what_lost() -> None:
    states = FailingStates()
    lab = Lab(states=states, clock=FixedClock(NOON))
    another_writer(lab, states, payment(0, NOON - MINUTE, card_id=9), times=1)
    batch = records([payment(1), payment(2, shop_id=2)])
    outcome = lab.stream.score(batch)
    assert states.attempts == [["card#1", "shop#1", "shop#2"], ["shop#1"]]
    assert (outcome.conflicts, outcome.failed, outcome.scored) == (1, None, 2)
    found = lab.scores.get("1").features
    assert (found["shop_count_1d"], found["card_count_1d"]) == (2, 1)
    assert lab.scores.get("2").features["card_count_1d"] == 2
    assert lab.scores.get("2").features["shop_count_1d"] == 1
    assert lab.model.calls == [2, 1]


def test_state_after_lost_races_is_as_if_one_had_come_after_the_other() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    another_writer(lab, states, payment(0, NOON - MINUTE, card_id=9), times=3)
    batch = records([payment(1), payment(2)])
    outcome = lab.stream.score(batch)
    rivals = [payment(1_000 + n, NOON - MINUTE, card_id=9) for n in (2, 1, 0)]
    expected = clean(batch, [record(each, NOON) for each in rivals])
    assert outcome.conflicts == 3
    assert lab.scores.get("2").features == expected.scores.get("2").features
    assert essence(lab)[0]["shop#1"] == essence(expected)[0]["shop#1"]


def test_waits_between_races_are_by_the_clock_that_was_handed_in() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    another_writer(lab, states, payment(0, card_id=9), times=3)
    lab.stream.score(records([payment(1)]))
    assert NOON < lab.clock.now() <= NOON + SECOND


def test_races_that_never_end_leave_the_event_for_a_retry() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    another_writer(lab, states, payment(0, card_id=9), times=MAX_ATTEMPTS)
    batch = records([payment(1, shop_id=2), payment(2), payment(3, shop_id=2)])
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.conflicts) == ("1", MAX_ATTEMPTS)
    assert f"lost {MAX_ATTEMPTS} races" in outcome.error
    assert set(lab.scores.records) == {"1", "3"}
    assert lab.stream.score(batch[1:]).failed is None
    assert lab.scores.get("2").features["card_count_1d"] == 2
    assert lab.scores.get("2").features["shop_count_1d"] == MAX_ATTEMPTS + 1


def test_state_that_cannot_be_read_again_after_a_lost_race_is_reported() -> None:
    states = FailingStates()
    lab = Lab(states=states)
    another_writer(lab, states, payment(0, card_id=9), times=1)
    states.reads.fail(after=1)
    batch = records([payment(1, shop_id=2), payment(2)])
    outcome = lab.stream.score(batch)
    assert (outcome.failed, set(lab.scores.records)) == ("1", {"1"})
    assert lab.stream.score(batch[1:]).failed is None
    assert lab.scores.get("2").features["card_count_1d"] == 2


def test_write_whose_answer_was_lost_is_found_as_its_own() -> None:
    """The item is there, the answer is not: a retried put loses against itself."""
    batch = mixed(20)

    class Unanswered(FailingStates):
        told = 0

        def write(self, writes: Sequence[Any]) -> Any:
            outcome = super().write(writes)
            self.told += 1
            return (
                outcome._replace(lost=frozenset(w.key for w in writes))
                if self.told == 1
                else (outcome)
            )

    lab = Lab(states=Unanswered())
    outcome = lab.stream.score(batch)
    assert outcome.failed is None
    assert essence(lab) == essence(clean(batch))


# What is remembered of an entity


def last_ids(lab: Lab) -> dict[str, str]:
    codec = lab.scorer.codec
    return {key: codec.decode(key, *item).last_id for key, item in lab.states.items.items()}


def test_entity_remembers_its_newest_scored_event() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1), payment(2, NOON - MINUTE), dispute(3)]))
    assert last_ids(lab) == {"card#1": "1", "shop#1": "1"}


def test_entity_remembers_a_scored_event_that_no_view_wanted() -> None:
    """The ladder's last score is of the entity, whatever its views filter."""

    def large(event: Any) -> bool:
        return bool(event.amount > 100)

    view = View(
        name="card", entity=card, source=payments, aggregates=spending.aggregates,
        windows=spending.windows, where=large,
    )  # fmt: skip
    views = [view, *make_definition().views[1:]]
    views = [each for each in views if each.name != "card_before"]
    lab = Lab(make_definition(views=views, inputs=["amount", *view.features], imputation={}))
    lab.stream.score(records([payment(1, amount=200), payment(2, NOON + MINUTE, amount=5)]))
    assert last_ids(lab)["card#1"] == "2"


def test_state_expires_after_its_longest_window_and_lateness() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1)]))
    codec = lab.scorer.codec
    state = codec.decode("card#1", *lab.states.items["card#1"])
    assert codec.expires(state) == (NOON + 2 * DAY) // SECOND + 1  # batch_valid_for is longer
    brief = Lab(make_definition(batch_valid_for=hours(1), fresh_for=hours(1)))
    assert brief.scorer.codec.expires(state) == (NOON + DAY + 2 * HOUR) // SECOND + 1


def test_versions_count_the_writes_of_an_entity() -> None:
    lab = Lab()
    for number in range(3):
        lab.stream.score(records([payment(number)]))
    assert {key: item.version for key, item in lab.states.items.items()} == {
        "card#1": 3,
        "shop#1": 3,
    }


def test_scores_of_one_batch_are_kept_by_event() -> None:
    lab = Lab()
    lab.stream.score(records([payment("a"), payment("b", shop_id="s")]))
    stored: dict[str, ScoreRecord] = lab.scores.records
    assert {key: each.entities[shop.name] for key, each in stored.items()} == {"a": "1", "b": "s"}


# Time


def test_what_there_is_no_time_for_is_left_for_the_next_delivery() -> None:
    lab, found = Lab(), records([payment(n) for n in range(PORTION * 2 + 7)])
    answers = iter([True, False])
    outcome = lab.stream.score(found, lambda: next(answers))
    assert (outcome.scored, outcome.deferred) == (2 * PORTION, 7)
    assert (outcome.failed, outcome.error) == (found[2 * PORTION].sequence, OUT_OF_TIME)
    rest = lab.stream.score(found[2 * PORTION :], lambda: False)
    assert (rest.scored, rest.failed) == (7, None)
    whole = Lab()
    assert whole.stream.score(found).failed is None
    assert essence(lab) == essence(whole)


def test_a_batch_goes_on_however_short_of_time_each_delivery_is() -> None:
    lab, found = Lab(), records([payment(n) for n in range(PORTION * 3)])
    deliveries = 0
    while found:
        outcome = lab.stream.score(found, lambda: False)
        places = [n for n, each in enumerate(found) if each.sequence == outcome.failed]
        found = found[places[0] :] if places else []
        deliveries += 1
    assert deliveries == 3
    assert len(lab.scores.records) == 3 * PORTION


def test_a_failure_counts_before_the_end_of_time() -> None:
    states = FailingStates()
    states.refused = {"card#1": 1}
    lab, found = Lab(states=states), records([payment(n) for n in range(PORTION + 1)])
    outcome = lab.stream.score(found, lambda: False)
    assert (outcome.failed, outcome.deferred) == (found[0].sequence, 0)


# What a user's own code and a producer's zone may do


def test_time_features_do_not_depend_on_the_zone_of_the_producer() -> None:
    instant = "2025-05-01T{}"
    sent = [payment("z", paid_at=instant.format("17:30:00Z")),
            payment("o", paid_at=instant.format("23:00:00+05:30"))]  # fmt: skip
    lab = Lab()
    assert lab.stream.score(records(sent, NOON + 8 * HOUR)).failed is None
    found = {key: each.features["is_evening"] for key, each in lab.scores.records.items()}
    assert found == {"z": 0.0, "o": 0.0}


def raises(event: Any, features: Any) -> float:
    if event.amount > 50:
        msg = "a rare branch"
        raise RuntimeError(msg)
    return 1.0


def test_whatever_a_request_feature_raises_is_a_missing_value() -> None:
    definition = make_definition(
        request_features=[raises], inputs=["amount", "raises"], imputation={}
    )
    lab = Lab(definition)
    outcome = lab.stream.score(records([payment(1), payment(2, amount=60.0)]))
    assert (outcome.scored, outcome.failed) == (2, None)
    assert set(lab.scores.records["2"].imputed) >= {"raises"}
    assert "raises" not in lab.scores.records["1"].imputed


def test_a_hop_view_counts_an_event_that_comes_again_once_though_it_is_in_a_tile() -> None:
    views = [replace(view, hop=hours(1), head=10) if view.name == "card" else view
             for view in make_definition().views]  # fmt: skip
    once, again = (Lab(make_definition(views=views), scores=FailingScores()) for _ in range(2))
    batch = records([payment(n, NOON - 10 * SECOND * (500 - n)) for n in range(500)])
    assert once.stream.score(batch).failed is None
    again.scores.puts.fail()
    assert again.stream.score(batch).failed is not None
    assert again.stream.score(batch).late == 0
    counts = [{key: each.features["card_count_1d"] for key, each in lab.scores.records.items()}
              for lab in (once, again)]  # fmt: skip
    assert max(counts[1].values()) <= 500  # what the tile took in since shows; none counts twice
    assert counts[1]["499"] == counts[0]["499"]
    assert not any(each.late for each in again.scores.records.values())


# The last score of an entity, to be found without its state


def last_events(lab: Lab) -> dict[str, str]:
    return {entity_id: each.id for (_, entity_id), each in lab.scores.last.items()}


def test_last_score_is_that_of_the_newest_event_of_the_batch_entity() -> None:
    lab = Lab()
    lab.stream.score(
        records([payment(1), payment(2, NOON - MINUTE), payment(3, card_id=2), dispute(4)])
    )
    assert last_events(lab) == {"1": "1", "2": "3"}
    stored, last = lab.scores.records["1"], lab.scores.last["card", "1"]
    assert (last.score, last.event_time) == (stored.score, stored.event_time)
    assert (last.model_version, last.definition_hash) == (
        stored.model_version, stored.definition_hash,
    )  # fmt: skip
    assert last.expires == (NOON + 6 * HOUR) // SECOND + 1  # fresh_for
    assert (last.entity, last.entity_id) == ("card", "1")


def test_last_score_goes_out_with_the_new_scores_and_once_per_entity_and_batch() -> None:
    scores = FailingScores()
    lab = Lab(scores=scores)
    lab.stream.score(records([payment(n, NOON + n, card_id=n % 2) for n in range(10)]))
    assert [len(ids) for ids in scores.new] == [10]
    assert [sorted(keys) for keys in scores.lasts] == [["card#0", "card#1"]]


def test_event_older_than_the_newest_or_late_leaves_the_last_score_alone() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1)]))
    lab.stream.score(records([payment(2, NOON - MINUTE), payment(3, NOON - 3 * HOUR)]))
    assert last_events(lab) == {"1": "1"}
    assert set(lab.scores.records) == {"1", "2", "3"}


def test_last_score_is_written_when_only_repeated_events_come() -> None:
    """Between state and scores the function may have died: the event comes again."""
    scores = FailingScores()
    lab = Lab(scores=scores)
    batch = records([payment(1), payment(2, NOON + 1)])
    scores.crashes = 1
    with pytest.raises(CrashedError):
        lab.stream.score(batch)
    assert last_events(lab) == {}
    lab.stream.score(batch)
    assert last_events(lab) == {"1": "2"}
    lab.stream.score(batch)
    assert last_events(lab) == {"1": "2"}


def test_old_event_that_comes_again_does_not_become_the_last_one() -> None:
    lab = Lab()
    lab.stream.score(records([payment(1)]))
    lab.stream.score(records([payment(2, NOON + MINUTE)]))
    lab.stream.score(records([payment(1)]))
    assert last_events(lab) == {"1": "2"}


def test_event_that_lost_a_race_to_a_newer_one_is_not_the_last() -> None:
    states = FailingStates()
    lab, rival = Lab(states=states), Lab()
    rival.stream.score(records([payment(2, NOON + MINUTE)]))

    def overtake(keys: list[str]) -> None:
        states.races = None
        states.items["card#1"] = rival.states.items["card#1"]

    states.races = overtake
    assert lab.stream.score(records([payment(1)])).conflicts == 1
    assert last_events(lab) == {}
    assert set(lab.scores.records) == {"1"}
