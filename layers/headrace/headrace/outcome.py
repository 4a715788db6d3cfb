"""One event on its way through a batch, and what became of the batch as a whole.

May import feature_row, scores and events.
"""

from __future__ import annotations

from collections import Counter
from math import inf
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


class Work(msgspec.Struct, eq=False):
    """One event on its way through a batch.

    Attributes:
        newest: Whether it is the newest scored event of the entity that batch scores are for.
        refused: Whether the model does not take its row.
    """

    event: Event
    number: int
    sequence: str
    keys: dict[str, str]
    parts: dict[str, EntityPart] = field(default_factory=dict)
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

    def note(self, record: ScoreRecord, objectives: Mapping[str, float]) -> None:
        """Note where a score comes from and how fresh it is, against objectives in seconds."""
        self.rungs[record.rung] += 1
        if record.reason is not None:
            self.reasons[record.reason] += 1
        for entity, age in record.ages.items():
            if age is not None:
                self.ages.setdefault(entity, []).append(age)
                if age > objectives.get(entity, inf):
                    self.stale[entity] += 1

    def note_times(self, events: Sequence[Event], now: int) -> None:
        """Note how long events whose score is stored now took to arrive, and then to be scored."""
        self.lags += [(now - event.arrival) / _US_PER_SECOND for event in events]
        self.lateness += [(event.arrival - event.time) / _US_PER_SECOND for event in events]

    def count(self, works: Iterable[Work]) -> None:
        """Count what was met on the way of these works."""
        for work in works:
            if work.late:
                self.late += 1
            elif any(part.new for part in work.parts.values()):
                self.folded += 1
            event = work.event
            for counts, names in (
                (self.unknown_fields, event.unknown),
                (self.invalid, event.invalid),
                (self.accepted, event.accepted),
            ):
                for name in names:
                    counts[name] += 1
            for part in work.parts.values():
                for view in part.degraded:
                    self.degraded[view] += 1
            if work.row:
                for each in work.row.imputed.values():
                    self.imputed[each.cause] += 1
