"""Redrive: what was refused or given up goes through the stream scorer once more.

read kept objects in order of arrival -> decode -> leave out what was scored since -> score -> put
away. Everything may be repeated: folding recognises ids, the first score of an event stays, and
an object leaves its place only after all of its records are done. May import what scoring may.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import EventRejected, Fault, StoreUnavailable
from headrace.events import Event, Record, microseconds, us_to_text
from headrace.ports import Quarantined, Selection, Unreadable
from headrace.redriven import Redriven, StillRefused
from headrace.scoring import StreamScorer
from headrace.windows import DELIVERED_AGAIN_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.ports import Clock, FirstScores, Kept, KeptRecords, StateStore
    from headrace.scores import LastScore, ScoreRecord
    from headrace.scoring import Scorer

MOST_RECORDS = 500
"""Records that are scored together."""

EVERYTHING = Selection()
CONDITIONS = ("RetryAttemptsExhausted", "RecordAgeExceeded")
"""Why a batch is given up; as Lambda's event source mappings say it."""


class AsOf(StrEnum):
    """When a record counts as arrived: its lateness is judged by it."""

    THEN = "then"  # when the stream got it first
    NOW = "now"  # when it is redriven


@dataclass(slots=True)
class _Case:
    """One record of a kept object, and what is to become of it.

    Attributes:
        kept: The object.
        record: As it came first.
        judged: With the arrival by which it is judged now.
        event: None where it is refused.
        faults: Why.
        known: Whether its event has a score, or comes earlier in the batch.
        again: Whether that score is this very event's: the state then recognises it, and leaves
            it out of the features of those before it, as in any batch that comes again.
    """

    kept: Kept
    record: Record
    judged: Record
    event: Event | None = None
    faults: tuple[Fault, ...] = ()
    known: bool = False
    again: bool = False

    @property
    def goes_on(self) -> bool:
        return self.event is not None and (self.again or not self.known)


