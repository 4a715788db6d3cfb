"""The choice below real time, against the rule in a few lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events import us_to_text
from headrace.ladder import Ladder, Prior
from headrace.scores import BatchScore, Known, LastScore, Passed, Rung
from tests.fakes import DAY, HOUR, NOON, PRIOR, SECOND

LADDER = Ladder(6 * HOUR, Prior(PRIOR, "now-1", "f" * 16))
ages = st.integers(-5 * 60 * SECOND, 3 * DAY)


def last_score(age: int, score: float = 0.75) -> LastScore:
    return LastScore(
        entity="card",
        entity_id="1",
        id="e7",
        event_time=us_to_text(NOON - age),
        score=score,
        model_version="last-1",
        definition_hash="1" * 16,
        expires=(NOON - age + 6 * HOUR) // SECOND + 1,
    )


def batch_score(age: int, valid: int = 2 * DAY, score: float = 0.25) -> BatchScore:
    return BatchScore(
        entity="card",
        entity_id="1",
        as_of=us_to_text(NOON - age),
        score=score,
        model_version="batch-1",
        definition_hash="2" * 16,
        features={},
        imputed={},
        age=None,
        expires=(NOON - age + valid) // SECOND,
    )


@given(last=st.none() | ages, batch=st.none() | ages)
def test_best_score_that_may_still_be_given_is_given(last: int | None, batch: int | None) -> None:
    known = Known(
        None if last is None else last_score(last), None if batch is None else batch_score(batch)
    )
    found = LADDER.choose(known, NOON)
    if last is not None and last <= 6 * HOUR:
        assert (found.rung, found.score, found.given) == (Rung.LAST, 0.75, "e7")
        assert found.age == last / SECOND
    elif batch is not None and (NOON - batch + 2 * DAY) // SECOND * SECOND > NOON:
        assert (found.rung, found.score) == (Rung.BATCH, 0.25)
        assert (found.age, found.given) == (batch / SECOND, us_to_text(NOON - batch))
    else:
        assert (found.rung, found.score, found.age, found.given) == (Rung.PRIOR, PRIOR, None, "")


@given(last=st.none() | ages, batch=st.none() | ages)
def test_every_rung_that_was_passed_says_why(last: int | None, batch: int | None) -> None:
    known = Known(
        None if last is None else last_score(last), None if batch is None else batch_score(batch)
    )
    found = LADDER.choose(known, NOON)
    above = {Rung.LAST: [], Rung.BATCH: [Rung.LAST], Rung.PRIOR: [Rung.LAST, Rung.BATCH]}
    assert list(found.causes) == above[found.rung]
    for rung, stored in ((Rung.LAST, last), (Rung.BATCH, batch)):
        if rung in found.causes:
            expected = Passed.NONE_STORED if stored is None else Passed.TOO_OLD
            assert found.causes[rung] is expected


@pytest.mark.parametrize(("age", "rung"), [(6 * HOUR, Rung.LAST), (6 * HOUR + 1, Rung.PRIOR)])
def test_last_score_is_given_up_to_its_age_to_the_microsecond(age: int, rung: Rung) -> None:
    assert LADDER.choose(Known(last_score(age)), NOON).rung is rung


@pytest.mark.parametrize(("valid", "rung"), [(SECOND, Rung.BATCH), (0, Rung.PRIOR)])
def test_batch_score_is_given_before_its_expiry_only(valid: int, rung: Rung) -> None:
    assert LADDER.choose(Known(batch=batch_score(0, valid)), NOON).rung is rung


def test_score_names_the_versions_that_gave_it() -> None:
    known = Known(last_score(HOUR), batch_score(HOUR))
    for each, version in (
        (known, "last-1"),
        (Known(batch=known.batch), "batch-1"),
        (Known(), "now-1"),
    ):
        assert LADDER.choose(each, NOON).model_version == version


def test_what_could_not_be_read_is_told_from_what_is_not_stored() -> None:
    found = LADDER.choose(None, NOON)
    assert found.rung is Rung.PRIOR
    assert found.causes == {Rung.LAST: Passed.NOT_READ, Rung.BATCH: Passed.NOT_READ}
    assert set(LADDER.choose(Known(), NOON).causes.values()) == {Passed.NONE_STORED}
