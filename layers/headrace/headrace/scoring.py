"""The use cases. START HERE: ``StreamScorer.score`` is what happens to a batch of records.

decode -> read each entity once -> fold -> feature rows -> one model call -> write each entity
once, conditionally -> write scores -> report the first failure. ``requests.py`` and ``batch.py``
go through the same parts. May import everything inwards; no AWS, no logging, no clock.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from headrace.answers import fallback_of, record_of
from headrace.errors import EventRejected, StateError, StoreUnavailable
from headrace.events import EventDecoder, Record, microseconds, us_to_text
from headrace.feature_row import Assembler
from headrace.folding import EntityFold
from headrace.ladder import Choice, Ladder, Prior
from headrace.model import scores_of
from headrace.outcome import Outcome, Work, grouped
from headrace.ports import Quarantined, StateWrite
from headrace.scores import LastScore, ScoreRecord, last_of
from headrace.state import EntityState, StateCodec
from headrace.table_rows import TableReader
from headrace.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from headrace.model import Bundle
    from headrace.ports import Clock, EventScores, Quarantine, StateStore

MAX_ATTEMPTS = 8
"""How often an entity is written before a lost race fails the batch."""

PORTION = 500
"""Records that are read, folded, scored and written together where time is limited."""

OUT_OF_TIME = "out of time"
"""Why a batch that went well was not finished."""

_FIRST_WAIT_SECONDS = 0.05


class Scorer:
    """The part that stream, request and batch share: fold, assemble, score."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.definition = bundle.definition
        self.decoder = EventDecoder(bundle.definition)
        self.codec = StateCodec(bundle.definition)
        self.assembler = Assembler(bundle.definition, self.codec, bundle.imputer)
        self.tables = TableReader(bundle.definition)
        folding = EntityFold(bundle.definition, self.codec)
        self.fold_entity, self.look = folding.fold, folding.look
        freshness = self.definition.freshness.items()
        made = bundle.manifest
        prior = Prior(made.prior, made.model_version, made.definition_hash)
        self.ladder = Ladder(microseconds(self.definition.fresh_for), prior)
        self.freshness = {entity.name: age.total_seconds() for entity, age in freshness}
        read = {(v.source.name, v.entity.name) for v in self.definition.views}
        scored = self.definition.scored
        self._untouched = {
            source.name: tuple(
                entity.name
                for entity in source.entities.values()
                if source is not scored and (source.name, entity.name) not in read
            )
            for source in self.definition.sources
        }

    def work(self, record: Record, number: int = 0) -> Work:
        """Decode a record and see which entities it touches.

        Raises:
            EventRejected: With every fault that the event has.
        """
        event = self.decoder.decode(record.data, record.arrival)
        keys, untouched = event.keys, self._untouched[event.source.name]
        if untouched:
            keys = {name: key for name, key in keys.items() if name not in untouched}
        return Work(event, number, record.sequence, keys)

    def score_works(self, works: Sequence[Work]) -> None:
        """Assemble the rows of folded works and score those that can be, in one call."""
        whole, rows = [], []
        of_event, input_row = self.assembler.of_event, self.assembler.input_row
        for work in works:
            row = work.row = of_event(work.event, work.parts)
            if not row.lacking:
                whole.append(work)
                rows.append(input_row(row))
        for work, score in zip(whole, scores_of(self.bundle.model, rows), strict=True):
            work.refused, work.score = score is None, score or 0.0

    def record(self, work: Work, scored_at: str, choice: Choice | None = None) -> ScoreRecord:
        """The record of a scored work; of one that cannot be, of what the ladder gives."""
        if choice is not None and work.unscorable is not None:
            return fallback_of(work, work.unscorable, choice, self.bundle.manifest, scored_at)
        return record_of(work, self.bundle.manifest, scored_at)