class Redriver:
    """Redrives kept records, or says what would become of them."""

    def __init__(
        self,
        scorer: Scorer,
        states: StateStore,
        scores: FirstScores,
        kept: KeptRecords,
        clock: Clock,
    ) -> None:
        self._scorer, self._scores, self._kept, self._clock = scorer, scores, kept, clock
        self._stream = StreamScorer(scorer, states, _OnlyFirst(scores), kept, clock)
        lateness = [microseconds(view.source.lateness) for view in scorer.definition.views]
        self._whole_for = min(lateness, default=0) + DELIVERED_AGAIN_US

    def plan(
        self,
        selection: Selection = EVERYTHING,
        as_of: AsOf = AsOf.THEN,
        limit: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Redriven:
        """Say what a redrive would do; changes nothing. See ``redrive``."""
        found = Redriven()
        try:
            for batch in self._batches(selection, limit, found):
                cases = self._judge(batch, as_of)
                self._count(cases, found)
                found.objects += len(batch)
                accepted = [case.event for case in cases if case.event and not case.known]
                found.late += sum(event.late for event in accepted)
                progress(len(cases))
        except StoreUnavailable as error:
            found.stopped = str(error)
        return found

    def redrive(
        self,
        selection: Selection = EVERYTHING,
        as_of: AsOf = AsOf.THEN,
        limit: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Redriven:
        """Redrive kept records in order of the arrival of each object's first record.

        Args:
            selection: Which objects.
            as_of: By which arrival lateness is judged. Features are as of the event time either
                way, from what the state holds now.
            limit: Records after which no further object is begun; objects are never cut.
            progress: Told how many records are done.

        Returns:
            What was done. Where ``stopped`` is set a dependency failed: the rest is where it
            was, and the same call goes on from there.
        """
        found = Redriven()
        try:
            for batch in self._batches(selection, limit, found):
                self._redrive_batch(batch, as_of, found)
                if found.stopped:
                    break
                progress(sum(len(kept.records) for kept in batch))
        except StoreUnavailable as error:
            found.stopped = str(error)
        return found

    def _batches(
        self, selection: Selection, limit: int | None, found: Redriven
    ) -> Iterator[list[Kept]]:
        """Objects with at most MOST_RECORDS together, or one with more."""
        batch: list[Kept] = []
        size = 0
        for kept in self._objects(selection, limit, found):
            if batch and size + len(kept.records) > MOST_RECORDS:
                yield batch
                batch, size = [], 0
            batch.append(kept)
            size += len(kept.records)
        if batch:
            yield batch

    def _objects(self, selection: Selection, limit: int | None, found: Redriven) -> Iterator[Kept]:
        taken = 0
        for each in self._kept.select(selection):
            if isinstance(each, Unreadable):
                found.note_unreadable(each)
                continue
            if (each.records[0].position, each.reason) in found.kept_anew:
                continue
            if limit is not None and taken >= limit:
                return
            taken += len(each.records)
            yield each

    def _judge(self, batch: Sequence[Kept], as_of: AsOf) -> list[_Case]:
        """Decode every record, and see which events have a score."""
        now = self._clock.now()
        cases = []
        for kept in batch:
            for record in kept.records:
                judged = record
                if as_of is AsOf.NOW:
                    judged = msgspec.structs.replace(record, arrival=now)
                cases.append(self._decoded(_Case(kept, record, judged)))
        self._note_known(cases)
        return cases

    def _decoded(self, case: _Case) -> _Case:
        try:
            case.event = self._scorer.decoder.decode(case.judged.data, case.judged.arrival)
        except EventRejected as error:
            case.faults = error.faults
        return case

    def _note_known(self, cases: Sequence[_Case]) -> None:
        """An event with a score has been folded, if under other keys, or was late: not again."""
        scored = self._scorer.definition.scored
        first: dict[str, _Case] = {}
        for case in cases:
            if case.event is not None and case.event.source is scored:
                case.known = first.setdefault(case.event.id, case) is not case
        for event_id, score in self._scores.get_all(list(first)).items():
            case = first[event_id]
            case.known, case.again = True, _is_of(score, case.event) and not score.late

    def _redrive_batch(self, batch: Sequence[Kept], as_of: AsOf, found: Redriven) -> None:
        cases = self._judge(batch, as_of)
        done = 0
        for start in range(0, len(cases), MOST_RECORDS):
            done += self._redrive_cases(cases[start : start + MOST_RECORDS], found)
            if found.stopped:
                break
        self._count(cases[:done], found)
        place = 0
        for kept in batch:
            own = cases[place : place + len(kept.records)]
            place += len(kept.records)
            if place > done:
                return
            found.objects += 1
            self._finish(kept, own, found)

    def _redrive_cases(self, cases: Sequence[_Case], found: Redriven) -> int:
        """Score what is to be scored; how many cases, from the first on, are done."""
        going = [(place, case) for place, case in enumerate(cases) if case.goes_on]
        if not going:
            return len(cases)
        outcome = self._stream.score([case.judged for _, case in going])
        found.scored += outcome.scored - outcome.repeated
        found.folded += outcome.folded
        found.late += outcome.late
        if outcome.failed is None:
            return len(cases)
        found.stopped = outcome.error
        return going[outcome.failed_number][0]

    def _finish(self, kept: Kept, cases: Sequence[_Case], found: Redriven) -> None:
        """Keep what is still refused, and put the object away unless that is what it holds."""
        refused = [Quarantined(case.record, case.faults) for case in cases if case.faults]
        if kept.faults and refused:
            if refused[0].faults != kept.faults:
                self._kept.replace(kept, refused[0])
                found.note_kept_anew(refused[0], kept.reason)
            return
        for each in refused:
            self._kept.put(each)
            found.note_kept_anew(each, kept.reason)
        self._kept.put_away(kept)
        found.put_away += 1

    def _count(self, cases: Sequence[_Case], found: Redriven) -> None:
        oldest_whole = self._clock.now() - self._whole_for
        for case in cases:
            row = found.row(case.kept.reason, case.record.arrival)
            row.records += 1
            row.known += case.known
            if case.faults:
                row.refused += 1
                found.note_refused(_still_refused(case))
            elif case.event is not None and not case.known:
                row.accepted += 1
                found.aged += case.event.time < oldest_whole


def _is_of(score: ScoreRecord, event: Event | None) -> bool:
    """Whether a score is of an event that touches the same states at the same time."""
    if event is None or score.event_time != us_to_text(event.time):
        return False
    return score.entities == {name: key[len(name) + 1 :] for name, key in event.keys.items()}


class _OnlyFirst:
    """Scores that never replace one: what a state has forgotten may have been scored once."""

    def __init__(self, scores: FirstScores) -> None:
        self._scores = scores
        self.put_first, self.get_known = scores.put_first, scores.get_known

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See ``ports.EventScores``; the live stream may have written a newer last score."""
        self._scores.put_first(records)
        self._scores.put_last(last)


def _still_refused(case: _Case) -> StillRefused:
    fault = case.faults[0]
    return StillRefused(case.record.position, case.kept.reason, fault.reason, fault.message)
