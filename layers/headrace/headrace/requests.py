"""Scores on request: an event now, without changing state, and look-ups of stored scores.

What real time cannot score in time goes down the ladder: an answer always comes, and says where it
came from. May import what scoring may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.answers import fallback_of
from headrace.errors import EventRejected, Fault, StateError, StoreUnavailable, TooLarge
from headrace.events import MAX_EVENT_BYTES, Record, us_to_text
from headrace.ladder import Choice, age_seconds, reason_of
from headrace.model import AbsentModel
from headrace.outcome import Outcome
from headrace.scores import BatchScore, Known, LastScore, Reason, Rung, ScoreRecord
from headrace.watch import SparseWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.outcome import Work
    from headrace.ports import Clock, EventStream, ScoreStore, StoredState
    from headrace.reads import Lookup, Lookups
    from headrace.scoring import Scorer

MAX_EVENTS = 100
_TOLD_EVERY_US = 1_000_000


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
        record: The record behind the score, which of a last score is short where the state could
            not be read; None for the prior.
        reason: Why the state could not be read; None where it was.
    """

    entity: str
    entity_id: str
    score: float
    rung: Rung
    age: float | None
    model_version: str
    definition_hash: str
    record: ScoreRecord | LastScore | BatchScore | None
    reason: Reason | None = None


class RequestScorer:
    """Answers requests."""

    def __init__(
        self,
        scorer: Scorer,
        lookups: Lookups,
        scores: ScoreStore,
        stream: EventStream,
        clock: Clock,
    ) -> None:
        self._scorer, self._lookups, self._clock = scorer, lookups, clock
        self._scores, self._stream = scores, stream
        self._source = scorer.definition.scored
        self._entity = scorer.definition.batch_entity.name
        self._ladder = scorer.ladder
        self._watch, self._met = SparseWatch(scorer.bundle.reference), Outcome()
        self._tell_at = 0

    @property
    def lacks_model(self) -> bool:
        """Whether the model could not be loaded, so that nothing is scored in real time."""
        return isinstance(self._scorer.bundle.model, AbsentModel)

    @property
    def model_version(self) -> str:
        """Version of the bundle that answers."""
        return self._scorer.bundle.manifest.model_version

    @property
    def definition_hash(self) -> str:
        """Hash of the definition that answers."""
        return self._scorer.bundle.manifest.definition_hash

    def met(self) -> Outcome | None:
        """What events that were scored have met since it was told last, for metrics.

        None where that was within a second and all is well: metrics of every single request take
        as long as its features, and of a busy second they say the same together.
        """
        now, met = self._clock.now(), self._met
        if now < self._tell_at and not (met.reasons or met.findings):
            return None
        self._met, self._tell_at = Outcome(), now + _TOLD_EVERY_US
        return met

    def score(self, body: bytes) -> ScoreRecord:
        """Score one event as if it came now; state stays as it is.

        Args:
            body: The event as JSON; ``source`` may be left out.

        Returns:
            Its score in real time, or what the ladder has below it; ``rung`` says which.

        Raises:
            EventRejected: With every fault that the event has.
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
        """The best score known of an entity: its last one, the batch score, or the prior."""
        key = f"{entity}#{entity_id}"
        look = self._lookups.begin([key], [key] if entity == self._entity else [])
        now, reason = self._clock.now(), None
        try:
            last = self._last(key, look, now)
            if last is not None:
                return _of_last(entity, entity_id, last, now)
        except (StoreUnavailable, StateError) as error:
            reason = reason_of(error)
        known = (look.known() or {}).get(key) if entity == self._entity else Known()
        choice = self._ladder.choose(known, now)
        if choice.rung is Rung.BATCH:
            look.mark_read([key])
        return _of_choice(entity, entity_id, choice, reason)

    def _last(self, key: str, look: Lookup, now: int) -> ScoreRecord | None:
        """The full record of the entity's last score, as its state names it, while it is fresh."""
        stored = look.states().get(key)
        if stored is None:
            return None
        state = self._scorer.codec.decode(key, *stored)
        if not state.last_id or not self._ladder.is_fresh(state.last_time, now):
            return None
        found = look.record(state.last_id)
        return found if found is not None and found.rung is Rung.REAL_TIME else None

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
        """Records of events: from real time as far as possible, from the ladder where not."""
        if not works:
            return []
        needed = set() if self.lacks_model else {key for w in works for key in w.keys.values()}
        entities = dict.fromkeys(work.keys[self._entity] for work in works)
        look = self._lookups.begin(sorted(needed), list(entities))
        fallen = self._fold(works, look)
        scored = [work for work in works if work not in fallen]
        self._scorer.score_works(scored)
        fallen.update({work: work.unscorable for work in scored if work.unscorable})
        given = self._choose(fallen, look)
        stamp = us_to_text(self._clock.now())
        records = [
            fallback_of(work, fallen[work], given[work], self._scorer.bundle.manifest, stamp)
            if work in fallen
            else self._scorer.record(work, stamp)
            for work in works
        ]
        self._note(works, records)
        return records

    def _note(self, works: Sequence[Work], records: Sequence[ScoreRecord]) -> None:
        self._met.findings += self._watch.note([work.event for work in works])
        self._met.count(works)
        for record in records:
            self._met.note([record], self._scorer.freshness)

    def _fold(self, works: Sequence[Work], look: Lookup) -> dict[Work, Reason]:
        """Fold each event into the states as read; those that cannot be, with the reason."""
        if self.lacks_model:
            return dict.fromkeys(works, Reason.MODEL_NOT_LOADABLE)
        try:
            stored = look.states()
        except StoreUnavailable as error:
            return dict.fromkeys(works, reason_of(error))
        fallen = {}
        for work in works:
            try:
                self._fold_one(work, stored)
            except StateError as error:
                fallen[work] = reason_of(error)
        return fallen

    def _fold_one(self, work: Work, stored: dict[str, StoredState]) -> None:
        codec = self._scorer.codec
        for key in work.keys.values():
            found = stored.get(key)
            state = codec.decode(key, *found) if found else codec.empty(key)
            self._scorer.fold_entity(state, [work])

    def _choose(self, fallen: dict[Work, Reason], look: Lookup) -> dict[Work, Choice]:
        """What the ladder gives each event; batch scores that are given are marked as read."""
        if not fallen:
            return {}
        found, now = look.known() or {}, self._clock.now()
        chosen = {w: self._ladder.choose(found.get(w.keys[self._entity]), now) for w in fallen}
        batch = [w.keys[self._entity] for w, each in chosen.items() if each.rung is Rung.BATCH]
        if batch:
            look.mark_read(list(dict.fromkeys(batch)))
        return chosen


def _of_last(entity: str, entity_id: str, last: ScoreRecord, now: int) -> EntityScore:
    return EntityScore(
        entity=entity,
        entity_id=entity_id,
        score=last.score,
        rung=Rung.LAST,
        age=age_seconds(last.event_time, now),
        model_version=last.model_version,
        definition_hash=last.definition_hash,
        record=last,
    )


def _of_choice(entity: str, entity_id: str, choice: Choice, reason: Reason | None) -> EntityScore:
    return EntityScore(
        entity=entity,
        entity_id=entity_id,
        score=choice.score,
        rung=choice.rung,
        age=choice.age,
        model_version=choice.model_version,
        definition_hash=choice.definition_hash,
        record=choice.record,
        reason=reason,
    )
