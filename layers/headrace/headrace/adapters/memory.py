"""Stores in memory, for replays of volume and for tests; they pass the stores' contract suite."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import TYPE_CHECKING
from zlib import crc32

from headrace.ports import (
    Kept,
    Quarantined,
    Replaced,
    ScannedState,
    ScanPage,
    StoredState,
    WriteOutcome,
)
from headrace.scores import Known
from headrace.table_ports import NO_LOAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.ports import Segment, Selection, StateWrite
    from headrace.scores import BatchScore, LastScore, ScoreRecord
    from headrace.table_ports import LoadNote
    from headrace.table_rows import TableRow


_NOTHING = StoredState(0, b"")


class MemoryStates:
    """Fulfils ``ports.StateStore``."""

    def __init__(self) -> None:
        self.items: dict[str, StoredState] = {}
        self.rows: dict[str, list[TableRow]] = {}  # by the entity's key; every load is kept

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """See the port."""
        if not self.rows:
            return {key: self.items[key] for key in keys if key in self.items}
        return {
            key: self.items.get(key, _NOTHING)._replace(rows=tuple(self.rows.get(key, ())))
            for key in keys
            if key in self.items or key in self.rows
        }

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port."""
        lost = set()
        for write in writes:
            stored = self.items.get(write.key)
            if (stored.version if stored else 0) != write.expected:
                lost.add(write.key)
            else:
                self.items[write.key] = StoredState(write.expected + 1, write.data)
        return WriteOutcome(frozenset(lost), {})

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port; in the order of the keys."""
        keys = sorted(
            key
            for key in self.items
            if key.startswith(f"{entity}#")
            and crc32(key.encode()) % segment.total == segment.number
        )
        start = 0 if cursor is None else bisect_right(keys, cursor)
        page = keys[start : start + segment.limit]
        more = start + segment.limit < len(keys)
        found = self.read(page)
        return ScanPage([ScannedState(key, *found[key]) for key in page],
                        page[-1] if more else None)  # fmt: skip


class MemoryTable:
    """Fulfils ``table_ports.TableStore``: its rows are those of states in memory."""

    def __init__(self, states: MemoryStates, entity: str) -> None:
        self._states, self._entity = states, entity
        self._notes: dict[str, LoadNote] = {}

    def noted(self, table: str) -> LoadNote:
        """See the port."""
        return self._notes.get(table, NO_LOAD)

    def note(self, table: str, note: LoadNote) -> None:
        """See the port."""
        self._notes[table] = note

    def put_rows(self, rows: Mapping[str, TableRow], expires: int) -> None:
        """See the port."""
        for entity_id, row in rows.items():
            self._states.rows.setdefault(f"{self._entity}#{entity_id}", []).append(row)


class MemoryScores:
    """Fulfils ``ports.ScoreStore`` and ``ports.FirstScores``."""

    def __init__(self) -> None:
        self.records: dict[str, ScoreRecord] = {}
        self.last: dict[tuple[str, str], LastScore] = {}
        self.batch: dict[tuple[str, str], BatchScore] = {}
        self.read_batch: set[tuple[str, str]] = set()
        self.progress_of: dict[str, bytes] = {}

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port."""
        self.records.update((record.id, record) for record in records)
        self.last.update(((each.entity, each.entity_id), each) for each in last)

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port."""
        there = 0
        for record in records:
            there += record.id in self.records
            self.records.setdefault(record.id, record)
        return there

    def put_last(self, last: Sequence[LastScore]) -> None:
        """See the port."""
        for each in last:
            stored = self.last.get((each.entity, each.entity_id))
            if stored is None or _time(stored) <= _time(each):
                self.last[each.entity, each.entity_id] = each

    def get(self, event_id: str) -> ScoreRecord | None:
        """See the port."""
        return self.records.get(event_id)

    def get_all(self, event_ids: Sequence[str]) -> dict[str, ScoreRecord]:
        """See the port."""
        return {each: self.records[each] for each in event_ids if each in self.records}

    def put_batch(self, scores: Sequence[BatchScore]) -> Replaced:
        """See the port."""
        new = {(score.entity, score.entity_id): score for score in scores}
        former = [k for k in new if k in self.batch and self.batch[k].as_of < new[k].as_of]
        replaced = Replaced(len(former), sum(key in self.read_batch for key in former))
        stored = {
            k: s for k, s in new.items() if k not in self.batch or self.batch[k].as_of <= s.as_of
        }
        self.read_batch.difference_update(stored)
        self.batch.update(stored)
        return replaced

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """See the port."""
        return {key: Known(self.last.get(_ids(key)), self.batch.get(_ids(key))) for key in keys}

    def mark_read(self, key: str) -> None:
        """See the port."""
        if _ids(key) in self.batch:
            self.read_batch.add(_ids(key))

    def get_progress(self, run: str) -> bytes | None:
        """See the port."""
        return self.progress_of.get(run)

    def put_progress(self, run: str, data: bytes, expected: bytes | None) -> bool:
        """See the port."""
        if self.progress_of.get(run) != expected:
            return False
        self.progress_of[run] = data
        return True


def _ids(key: str) -> tuple[str, str]:
    entity, _, entity_id = key.partition("#")
    return entity, entity_id


def _time(last: LastScore) -> datetime:
    return datetime.fromisoformat(last.event_time)


class MemoryQuarantine:
    """Fulfils ``ports.Quarantine``."""

    def __init__(self) -> None:
        self.refused: dict[str, Quarantined] = {}

    def put(self, refused: Quarantined) -> None:
        """See the port."""
        self.refused[refused.record.position] = refused


class MemoryKept:
    """Fulfils ``ports.KeptRecords``.

    Attributes:
        kept: By key.
        redriven: What was put away, by the key that it had.
    """

    def __init__(self, kept: Iterable[Kept] = ()) -> None:
        self.kept = {each.key: each for each in kept}
        self.redriven: dict[str, Kept] = {}

    def put(self, refused: Quarantined) -> None:
        """See the port."""
        reason, record = refused.faults[0].reason, refused.record
        key = f"{reason}/{record.position}"
        self.kept[key] = Kept(key, reason, (record,), refused.faults)

    def select(self, selection: Selection) -> Iterator[Kept]:
        """See the port."""
        yield from sorted(filter(selection.takes, self.kept.values()), key=lambda k: k.arrival)

    def replace(self, kept: Kept, refused: Quarantined) -> None:
        """See the port."""
        self.put(refused)
        if refused.faults[0].reason != kept.reason:
            self.kept.pop(kept.key, None)

    def put_away(self, kept: Kept) -> None:
        """See the port."""
        self.redriven[kept.key] = kept
        self.kept.pop(kept.key, None)


class MemoryStream:
    """Fulfils ``ports.EventStream``."""

    def __init__(self) -> None:
        self.events: list[tuple[bytes, str]] = []

    def put(self, data: bytes, partition_key: str) -> str:
        """See the port."""
        self.events.append((data, partition_key))
        return str(len(self.events))
