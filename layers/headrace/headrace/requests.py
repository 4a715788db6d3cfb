"""Scores on request: an event now, without changing state, and look-ups of stored scores.

May import what scoring may.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import EventRejected, Fault, TooLarge
from headrace.events import MAX_EVENT_BYTES, Record, us_to_text
from headrace.scores import BatchScore, Rung, ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.outcome import Work
    from headrace.ports import Clock, EventStream, ScoreStore, StateStore
    from headrace.scoring import Scorer

MAX_EVENTS = 100
_US_PER_SECOND = 1_000_000


class Refused(msgspec.Struct, frozen=True):
    """An event of a batch request that has faults."""

    faults: tuple[Fault, ...]


class EntityScore(msgspec.Struct, frozen=True, kw_only=True):
    """The best score that is known of an entity, without an event.

    Attributes:
        entity: Entity name.
        entity_id: Its id.
        score: Probability of the positive class, 0 to 1.
        rung: ``last``, ``batch`` or ``prior``.
        age: Seconds from the event or run that was scored to now; None for the prior.
        model_version: The version that gave the score.
        definition_hash: The definition that gave the score.
        record: The full record behind the score; None for the prior.
    """

    entity: str
    entity_id: str
    score: float
    rung: Rung
    age: float | None
    model_version: str
    definition_hash: str
    record: ScoreRecord | BatchScore | None


class RequestScorer:
    """Answers requests."""

    def __init__(
        self,
        scorer: Scorer,
        states: StateStore,
        scores: ScoreStore,
        stream: EventStream,
        clock: Clock,
    ) -> None:
        self._scorer, self._clock = scorer, clock
        self._states, self._scores, self._stream = states, scores, stream
        self._source = scorer.definition.scored

    @property
    def model_version(self) -> str:
        """Version of the bundle that answers."""
        return self._scorer.bundle.manifest.model_version

    @property
    def definition_hash(self) -> str:
        """Hash of the definition that answers."""
        return self._scorer.bundle.manifest.definition_hash

    def score(self, body: bytes) -> ScoreRecord:
        """Score one event as if it came now; state stays as it is.

        Args:
            body: The event as JSON; ``source`` may be left out.

        Raises:
            EventRejected: With every fault that the event has.
            StoreUnavailable: The state cannot be read.
        """
        return self._score_works([self._work(body)])[0]

    def record(self, body: bytes) -> str:
        """Put an event that was checked on the stream; its sequence number.

        Raises:
            EventRejected: With every fault that the event has.
            StreamUnavailable: The stream did not take it.
        """
        work = self._work(body)
        key = work.event.keys[self._scorer.definition.batch_entity.name]
        return self._stream.put(self._with_source(body), key.partition("#")[2])

    def score_many(self, bodies: Sequence[bytes]) -> list[ScoreRecord | Refused]:
        """Score up to 100 events, each by itself, in one read and one model call.

        Raises:
            TooLarge: More events than that.
            StoreUnavailable: The state cannot be read.
        """
        if len(bodies) > MAX_EVENTS:
            what = "events in a batch"
            raise TooLarge(what, len(bodies), MAX_EVENTS)
        answers: list[ScoreRecord | Refused | None] = []
        works = []
        for body in bodies:
            try:
                works.append(self._work(body))
                answers.append(None)
            except EventRejected as error:
                answers.append(Refused(error.faults))
        scored = iter(self._score_works(works))
        return [next(scored) if answer is None else answer for answer in answers]

    def score_of_event(self, event_id: str) -> ScoreRecord | None:
        """The stored score of an event.

        Raises:
            StoreUnavailable: The scores cannot be read.
        """
        return self._scores.get(event_id)

    def knows(self, entity: str) -> bool:
        """Whether the definition has an entity of this name."""
        return entity in {each.name for each in self._source.entities.values()}

    def score_of_entity(self, entity: str, entity_id: str) -> EntityScore:
        """The best score known of an entity: its last one, the batch score, or the prior.

        Raises:
            StoreUnavailable: States or scores cannot be read.
        """
        definition, now = self._scorer.definition, self._clock.now()
        last = self._last(f"{entity}#{entity_id}")
        if last is not None:
            age = now / _US_PER_SECOND - _seconds(last.event_time)
            if age <= definition.fresh_for.total_seconds():
                return _known(entity, entity_id, last, Rung.LAST, age)
        if entity == definition.batch_entity.name:
            batch = self._scores.get_batch(entity, entity_id)
            if batch is not None and now < batch.expires * _US_PER_SECOND:
                age = now / _US_PER_SECOND - _seconds(batch.as_of)
                return _known(entity, entity_id, batch, Rung.BATCH, age)
        return EntityScore(
            entity=entity,
            entity_id=entity_id,
            score=self._scorer.bundle.manifest.prior,
            rung=Rung.PRIOR,
            age=None,
            model_version=self.model_version,
            definition_hash=self.definition_hash,
            record=None,
        )

    def _last(self, key: str) -> ScoreRecord | None:
        stored = self._states.read([key]).get(key)
        if stored is None:
            return None
        state = self._scorer.codec.decode(key, *stored)
        return self._scores.get(state.last_id) if state.last_id else None

    def _work(self, body: bytes) -> Work:
        record = Record(self._with_source(body), self._clock.now(), "request", "")
        work = self._scorer.work(record)
        if work.event.source is not self._source:
            name = work.event.source.name
            message = f"event: source is {name!r}; expected {self._source.name!r}"
            raise EventRejected([Fault("unknown_source", "source", message)])
        return work

    def _with_source(self, body: bytes) -> bytes:
        if len(body) > MAX_EVENT_BYTES:
            return body  # refused by the decoder, with the right fault
        try:
            values: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return body
        if not isinstance(values, dict) or "source" in values:
            return body
        return msgspec.json.encode({"source": self._source.name, **values})

    def _score_works(self, works: Sequence[Work]) -> list[ScoreRecord]:
        keys = {key for work in works for key in work.keys.values()}
        stored = self._states.read(sorted(keys)) if keys else {}
        codec = self._scorer.codec
        for work in works:
            for key in work.keys.values():
                found = stored.get(key)
                state = codec.decode(key, *found) if found else codec.empty(key)
                self._scorer.fold_entity(state, [work])
        self._scorer.score_works(works)
        stamp = us_to_text(self._clock.now())
        return [self._scorer.record(work, stamp) for work in works]


def _known(
    entity: str, entity_id: str, record: ScoreRecord | BatchScore, rung: Rung, age: float
) -> EntityScore:
    return EntityScore(
        entity=entity,
        entity_id=entity_id,
        score=record.score,
        rung=rung,
        age=age,
        model_version=record.model_version,
        definition_hash=record.definition_hash,
        record=record,
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
