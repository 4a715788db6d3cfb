"""One event on its way through a batch, and what became of the batch as a whole.

May import feature_row, scores and events.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
from msgspec import field

from headrace.feature_row import EntityPart, FeatureRow
from headrace.scores import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.events import Event
    from headrace.scores import ScoreRecord
    from headrace.watch import Finding


_US_PER_SECOND = 1_000_000


class Work(msgspec.Struct, eq=False, gc=False):
    """One event on its way through a batch.

    Attributes:
        newest: Whether it is the newest scored event of the entity that batch scores are for.
        refused: Whether the model does not take its row.
    """

    event: Event
    number: int
    sequence: str
    keys: dict[str, str]
    parts: dict[str, EntityPart] = {}
    row: FeatureRow | None = None
    score: float = 0.0
    newest: bool = False
    refused: bool = False

    @property
    def late(self) -> bool:
        """Whether the event was too old to be folded, by its arrival or by what a view keeps."""
        if self.event.late:
            return True
        return True in [part.late for part in self.parts.values()]

    @property
    def unscorable(self) -> Reason | None:
        """Why the model does not score it, whatever it is asked again; None where it does."""
        if self.row is not None and self.row.lacking:
            return Reason.INPUT_ABSENT
        return Reason.ROW_REFUSED if self.refused else None

    @property
    def new(self) -> bool:
        """Whether the event cannot have been scored before."""
        new = False
        for part in self.parts.values():
            if part.repeated or part.late:
                return False
            new = new or part.new
        return new


def grouped(works: Iterable[Work]) -> dict[str, list[Work]]:
    """Key -> the works that touch its entity, in their order."""
    by_key: dict[str, list[Work]] = {}
    for work in works:
        for key in work.keys.values():
            by_key.setdefault(key, []).append(work)
    return by_key


class Outcome(msgspec.Struct):
    """What became of a batch.

    Attributes:
        records: Records in the batch.
        scored: Events whose score is stored.
        folded: Events that changed the state of at least one entity.
        repeated: Scored events that had a stored score already.
        late: Events too late to change state.
        conflicts: Conditional writes that lost a race and were done again.
        quarantined: Reason -> records.
        unknown_fields: Field -> events that carried it.
        imputed: Cause -> values.
        invalid: Field -> events in which it was absent because what came was invalid.
        accepted: Field or rule -> events that broke it and were taken as they came.
        degraded: View -> events that met it after it had outgrown exact rows.
        rungs: Rung -> scores.
        reasons: Why not from real time -> scores.
        ages: Entity -> seconds from the newest event used to the event that was scored.
        stale: Entity -> scores whose age is over the definition's objective.
        findings: What began to differ from training.
        lags: Seconds from arrival to stored score, one per scored event.
        lateness: Seconds from event time to arrival, one per scored event.
        failed: Sequence number of the first record that was not processed; None if all were.
        failed_number: Its place in the batch, from 0.
        error: Why.
        deferred: Records that were left for the next delivery for want of time.
    """

    records: int = 0
    scored: int = 0
    folded: int = 0
    repeated: int = 0
    late: int = 0
    conflicts: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    imputed: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    rungs: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ages: dict[str, list[float]] = field(default_factory=dict)
    stale: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    failed: str | None = None
    failed_number: int = -1
    error: str = ""
    deferred: int = 0

    def fail(self, works: Sequence[Work], error: str) -> None:
        """Report the first of these works, unless an earlier record is reported already."""
        if works:
            self.fail_at(works[0].number, works[0].sequence, error)

    def fail_at(self, number: int, sequence: str, error: str) -> None:
        """Report a record, unless an earlier one is reported already."""
        if self.failed is None or number < self.failed_number:
            self.failed_number, self.failed, self.error = number, sequence, error

    def note(self, records: Sequence[ScoreRecord], objectives: Mapping[str, float]) -> None:
        """Note where scores come from and how fresh they are, against objectives in seconds."""
        self.rungs.update([record.rung for record in records])
        self.reasons.update([r.reason for r in records if r.reason is not None])
        for entity in dict.fromkeys(chain.from_iterable([record.ages for record in records])):
            found = [age for r in records if (age := r.ages.get(entity)) is not None]
            if found:
                self.ages.setdefault(entity, []).extend(found)
            most = objectives.get(entity)
            if most is not None and (stale := sum([age > most for age in found])):
                self.stale[entity] += stale

    def note_times(self, events: Sequence[Event], now: int) -> None:
        """Note how long events whose score is stored now took to arrive, and then to be scored."""
        self.lags += [(now - event.arrival) / _US_PER_SECOND for event in events]
        self.lateness += [(event.arrival - event.time) / _US_PER_SECOND for event in events]

    def count(self, works: Iterable[Work]) -> None:
        """Count what was met on the way of these works."""
        causes: list[str] = []
        for work in works:
            event, late, new = work.event, work.event.late, False
            for part in work.parts.values():
                late, new = late or part.late, new or part.new
                if part.degraded:
                    self.degraded.update(part.degraded)
            self.late += late
            self.folded += new and not late
            if event.unknown or event.invalid or event.accepted:
                self.unknown_fields.update(event.unknown)
                self.invalid.update(event.invalid)
                self.accepted.update(event.accepted)
            if work.row and work.row.imputed:
                causes += [each.cause for each in work.row.imputed.values()]
        self.imputed.update(causes)
