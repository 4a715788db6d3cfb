"""What scoring needs from the outside, as Protocols; adapters fulfil them.

May import scores and events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headrace.errors import Fault
    from headrace.events import Record
    from headrace.scores import BatchScore, Known, LastScore, ScoreRecord
    from headrace.table_rows import TableRow


class StoredState(NamedTuple):
    """A stored entity item: version (1, 2, ...; 0 without one), packed state, rows of tables."""

    version: int
    data: bytes
    rows: tuple[TableRow, ...] = ()


class StateWrite(msgspec.Struct, frozen=True, gc=False):
    """A conditional write of one entity.

    Attributes:
        key: Such as ``customer#42``.
        expected: Version that the store must still hold; 0 where there must be no item.
        data: The packed state.
        expires: Unix second after which the item may go; None keeps it.
    """

    key: str
    expected: int
    data: bytes
    expires: int | None


class WriteOutcome(NamedTuple):
    """What became of conditional writes.

    Attributes:
        lost: Keys whose stored version was not the expected one.
        failed: Key -> what went wrong, for writes that may or may not have been stored.
    """

    lost: frozenset[str]
    failed: dict[str, str]


class ScannedState(NamedTuple):
    """An entity item met by a scan."""

    key: str
    version: int
    data: bytes
    rows: tuple[TableRow, ...] = ()


class ScanPage(NamedTuple):
    """Some items of a scan, and where it goes on (None at the end)."""

    items: Sequence[ScannedState]
    cursor: str | None


class Segment(NamedTuple):
    """One of ``total`` disjoint parts of a table, read in pages of at most ``limit`` items."""

    number: int
    total: int
    limit: int = 500


class StateStore(Protocol):
    """Entity states, each with a version."""

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """Read items consistently, with rows of tables; keys without either are left out.

        Raises:
            StoreUnavailable: The store did not answer within its bounded retries.
        """

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """Write items, each on condition of its version. Does not raise for single items."""

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """Read a page of one of several disjoint segments of an entity's items.

        Raises:
            StoreUnavailable: The store did not answer within its bounded retries.
        """


class Replaced(NamedTuple):
    """Batch scores of former runs that made place for new ones, and how many had been read."""

    scores: int
    read: int


class EventScores(Protocol):
    """Score records by event, as the stream writes them."""

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """Store scores of events that cannot have one yet, and last scores of entities.

        Args:
            records: Of events.
            last: At most one of each entity; each takes the place of the entity's former one.

        Raises:
            StoreUnavailable: Not all could be stored.
        """

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """What is stored of entities to fall back on, by key such as ``customer#42``.

        Asks once, without waiting: keys that were not answered are left out. What is stored and
        cannot be decoded counts as not stored.

        Raises:
            StoreUnavailable: The store did not answer.
        """

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """Store scores where none is stored; the number of those that were there already.

        Raises:
            StoreUnavailable: Not all could be stored.
        """


class ScoreStore(EventScores, Protocol):
    """Score records by event, batch scores by entity, and the progress of batch runs."""

    def get(self, event_id: str) -> ScoreRecord | None:
        """The stored score of an event.

        Raises:
            StoreUnavailable: The store did not answer.
        """

    def put_batch(self, scores: Sequence[BatchScore]) -> Replaced:
        """Store batch scores, each in place of the entity's former one; a later run's stays.

        Raises:
            StoreUnavailable: Not all could be stored.
        """

    def mark_read(self, key: str) -> None:
        """Note that an entity's batch score was given, where there is one.

        Raises:
            StoreUnavailable: It could not be noted.
        """

    def get_progress(self, run: str) -> bytes | None:
        """The checkpoint of a batch run, or of a part of one.

        Raises:
            StoreUnavailable: The store did not answer.
        """

    def put_progress(self, run: str, data: bytes, expected: bytes | None) -> bool:
        """Store a checkpoint in place of the expected one; whether it was still there.

        Args:
            run: Names it.
            data: The new checkpoint.
            expected: The former one; None where there must be none.

        Raises:
            StoreUnavailable: It may or may not have been stored.
        """


class Quarantined(msgspec.Struct, frozen=True):
    """A record that was refused, with all that a redrive needs."""

    record: Record
    faults: tuple[Fault, ...]


class Quarantine(Protocol):
    """Where refused records are kept."""

    def put(self, refused: Quarantined) -> None:
        """Keep one record; repeating it changes nothing.

        Raises:
            StoreUnavailable: It could not be kept.
        """


class Kept(msgspec.Struct, frozen=True):
    """An object that keeps records for a redrive.

    Attributes:
        key: Where it lies.
        reason: Of a refused record, its first fault's; of a failed batch, why it was given up.
        records: One refused record, or those of a failed batch in order.
        faults: Why the record was refused; none for a failed batch.
    """

    key: str
    reason: str
    records: tuple[Record, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def arrival(self) -> int:
        """Arrival time of the first record, microseconds UTC."""
        return self.records[0].arrival


class Unreadable(NamedTuple):
    """An object among the kept ones that holds no records as far as can be told, and why."""

    key: str
    why: str


FAILED_BATCH = "failed_batch"
"""Stands for every failed batch among reasons, whatever the condition that gave it up."""


class Selection(msgspec.Struct, frozen=True):
    """Which kept objects are meant.

    Attributes:
        reasons: Of faults, conditions of failed batches, or FAILED_BATCH; none means all.
        since: First arrival time of the first record, microseconds UTC.
        until: Arrival time before which the first record came; None sets no end.
    """

    reasons: frozenset[str] = frozenset()
    since: int = 0
    until: int | None = None

    def takes(self, kept: Kept) -> bool:
        """Whether an object is meant; a failed batch is taken whole or not at all."""
        if kept.arrival < self.since or (self.until is not None and kept.arrival >= self.until):
            return False
        names = {kept.reason} if kept.faults else {kept.reason, FAILED_BATCH}
        return not self.reasons or bool(names & self.reasons)


class KeptRecords(Quarantine, Protocol):
    """What was refused or given up, for a redrive."""

    def select(self, selection: Selection) -> Iterator[Kept | Unreadable]:
        """Read kept objects, in order of the arrival of their first records.

        Raises:
            StoreUnavailable: They cannot be listed or read.
        """

    def replace(self, kept: Kept, refused: Quarantined) -> None:
        """Keep a single record with its new faults in place of what it was kept as.

        Raises:
            StoreUnavailable: It could not be done; at least one of both is there.
        """

    def put_away(self, kept: Kept) -> None:
        """Take an object out of what is selected, by a copy elsewhere; repeating it is harmless.

        Raises:
            StoreUnavailable: It could not be done; the object, its copy or both are there.
        """


class FirstScores(Protocol):
    """Score records by event, for one who cannot know whether an event has a score."""

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """As of ``EventScores``."""

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """As of ``EventScores``."""

    def put_last(self, last: Sequence[LastScore]) -> None:
        """Store last scores of entities, each where none is stored of a newer event.

        Raises:
            StoreUnavailable: Not all could be stored.
        """

    def get_all(self, event_ids: Sequence[str]) -> dict[str, ScoreRecord]:
        """The stored scores of events, by id; events without one are left out.

        Raises:
            StoreUnavailable: The store did not answer.
        """


class EventStream(Protocol):
    """The stream that events are put on."""

    def put(self, data: bytes, partition_key: str) -> str:
        """Put one event; its sequence number.

        Raises:
            StreamUnavailable: The stream did not take it.
        """


class Clock(Protocol):
    """Time and waiting."""

    def now(self) -> int:
        """Microseconds UTC since 1970."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