class StreamScorer:
    """Scores batches of records from the stream."""

    def __init__(
        self,
        scorer: Scorer,
        states: StateStore,
        scores: EventScores,
        quarantine: Quarantine,
        clock: Clock,
    ) -> None:
        self._scorer, self._clock = scorer, clock
        self._watch = Watch(scorer.bundle.reference)
        self._states, self._scores, self._quarantine = states, scores, quarantine
        self._jitter, self._source = Random(), scorer.definition.scored
        self._entity = scorer.definition.batch_entity.name
        self._fresh_for = microseconds(scorer.definition.fresh_for)

    def score(
        self, records: Sequence[Record], keep_going: Callable[[], bool] | None = None
    ) -> Outcome:
        """Fold and score a batch, in order of arrival.

        Args:
            records: Of one shard, in order.
            keep_going: Whether there is time for more. With it the batch goes in portions of 500
                records, the first one in any case; without it all at once.

        Returns:
            What became of them. Where ``failed`` is set, that record and all after it must be
            delivered again; what was done already is recognised then.
        """
        outcome = Outcome(records=len(records))
        size = PORTION if keep_going else max(1, len(records))
        for start in range(0, len(records), size):
            if keep_going and start and not keep_going():
                outcome.deferred = len(records) - start
                outcome.fail_at(start, records[start].sequence, OUT_OF_TIME)
                return outcome
            portion = self._decode(records[start : start + size], start, outcome)
            self._score_portion(portion, outcome)
            if outcome.failed is not None:
                return outcome
        return outcome

    def _score_portion(self, works: list[Work], outcome: Outcome) -> None:
        by_key = grouped(works)
        failed: dict[str, str] = {}
        try:
            states = self._read(by_key, failed)
        except StoreUnavailable as error:
            outcome.fail(works, str(error))
            return
        self._fold_and_write(by_key, states, outcome, failed)
        undone = {work for key in failed for work in by_key[key]}
        done = [work for work in works if work not in undone]
        if failed:
            outcome.fail([w for w in works if w in undone], next(iter(failed.values())))
        self._write_scores(done, outcome)
        outcome.count(done)

    def _decode(self, records: Sequence[Record], first: int, outcome: Outcome) -> list[Work]:
        """Decode up to the first bad record that cannot be kept; bad ones go to quarantine."""
        works = []
        for number, record in enumerate(records, first):
            try:
                works.append(self._scorer.work(record, number))
            except EventRejected as error:
                try:
                    self._quarantine.put(Quarantined(record, error.faults))
                except StoreUnavailable as unavailable:
                    outcome.fail_at(number, record.sequence, str(unavailable))
                    break
                outcome.quarantined[error.faults[0].reason] += 1
        seen = [work.event for work in works if work.event.source is self._source]
        outcome.findings += self._watch.note(seen)
        return works

    def _read(self, keys: Iterable[str], failed: dict[str, str]) -> dict[str, EntityState]:
        """The states of entities; of those that cannot be read, the reason goes to ``failed``."""
        wanted = list(keys)
        stored = self._states.read(wanted)
        codec, found = self._scorer.codec, {}
        for key in wanted:
            try:
                found[key] = codec.decode(key, *stored[key]) if key in stored else codec.empty(key)
            except StateError as error:
                failed[key] = str(error)
        return found

    def _fold_and_write(
        self,
        by_key: dict[str, list[Work]],
        states: dict[str, EntityState],
        outcome: Outcome,
        failed: dict[str, str],
    ) -> None:
        """Fold and write; a lost race reads, folds and writes again only what it touched.

        Args:
            by_key: Key -> works that touch it, in their order.
            states: What was read.
            outcome: Counts conflicts.
            failed: Key -> why, for entities that cannot be read; those not written are added.
        """
        for attempt in range(MAX_ATTEMPTS):
            states = self._folded(by_key, states, failed)
            self._score(by_key, states, failed)
            written = self._states.write(list(self._writes(states)))
            failed.update(written.failed)
            if not written.lost:
                return
            outcome.conflicts += len(written.lost)
            if attempt + 1 < MAX_ATTEMPTS:
                self._clock.sleep(self._jitter.uniform(0, _FIRST_WAIT_SECONDS * 2**attempt))
                try:
                    states = self._read(sorted(written.lost), failed)
                except StoreUnavailable as error:
                    failed.update(dict.fromkeys(written.lost, str(error)))
                    return
        failed.update(dict.fromkeys(written.lost, f"lost {MAX_ATTEMPTS} races for the same entity"))

    def _folded(
        self,
        by_key: dict[str, list[Work]],
        states: dict[str, EntityState],
        failed: dict[str, str],
    ) -> dict[str, EntityState]:
        """States with their works folded; those whose views cannot be read go to ``failed``."""
        found = {}
        for key, state in states.items():
            try:
                self._scorer.fold_entity(state, by_key[key])
            except StateError as error:
                failed[key] = str(error)
            else:
                found[key] = state
                if state.entity == self._entity:
                    for work in by_key[key]:
                        work.newest = work.event.id == state.last_id
        return found

    def _score(
        self,
        by_key: dict[str, list[Work]],
        states: dict[str, EntityState],
        failed: Collection[str],
    ) -> None:
        """Score again the works of these states, except where an entity of theirs has failed."""
        source = self._source
        met = dict.fromkeys(work for key in states for work in by_key[key])
        undone = {work for key in failed for work in by_key[key]}
        self._scorer.score_works(
            [work for work in met if work.event.source is source and work not in undone]
        )

    def _writes(self, states: dict[str, EntityState]) -> Iterable[StateWrite]:
        codec = self._scorer.codec
        for key, state in states.items():
            if state.changed or state.noted:
                yield StateWrite(key, state.version, codec.encode(state), codec.expires(state))

    def _write_scores(self, works: Sequence[Work], outcome: Outcome) -> None:
        scored = [w for w in works if w.event.source is self._source]
        now = self._clock.now()
        stamp = us_to_text(now)
        first = {work.event.id: work for work in reversed(scored)}
        new: list[ScoreRecord] = []
        other: list[ScoreRecord] = []
        last: list[LastScore] = []
        try:
            chosen = self._choose([work for work in first.values() if work.unscorable], now)
            for work in first.values():
                record = self._scorer.record(work, stamp, chosen.get(work) if chosen else None)
                (new if work.new else other).append(record)
                if work.newest and not (record.late or work.unscorable):
                    last.append(last_of(record, self._entity, work.event.time + self._fresh_for))
            outcome.note(new + other, self._scorer.freshness)
            if new or last:
                self._scores.put_new(new, last)
            if other:
                outcome.repeated += self._scores.put_first(other)
        except StoreUnavailable as error:
            outcome.fail(scored, str(error))
            return
        outcome.repeated += len(scored) - len(first)
        outcome.scored += len(first)
        outcome.note_times([work.event for work in scored], now)

    def _choose(self, works: Sequence[Work], now: int) -> dict[Work, Choice]:
        """What the ladder gives works that the model does not score."""
        if not works:
            return {}
        known = self._scores.get_known([work.keys[self._entity] for work in works])
        ladder = self._scorer.ladder
        return {work: ladder.choose(known.get(work.keys[self._entity]), now) for work in works}
