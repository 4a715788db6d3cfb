"""What stores cost on DynamoDB: capacity units, computed from the sizes of items.

Wraps any fulfilment of the store ports, in memory too, so that a replay tells what its traffic
would cost. Source: Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats" and "DynamoDB
read and write operations".
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from headrace.adapters.items import last_item, score_item, state_item
from headrace.ports import StateWrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.ports import EventScores, ScanPage, Segment, StateStore, StoredState, WriteOutcome
    from headrace.scores import Known, LastScore, ScoreRecord

READ_UNIT_BYTES = 4_096
WRITE_UNIT_BYTES = 1_024
_EXPIRES = 2_000_000_000  # any second of these years takes the same room


@dataclass(slots=True)
class Capacity:
    """Units used.

    Attributes:
        state_reads: Read units for states, consistent reads.
        state_writes: Write units for states.
        lost_writes: Of these, for writes whose condition failed: they cost as much.
        score_writes: Write units for scores of events.
        last_writes: Write units for last scores of entities.
        reads: States read, whether there was one or not.
        writes: States written, lost ones included.
    """

    state_reads: int = 0
    state_writes: int = 0
    lost_writes: int = 0
    score_writes: int = 0
    last_writes: int = 0
    reads: int = 0
    writes: int = 0

    def per_event(self, events: int) -> dict[str, float]:
        """Units per event of the scored source."""
        every = max(events, 1)
        return {
            "read_units": round(self.state_reads / every, 3),
            "state_write_units": round(self.state_writes / every, 3),
            "score_write_units": round(self.score_writes / every, 3),
            "last_write_units": round(self.last_writes / every, 3),
        }


class MeteredStates:
    """Fulfils ``ports.StateStore`` by another, and counts."""

    def __init__(self, store: StateStore, capacity: Capacity) -> None:
        self._store, self._capacity = store, capacity

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """See the port."""
        wanted = list(keys)
        found = self._store.read(wanted)
        for key in wanted:
            stored = found.get(key)
            size = item_bytes(_item_of(key, stored)) if stored and stored.version else 0
            self._capacity.state_reads += units(size, READ_UNIT_BYTES)
        self._capacity.reads += len(wanted)
        return found

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port; a failed condition costs what the larger of both items would."""
        outcome = self._store.write(writes)
        for write in writes:
            used = write_units(write)
            self._capacity.state_writes += used
            self._capacity.lost_writes += used if write.key in outcome.lost else 0
        self._capacity.writes += len(writes)
        return outcome

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port; scans are not counted."""
        return self._store.scan(entity, segment, cursor)


class MeteredScores:
    """Fulfils ``ports.EventScores`` by another, and counts."""

    def __init__(self, store: EventScores, capacity: Capacity) -> None:
        self._store, self._capacity = store, capacity

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port."""
        self._store.put_new(records, last)
        self._count(records)
        for each in last:
            self._capacity.last_writes += units(item_bytes(last_item(each)), WRITE_UNIT_BYTES)

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """See the port; rare, and not counted."""
        return self._store.get_known(keys)

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port."""
        self._count(records)
        return self._store.put_first(records)

    def _count(self, records: Sequence[ScoreRecord]) -> None:
        for record in records:
            size = item_bytes(score_item(record, _EXPIRES))
            self._capacity.score_writes += units(size, WRITE_UNIT_BYTES)


def state_sizes(items: Mapping[str, StoredState]) -> dict[str, float]:
    """``<entity>_state_bytes`` -> mean bytes of the items of its states.

    Args:
        items: Entity key -> state.
    """
    found: dict[str, list[int]] = {}
    for key, stored in items.items():
        found.setdefault(key.partition("#")[0], []).append(item_bytes(_item_of(key, stored)))
    return {f"{name}_state_bytes": round(fmean(found[name]), 1) for name in sorted(found)}


def write_units(write: StateWrite) -> int:
    """Write units that a state takes, stored or not."""
    return units(item_bytes(state_item(write)), WRITE_UNIT_BYTES)


def units(size: int, unit: int) -> int:
    """Bytes in whole units, at least one."""
    return max(1, -(-size // unit))


def item_bytes(item: dict[str, dict[str, Any]]) -> int:
    """Size of an item: names and values; numbers take about a byte for two digits."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: dict[str, Any]) -> int:
    kind, content = next(iter(value.items()))
    if kind == "S":
        return len(content.encode())
    if kind == "B":
        return len(content)
    number = str(content)
    digits = number.partition("e")[0].lstrip("-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + number.startswith("-")


def _item_of(key: str, stored: StoredState) -> dict[str, dict[str, Any]]:
    return state_item(StateWrite(key, stored.version - 1, stored.data, _EXPIRES))
