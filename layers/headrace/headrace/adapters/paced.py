"""States written no faster than a budget of write units allows.

Source: Amazon DynamoDB Developer Guide, "Burst and adaptive capacity": a table serves its units per
second, so what is written is spread as evenly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.adapters.capacity import write_units
from headrace.ports import WriteOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headrace.ports import Clock, ScanPage, Segment, StateStore, StateWrite, StoredState

_US_PER_SECOND = 1_000_000
_PORTIONS_PER_SECOND = 4
_TICK_SECONDS = 1e-6  # a clock of microseconds would stand still for less


class WriteBudget:
    """A token bucket of write units: one second's worth at most, and empty at the start.

    In any s seconds it gives at most (s + 1) times its rate, and what one item is larger than that.

    Args:
        per_second: Units.
        clock: Tells the time and waits.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self.per_second, self._clock = per_second, clock
        self._units, self._then = 0.0, clock.now()

    def take(self, units: int) -> None:
        """Wait until there are so many units, and take them.

        More than the bucket holds are lent once it is full, and the next one waits for them.
        """
        enough = min(float(units), self.per_second)
        self._fill()
        while self._units < enough:
            lacking = (enough - self._units) / self.per_second
            self._clock.sleep(max(_TICK_SECONDS, lacking))
            self._fill()
        self._units -= units

    def _fill(self) -> None:
        now = self._clock.now()
        passed = max(0, now - self._then) / _US_PER_SECOND  # a clock that is set back gives nothing
        self._units = min(self.per_second, self._units + passed * self.per_second)
        self._then = now


class PacedStates:
    """Fulfils ``ports.StateStore`` by another, and writes within a budget."""

    def __init__(self, store: StateStore, budget: WriteBudget) -> None:
        self._store, self._budget = store, budget

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """See the port; reads are not paced."""
        return self._store.read(keys)

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port; a few at a time, each time after their units are there."""
        lost: set[str] = set()
        failed: dict[str, str] = {}
        for portion, units in self._portions(writes):
            self._budget.take(units)
            outcome = self._store.write(portion)
            lost |= outcome.lost
            failed |= outcome.failed
        return WriteOutcome(frozenset(lost), failed)

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port; scans are not paced."""
        return self._store.scan(entity, segment, cursor)

    def _portions(self, writes: Sequence[StateWrite]) -> Iterator[tuple[list[StateWrite], int]]:
        """Writes of about a quarter second's units, at least one."""
        most = self._budget.per_second / _PORTIONS_PER_SECOND
        portion: list[StateWrite] = []
        units = 0
        for write in writes:
            needed = write_units(write)
            if portion and units + needed > most:
                yield portion, units
                portion, units = [], 0
            portion.append(write)
            units += needed
        if portion:
            yield portion, units
