"""The ladder below real time: an entity's last score, its batch score, the prior.

Pure choice among what was looked up: no clock, no AWS, no threads. May import scores, events and
errors.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headrace.errors import CircuitOpen, StateError, StoreSlow
from headrace.events import time_to_us
from headrace.scores import BatchScore, Known, LastScore, Passed, Reason, Rung

if TYPE_CHECKING:
    from headrace.errors import HeadraceError

_US_PER_SECOND = 1_000_000


class Prior(NamedTuple):
    """The score when nothing is known, and where it comes from."""

    score: float
    model_version: str
    definition_hash: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The score that the ladder gives.

    Attributes:
        rung: ``last``, ``batch`` or ``prior``.
        score: Probability of the positive class, 0 to 1.
        age: Seconds from what the score was computed for to now; None for the prior.
        given: Id of the last score's event, or time of the batch score's run; "" for the prior.
        model_version: The version that gave the score.
        definition_hash: The definition that gave the score.
        causes: Rungs above this one and below real time -> why they were passed.
        record: What was stored; None for the prior.
    """

    rung: Rung
    score: float
    age: float | None
    given: str
    model_version: str
    definition_hash: str
    causes: dict[Rung, Passed]
    record: LastScore | BatchScore | None


class Ladder:
    """Chooses the best score that may still be given.

    Args:
        fresh_for: Age up to which a last score is given, microseconds.
        prior: What remains.
    """

    def __init__(self, fresh_for: int, prior: Prior) -> None:
        self._fresh_for, self._prior = fresh_for, prior

    def choose(self, known: Known | None, now: int) -> Choice:
        """The best score of an entity, without its state.

        Args:
            known: What is stored of the entity; None where that could not be read.
            now: Microseconds UTC.
        """
        if known is None:
            return self._choice_of_prior(Passed.NOT_READ, Passed.NOT_READ)
        last = self._passed_last(known.last, now)
        if known.last is not None and last is None:
            return _choice(Rung.LAST, known.last, now, {})
        batch = _passed_batch(known.batch, now)
        if known.batch is not None and batch is None:
            return _choice(Rung.BATCH, known.batch, now, {Rung.LAST: last or Passed.NONE_STORED})
        return self._choice_of_prior(last or Passed.NONE_STORED, batch or Passed.NONE_STORED)

    def is_fresh(self, event_time: int, now: int) -> bool:
        """Whether the score of an event of this time, microseconds UTC, may be given as last."""
        return now - event_time <= self._fresh_for

    def _passed_last(self, last: LastScore | None, now: int) -> Passed | None:
        if last is None:
            return Passed.NONE_STORED
        return None if self.is_fresh(_us(last.event_time), now) else Passed.TOO_OLD

    def _choice_of_prior(self, last: Passed, batch: Passed) -> Choice:
        return Choice(
            rung=Rung.PRIOR,
            score=self._prior.score,
            age=None,
            given="",
            model_version=self._prior.model_version,
            definition_hash=self._prior.definition_hash,
            causes={Rung.LAST: last, Rung.BATCH: batch},
            record=None,
        )


def reason_of(error: HeadraceError) -> Reason:
    """Why an error keeps a score from being one of real time."""
    if isinstance(error, CircuitOpen):
        return Reason.CIRCUIT_OPEN
    if isinstance(error, StoreSlow):
        return Reason.STORE_SLOW
    return Reason.STATE_UNREADABLE if isinstance(error, StateError) else Reason.STORE_UNAVAILABLE


def age_seconds(time: str, now: int) -> float:
    """Seconds from an ISO 8601 time to now, microseconds UTC."""
    return (now - _us(time)) / _US_PER_SECOND


def _passed_batch(batch: BatchScore | None, now: int) -> Passed | None:
    if batch is None:
        return Passed.NONE_STORED
    return None if now < batch.expires * _US_PER_SECOND else Passed.TOO_OLD


def _choice(
    rung: Rung, record: LastScore | BatchScore, now: int, causes: dict[Rung, Passed]
) -> Choice:
    if isinstance(record, LastScore):
        given, time = record.id, record.event_time
    else:
        given = time = record.as_of
    return Choice(
        rung=rung,
        score=record.score,
        age=age_seconds(time, now),
        given=given,
        model_version=record.model_version,
        definition_hash=record.definition_hash,
        causes=causes,
        record=record,
    )


def _us(time: str) -> int:
    return time_to_us(datetime.fromisoformat(time))
