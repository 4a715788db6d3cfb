"""Requests: an event scored now leaves no trace, and look-ups go down the ladder."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryStream
from headrace.errors import (
    BundleError,
    CircuitOpen,
    EventRejected,
    HeadraceError,
    StateError,
    StoreSlow,
    StoreUnavailable,
    StreamUnavailable,
    TooLarge,
)
from headrace.events import MAX_EVENT_BYTES, us_to_text
from headrace.imputation import Cause
from headrace.ladder import reason_of
from headrace.model import AbsentModel, Bundle
from headrace.outcome import Outcome
from headrace.ports import StoredState
from headrace.requests import MAX_EVENTS, Refused, RequestScorer
from headrace.scores import BatchScore, Passed, Reason, Rung, ScoreRecord
from headrace.scoring import Scorer
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    PRIOR,
    SECOND,
    DirectLookups,
    FailingScores,
    FailingStates,
    FailingStream,
    Lab,
    dispute,
    encoded,
    payment,
    record,
    records,
)

HISTORY = [
    payment(1, NOON - 3 * HOUR, amount=5),
    payment(2, NOON - 2 * HOUR, amount=50, shop_id=2),
    dispute(1, NOON - HOUR),
    payment(3, NOON - MINUTE, amount=20),
    payment(4, NOON - MINUTE, amount=20, card_id=2),
]


class Desk(Lab):
    """A lab that answers requests too, with some history behind it."""

    def __init__(self, stream: FailingStream | None = None) -> None:
        super().__init__(states=FailingStates(), scores=FailingScores(), clock=FixedClock(NOON))
        self.events = MemoryStream()
        self.lookups = DirectLookups(self.states, self.scores)
        self.requests = RequestScorer(
            self.scorer, self.lookups, self.scores, stream or self.events, self.clock
        )
        for event in HISTORY:
            self.stream.score([record(event, NOON - MINUTE)])


@pytest.fixture
def desk() -> Desk:
    return Desk()


def batch_score(card_id: str, as_of: int = NOON - HOUR, expires: int = NOON + DAY) -> BatchScore:
    return BatchScore(
        entity="card",
        entity_id=card_id,
        as_of=us_to_text(as_of),
        score=0.75,
        model_version="older",
        definition_hash="0" * 16,
        features={},
        imputed={},
        age=None,
        expires=expires // SECOND,
    )


# Scoring an event now


def test_request_changes_neither_state_nor_scores_nor_stream(desk: Desk) -> None:
    before = (dict(desk.states.items), dict(desk.scores.records))
    desk.requests.score(encoded(payment(9)))
    desk.requests.score_many([encoded(payment(9)), encoded(payment(10))])
    assert (desk.states.items, desk.scores.records) == before
    assert desk.events.events == []


@pytest.mark.parametrize(
    "event",
    [
        payment(9),
        payment(9, NOON - 90 * MINUTE, amount=1),
        payment(9, NOON - 3 * HOUR),
        payment(9, card_id=77, shop_id=78),
        payment(9, amount=None, discount=0.5),
    ],
    ids=["now", "out-of-order", "late", "unknown", "absent"],
)
def test_request_equals_what_the_stream_stores_for_the_same_event(
    desk: Desk, event: dict[str, Any]
) -> None:
    asked = desk.requests.score(encoded(event))
    desk.stream.score([record(event, NOON)])
    stored = desk.scores.get(asked.id)
    for name in ScoreRecord.__struct_fields__:
        if name != "scored_at":
            assert getattr(asked, name) == getattr(stored, name), name


def test_source_may_be_left_out(desk: Desk) -> None:
    event = payment(9)
    whole = desk.requests.score(encoded(event))
    assert desk.requests.score(encoded({k: v for k, v in event.items() if k != "source"})) == whole


def test_event_of_another_source_is_refused(desk: Desk) -> None:
    with pytest.raises(EventRejected, match="source is 'disputes'; expected 'payments'"):
        desk.requests.score(encoded(dispute(1)))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_utf8"),
        (b'{"payment_id": "\xff"}', "not_utf8"),
        (b"[" * 50_000, "not_json"),
        (b"[]", "not_an_object"),
        (b" " * (MAX_EVENT_BYTES + 1), "too_large"),
        (b'{"source": null}', "unknown_source"),
        (b"{}", "missing"),
    ],
    ids=["empty", "byte", "inside", "nested", "array", "large", "null-source", "nothing"],
)
def test_body_that_is_no_event_is_refused_with_its_reason(
    desk: Desk, body: bytes, reason: str
) -> None:
    with pytest.raises(EventRejected) as caught:
        desk.requests.score(body)
    assert caught.value.faults[0].reason == reason


@pytest.mark.parametrize("digits", [20, 30, 400])
def test_integer_too_large_for_an_event_is_refused_or_passed_over(desk: Desk, digits: int) -> None:
    event = {k: v for k, v in payment(9).items() if k != "source"}
    try:
        found = desk.requests.score(encoded(event | {"zone": 10**digits}))
    except EventRejected:
        return
    assert found.id == "9"


def test_refused_request_tells_every_fault(desk: Desk) -> None:
    with pytest.raises(EventRejected) as caught:
        desk.requests.score(encoded(payment(9, amount=-1, items=None, shop_id=[])))
    assert {fault.field for fault in caught.value.faults} == {"amount", "items", "shop_id"}


# Several at once


def test_each_event_of_a_batch_is_scored_by_itself(desk: Desk) -> None:
    bodies = [encoded(payment(n, amount=n)) for n in (9, 10, 11)]
    desk.model.calls.clear()
    together = desk.requests.score_many(bodies)
    assert desk.model.calls == [3]
    assert together == [desk.requests.score(body) for body in bodies]


def test_refused_events_of_a_batch_stay_in_their_place(desk: Desk) -> None:
    answers = desk.requests.score_many(
        [b"{", encoded(payment(9)), encoded(payment(10, amount=-1)), encoded(payment(11))]
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [Refused, ScoreRecord, Refused, ScoreRecord]
    assert isinstance(answers[2], Refused)
    assert answers[2].faults[0].reason == "out_of_bounds"
    assert [a.id for a in answers if isinstance(a, ScoreRecord)] == ["9", "11"]


def test_batch_without_events_is_answered_without_asking_the_store(desk: Desk) -> None:
    desk.states.reads.fail()
    assert desk.requests.score_many([]) == []
    assert len(desk.requests.score_many([b"{"])) == 1


def test_batch_takes_a_hundred_events_and_no_more(desk: Desk) -> None:
    bodies = [encoded(payment(n)) for n in range(MAX_EVENTS + 1)]
    assert len(desk.requests.score_many(bodies[:-1])) == MAX_EVENTS
    with pytest.raises(TooLarge, match="got 101; expected at most 100"):
        desk.requests.score_many(bodies)


# Recording


def test_recorded_event_is_put_with_its_source_under_its_batch_entity(desk: Desk) -> None:
    event = {k: v for k, v in payment(9, card_id="c#7").items() if k != "source"}
    assert desk.requests.record(encoded(event)) == "1"
    ((data, key),) = desk.events.events
    assert json.loads(data) == payment(9, card_id="c#7")
    assert key == "c#7"


def test_recorded_event_that_names_its_source_is_put_as_it_came(desk: Desk) -> None:
    body = encoded(payment(9)) + b"\n"
    desk.requests.record(body)
    assert desk.events.events[0][0] == body


def test_refused_event_is_not_recorded(desk: Desk) -> None:
    with pytest.raises(EventRejected):
        desk.requests.record(encoded(payment(9, amount=-1)))
    assert desk.events.events == []


def test_stream_that_does_not_take_an_event_is_told() -> None:
    with pytest.raises(StreamUnavailable):
        Desk(FailingStream()).requests.record(encoded(payment(9)))


# Look-ups


def test_score_of_an_event_is_the_stored_one(desk: Desk) -> None:
    assert desk.requests.score_of_event("3") == desk.scores.records["3"]
    assert desk.requests.score_of_event("99") is None


def test_only_entities_of_the_definition_are_known(desk: Desk) -> None:
    assert [desk.requests.knows(name) for name in ("card", "shop", "person", "")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("entity", "number"), [("card", "3"), ("shop", "4")])
def test_look_up_gives_the_last_score_while_it_is_fresh(
    desk: Desk, entity: str, number: str
) -> None:
    desk.scores.put_batch([batch_score("1")])
    found = desk.requests.score_of_entity(entity, "1")
    assert (found.rung, found.age) == (Rung.LAST, 60.0)
    assert found.record == desk.scores.records[number]
    assert found.score == desk.scores.records[number].score
    assert found.model_version == desk.bundle.manifest.model_version


def test_look_up_gives_the_batch_score_once_the_last_one_is_old(desk: Desk) -> None:
    desk.scores.put_batch([batch_score("1")])
    desk.clock.set(NOON - MINUTE + 6 * HOUR)
    assert desk.requests.score_of_entity("card", "1").rung is Rung.LAST
    desk.clock.set(NOON - MINUTE + 6 * HOUR + SECOND)
    found = desk.requests.score_of_entity("card", "1")
    assert (found.rung, found.score, found.model_version) == (Rung.BATCH, 0.75, "older")
    assert found.age == 7 * 3600 - 59
    assert found.record == desk.scores.batch["card", "1"]


def test_look_up_gives_the_batch_score_of_an_entity_without_state(desk: Desk) -> None:
    desk.scores.put_batch([batch_score("99")])
    assert desk.requests.score_of_entity("card", "99").rung is Rung.BATCH


def test_batch_score_marked_as_read_is_counted_when_it_is_replaced(desk: Desk) -> None:
    desk.scores.put_batch([batch_score("98"), batch_score("99")])
    desk.requests.score_of_entity("card", "99")
    later = [batch_score("98", NOON), batch_score("99", NOON)]
    assert desk.scores.put_batch(later) == (2, 1)


def test_expired_batch_score_is_not_given(desk: Desk) -> None:
    desk.scores.put_batch([batch_score("99", expires=NOON)])
    found = desk.requests.score_of_entity("card", "99")
    assert found.rung is Rung.PRIOR
    desk.clock.set(NOON - SECOND)
    assert desk.requests.score_of_entity("card", "99").rung is Rung.BATCH


def test_unknown_entity_has_the_prior_without_an_age(desk: Desk) -> None:
    found = desk.requests.score_of_entity("shop", "99")
    assert (found.rung, found.score, found.age, found.record) == (Rung.PRIOR, PRIOR, None, None)
    assert found.definition_hash == desk.bundle.manifest.definition_hash


def test_entity_whose_last_score_was_never_stored_goes_down_the_ladder(desk: Desk) -> None:
    del desk.scores.records["3"]
    desk.scores.last.clear()
    found = desk.requests.score_of_entity("card", "1")
    assert (found.rung, found.reason) == (Rung.PRIOR, None)


def test_late_event_is_not_the_last_score(desk: Desk) -> None:
    desk.stream.score(records([payment(9, NOON - 4 * HOUR, card_id=50)]))
    assert desk.requests.score_of_entity("card", "50").rung is Rung.PRIOR


def test_look_up_without_the_state_gives_the_last_score_and_says_why(desk: Desk) -> None:
    whole = desk.requests.score_of_entity("card", "1")
    desk.states.reads.fail()
    found = desk.requests.score_of_entity("card", "1")
    assert (found.rung, found.score, found.age) == (Rung.LAST, whole.score, whole.age)
    assert found.reason is Reason.STORE_UNAVAILABLE
    assert found.record == desk.scores.last["card", "1"]


def test_look_up_of_an_unreadable_state_gives_the_last_score_and_says_why(desk: Desk) -> None:
    desk.states.items["card#1"] = StoredState(1, b"not a state")
    found = desk.requests.score_of_entity("card", "1")
    assert (found.rung, found.reason) == (Rung.LAST, Reason.STATE_UNREADABLE)


def test_look_up_of_an_entity_without_batch_scores_has_the_prior_while_states_are_down(
    desk: Desk,
) -> None:
    desk.states.reads.fail()
    found = desk.requests.score_of_entity("shop", "1")
    assert (found.rung, found.reason) == (Rung.PRIOR, Reason.STORE_UNAVAILABLE)
    assert desk.lookups.known_reads == 0


def test_look_up_with_everything_down_has_the_prior(desk: Desk) -> None:
    desk.states.reads.fail()
    desk.scores.reads.fail()
    found = desk.requests.score_of_entity("card", "1")
    assert (found.rung, found.score, found.record) == (Rung.PRIOR, PRIOR, None)


def test_score_of_an_event_fails_as_unavailable_where_scores_are_down(desk: Desk) -> None:
    desk.scores.reads.fail()
    with pytest.raises(StoreUnavailable):
        desk.requests.score_of_event("1")


# Down the ladder


def test_real_time_answer_has_no_reason_and_looks_nothing_else_up(desk: Desk) -> None:
    found = desk.requests.score(encoded(payment(9)))
    assert (found.rung, found.reason, found.age, found.given) == (Rung.REAL_TIME, None, None, "")
    assert found.causes == {}
    assert desk.lookups.known_reads == 0


def test_event_without_states_has_the_last_score_of_its_batch_entity(desk: Desk) -> None:
    desk.scores.put_batch([batch_score("1")])
    desk.states.reads.fail()
    found = desk.requests.score(encoded(payment(9, amount=700)))
    last = desk.scores.records["3"]
    assert (found.rung, found.reason) == (Rung.LAST, Reason.STORE_UNAVAILABLE)
    assert (found.score, found.given, found.age) == (last.score, "3", 60.0)
    assert found.model_version == last.model_version
    assert (found.id, found.event_time) == ("9", us_to_text(NOON))
    assert found.entities == {"card": "1", "shop": "1"}
    assert (found.features, found.imputed, found.ages) == ({}, {}, {"card": None, "shop": None})
    assert desk.scores.put_batch([batch_score("1")]).read == 0


def test_batch_score_follows_a_last_one_that_is_too_old_and_is_marked_as_read(desk: Desk) -> None:
    desk.clock.set(NOON - MINUTE + 6 * HOUR + SECOND)
    desk.scores.put_batch([batch_score("1")])
    desk.states.reads.fail()
    found = desk.requests.score(encoded(payment(9, NOON + 5 * HOUR)))
    assert (found.rung, found.score, found.model_version) == (Rung.BATCH, 0.75, "older")
    assert found.given == us_to_text(NOON - HOUR)
    assert found.causes == {Rung.LAST: Passed.TOO_OLD}
    assert desk.scores.put_batch([batch_score("1", NOON)]).read == 1


def test_cold_entity_has_the_prior_while_states_are_down(desk: Desk) -> None:
    desk.states.reads.fail()
    found = desk.requests.score(encoded(payment(9, card_id=99)))
    assert (found.rung, found.score, found.age, found.given) == (Rung.PRIOR, PRIOR, None, "")
    assert found.causes == {Rung.LAST: Passed.NONE_STORED, Rung.BATCH: Passed.NONE_STORED}


def test_event_has_the_prior_where_everything_is_down(desk: Desk) -> None:
    desk.states.reads.fail()
    desk.scores.reads.fail()
    found = desk.requests.score(encoded(payment(9)))
    assert (found.rung, found.reason) == (Rung.PRIOR, Reason.STORE_UNAVAILABLE)
    assert found.causes == {Rung.LAST: Passed.NOT_READ, Rung.BATCH: Passed.NOT_READ}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("x"), Reason.STORE_UNAVAILABLE),
        (StoreSlow("x"), Reason.STORE_SLOW),
        (CircuitOpen("x"), Reason.CIRCUIT_OPEN),
        (StateError("x"), Reason.STATE_UNREADABLE),
    ],
)
def test_reason_says_what_kept_a_score_from_real_time(error: HeadraceError, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_only_events_that_touch_an_unreadable_state_fall(desk: Desk) -> None:
    desk.states.items["shop#2"] = StoredState(1, b"not a state")
    bodies = [encoded(payment(n, shop_id=n % 2 + 1)) for n in (8, 9, 10)]
    found = [a for a in desk.requests.score_many(bodies) if isinstance(a, ScoreRecord)]
    assert [each.rung for each in found] == [Rung.REAL_TIME, Rung.LAST, Rung.REAL_TIME]
    assert found[1].reason is Reason.STATE_UNREADABLE
    assert desk.lookups.known_reads == 1


def test_view_that_cannot_be_unpacked_makes_a_state_unreadable(desk: Desk) -> None:
    stored = desk.states.items["card#1"]
    raw = msgspec.msgpack.decode(stored.data)
    raw[-1] = dict.fromkeys(raw[-1], b"not a view")
    desk.states.items["card#1"] = StoredState(stored.version, msgspec.msgpack.encode(raw))
    found = desk.requests.score(encoded(payment(9)))
    assert (found.rung, found.reason) == (Rung.LAST, Reason.STATE_UNREADABLE)


def test_batch_request_asks_once_for_all_and_looks_up_once_for_all(desk: Desk) -> None:
    desk.states.reads.fail()
    bodies = [encoded(payment(n, card_id=n % 3 + 1)) for n in range(9, 21)]
    found = [a for a in desk.requests.score_many([b"{", *bodies]) if isinstance(a, ScoreRecord)]
    assert [each.rung for each in found] == [Rung.LAST, Rung.LAST, Rung.PRIOR] * 4
    assert [each.score for each in found[:2]] == [
        desk.scores.last["card", "1"].score, desk.scores.last["card", "2"].score,
    ]  # fmt: skip
    assert desk.lookups.begun == [
        (["card#1", "card#2", "card#3", "shop#1"], ["card#1", "card#2", "card#3"])
    ]
    assert desk.lookups.known_reads == 1


@pytest.fixture
def bare() -> Desk:
    """A desk whose model could not be loaded after its history."""
    found = Desk()
    whole = found.bundle
    scorer = Scorer(Bundle(whole.definition, whole.manifest, AbsentModel("gone"), whole.imputer))
    found.requests = RequestScorer(scorer, found.lookups, found.scores, found.events, found.clock)
    return found


def test_without_a_model_no_state_is_read_and_the_ladder_answers(bare: Desk) -> None:
    assert bare.requests.lacks_model
    found = bare.requests.score(encoded(payment(9)))
    assert (found.rung, found.reason) == (Rung.LAST, Reason.MODEL_NOT_LOADABLE)
    assert found.score == bare.scores.last["card", "1"].score
    assert bare.lookups.begun == [([], ["card#1"])]
    assert bare.requests.score(encoded(payment(9, card_id=99))).score == PRIOR


def test_without_a_model_events_are_checked_and_entities_looked_up_as_ever(bare: Desk) -> None:
    with pytest.raises(EventRejected):
        bare.requests.score(encoded(payment(9, amount=-1)))
    found = bare.requests.score_of_entity("card", "1")
    assert (found.rung, found.reason) == (Rung.LAST, None)
    assert found.record == bare.scores.records["3"]


def test_absent_model_scores_nothing() -> None:
    assert AbsentModel("gone").score([]) == []
    with pytest.raises(BundleError, match="gone"):
        AbsentModel("gone").score([[1.0]])


def test_what_requests_meet_is_counted_once_as_the_stream_counts_it(desk: Desk) -> None:
    desk.clock.set(NOON + HOUR)
    events = [payment(91, NOON + HOUR), payment(92, NOON + HOUR, card_id=9, amount=None)]
    desk.requests.score_many([encoded(each) for each in events])
    asked = desk.requests.met()
    assert asked is not None
    told = desk.stream.score([record(e, NOON + HOUR, n) for n, e in enumerate(events)])
    for name in ("rungs", "imputed", "invalid", "accepted", "stale", "reasons", "late"):
        assert getattr(asked, name) == getattr(told, name), name
    assert asked.rungs == {Rung.REAL_TIME: 2}
    assert asked.imputed[Cause.NOT_IN_EVENT] > 0
    assert asked.imputed[Cause.NEVER_SEEN] > 0
    assert asked.ages.keys() == told.ages.keys() == {"card", "shop"}


def test_requests_of_a_second_are_told_together(desk: Desk) -> None:
    desk.requests.score(encoded(payment(91, NOON)))
    first = desk.requests.met()
    desk.requests.score(encoded(payment(92, NOON)))
    desk.requests.score(encoded(payment(93, NOON)))
    assert desk.requests.met() is None
    desk.clock.set(NOON + SECOND)
    second = desk.requests.met()
    assert first is not None
    assert second is not None
    assert (first.rungs, second.rungs) == ({Rung.REAL_TIME: 1}, {Rung.REAL_TIME: 2})
    desk.clock.set(NOON + 2 * SECOND)
    assert desk.requests.met() == Outcome()


def test_answer_from_below_real_time_is_told_at_once_with_its_reason(desk: Desk) -> None:
    desk.requests.met()
    desk.states.reads.fail()
    desk.requests.score(encoded(payment(93, NOON)))
    met = desk.requests.met()
    assert met is not None
    assert met.reasons == {Reason.STORE_UNAVAILABLE: 1}
