"""What a load run looks like while it runs: rates, what waits, iterator age, failures by time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.local.delivery import Invocation
    from headrace.local.records import StreamRecord
    from tests.load.rig import Logs
    from tests.load.traffic import Producer

COLUMNS = (
    "second", "phase   ", " in/s", "out/s", "waiting", "age s", "shards", "batches", "failed",
    "conflicts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """Some seconds of a run.

    Attributes:
        second: When they end, since the start.
        phase: What was going on.
        rate_in: Events put, per second.
        rate_out: Events acknowledged, per second.
        waiting: Events put and not acknowledged at the end.
        age_seconds: The largest iterator age of any shard's invocations; None where none ended.
        shards: How many shards had an invocation that ended.
        invocations: That ended.
        failed: Of those, invocations that did not acknowledge all they got.
        conflicts: Lost races for an entity's state.
    """

    second: float
    phase: str
    rate_in: float
    rate_out: float
    waiting: int
    age_seconds: float | None
    shards: int
    invocations: int
    failed: int
    conflicts: int

    def cells(self) -> str:
        """As a line of the table."""
        age = "-" if self.age_seconds is None else f"{self.age_seconds:.1f}"
        return (
            f"{self.second:6.0f} | {self.phase:8} | {self.rate_in:5.0f} | {self.rate_out:5.0f} | "
            f"{self.waiting:7,} | {age:>5} | {self.shards:6} | {self.invocations:7} | "
            f"{self.failed:6} | {self.conflicts:9}"
        )


@dataclass
class Watch:
    """Takes note of every invocation, from any thread, and makes a row every few seconds.

    Attributes:
        every: Seconds of a row.
        tell: Told of every row.
        phase: What is going on.
        rows: So far.
        records: Everything that was delivered, by shard and sequence number.
        acknowledged: How many records the function is through with.
        failed: Invocations that did not acknowledge all they got.
    """

    every: float
    tell: Callable[[str], None]
    phase: str = ""
    rows: list[Row] = field(default_factory=list)
    records: dict[tuple[str, int], StreamRecord] = field(default_factory=dict)
    acknowledged: int = 0
    failed: int = 0
    _ages: dict[str, float] = field(default_factory=dict)
    _ended: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, invocation: Invocation) -> None:
        """Take note; for ``Rig.polled``."""
        with self._lock:
            for record in invocation.records:
                self.records[record.shard, int(record.sequence_number)] = record
            whole = invocation.acknowledged == len(invocation.records)
            self._ended[invocation.shard] += 1
            self.acknowledged += invocation.acknowledged
            self.failed += not whole
            age = max(self._ages.get(invocation.shard, 0.0), invocation.iterator_age_seconds)
            self._ages[invocation.shard] = age

    def run(self, producer: Producer, logs: Logs, stop: threading.Event) -> None:
        """Make rows until told to stop; for a thread."""
        began = before = time.monotonic()
        seen = (0, 0, 0, 0)
        self.tell(" | ".join(COLUMNS))
        while not stop.wait(self.every):
            now = time.monotonic()
            with self._lock:
                ages, ended = self._ages, self._ended
                self._ages, self._ended = {}, Counter()
                counts = (producer.put, self.acknowledged, self.failed, logs.conflicts)
            new = [one - other for one, other in zip(counts, seen, strict=True)]
            row = Row(
                round(now - began, 1), self.phase, new[0] / (now - before), new[1] / (now - before),
                counts[0] - counts[1], max(ages.values(), default=None), len(ended), ended.total(),
                new[2], new[3],
            )  # fmt: skip
            seen, before = counts, now
            self.rows.append(row)
            self.tell(row.cells())

    def of(self, phase: str) -> list[Row]:
        """Rows of a phase."""
        return [row for row in self.rows if row.phase == phase]

    def as_json(self) -> list[dict[str, Any]]:
        """Every row."""
        return [
            {name: round(value, 1) if isinstance(value, float) else value
             for name, value in asdict(row).items()}
            for row in self.rows
        ]  # fmt: skip
