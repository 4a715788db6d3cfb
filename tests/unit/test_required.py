"""A required input that is absent: the model does not score, the ladder answers, and says so."""

from __future__ import annotations

import pytest

from headrace.adapters.memory import MemoryStream
from headrace.definition import Constant, Required, TrainingMedian
from headrace.imputation import Imputed
from headrace.requests import RequestScorer
from headrace.scores import Known, Passed, Reason, Rung, ScoreRecord
from tests.fakes import (
    HOUR,
    NOON,
    PRIOR,
    DirectLookups,
    FailingScores,
    Lab,
    encoded,
    make_definition,
    payment,
    record,
)

DEFINITION = make_definition(
    imputation={"amount": Required(), "shop_risk": Constant(0.25)},
    default_imputation=TrainingMedian(),
)
HOLE = payment(2, NOON + HOUR, amount=None)


@pytest.fixture
def lab() -> Lab:
    """Card 1 has a real-time score."""
    found = Lab(DEFINITION, scores=FailingScores())
    found.stream.score([record(payment(1), NOON)])
    return found


def of_stream(lab: Lab, event: dict[str, object] = HOLE, at: int = NOON + HOUR) -> ScoreRecord:
    lab.clock.set(at)
    lab.stream.score([record(event, at, 5)])
    found: ScoreRecord = lab.scores.get(str(event["payment_id"]))
    return found


def of_request(lab: Lab) -> ScoreRecord:
    lab.clock.set(NOON + HOUR)
    lookups = DirectLookups(lab.states, lab.scores)
    scorer = RequestScorer(lab.scorer, lookups, lab.scores, MemoryStream(), lab.clock)
    return scorer.score(encoded(HOLE))


def test_stream_gives_the_entitys_last_score_and_says_why(lab: Lab) -> None:
    found = of_stream(lab)
    assert (found.rung, found.reason, found.given) == (Rung.LAST, Reason.INPUT_ABSENT, "1")
    assert (found.score, found.age) == (lab.scores.get("1").score, 3_600.0)
    assert found.imputed["amount"] == Imputed(found.imputed["amount"].cause, None, "required")
    assert (found.features["amount"], found.features["card_count_1d"]) == (None, 2.0)


def test_request_gives_the_same_as_the_stream(lab: Lab) -> None:
    asked = of_request(lab)
    assert asked == of_stream(lab)


def test_without_anything_to_fall_back_on_the_prior_answers() -> None:
    found = of_stream(Lab(DEFINITION))
    assert (found.rung, found.score) == (Rung.PRIOR, PRIOR)
    assert found.causes == {Rung.LAST: Passed.NONE_STORED, Rung.BATCH: Passed.NONE_STORED}


def test_event_is_folded_and_counted_though_it_has_no_score_of_its_own(lab: Lab) -> None:
    lab.clock.set(NOON + HOUR)
    outcome = lab.stream.score([record(HOLE, NOON + HOUR, 5)])
    assert (outcome.scored, outcome.folded) == (1, 1)
    assert outcome.rungs == {Rung.LAST: 1}


def test_borrowed_score_never_becomes_the_entitys_last_one(lab: Lab) -> None:
    of_stream(lab)
    of_stream(lab, payment(3, NOON + 2 * HOUR, amount=None), NOON + 2 * HOUR)
    known = lab.scores.get_known(["card#1"])["card#1"]
    assert isinstance(known, Known)
    assert known.last is not None
    assert known.last.id == "1"
    assert lab.scores.get("3").given == "1"


def test_the_rest_of_the_batch_is_scored_in_one_call(lab: Lab) -> None:
    lab.clock.set(NOON + HOUR)
    lab.stream.score([record(HOLE, NOON + HOUR, 5), record(payment(3), NOON + HOUR, 6)])
    assert lab.scores.get("3").rung is Rung.REAL_TIME
    assert lab.model.calls[-1] == 1


def test_fallback_out_of_reach_fails_the_batch_and_the_next_delivery_mends_it(lab: Lab) -> None:
    lab.scores.reads.fail()
    lab.clock.set(NOON + HOUR)
    batch = [record(HOLE, NOON + HOUR, 5)]
    failed = lab.stream.score(batch)
    assert (failed.failed, failed.scored) == ("5", 0)
    assert lab.stream.score(batch).scored == 1
    assert lab.scores.get("2").rung is Rung.LAST
