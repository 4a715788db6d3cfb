"""A circuit breaker: after failures in a row, stop asking for a while, then try once.

Pure: the time is handed in. Imports nothing of the project.
"""

from __future__ import annotations

FAILURES = 5
"""Failures in a row that open it."""

OPEN_SECONDS = 5.0
"""How long it stays open before one call may try again."""


class Circuit:
    """Closed: all calls go. Open: none does. Then half-open: one call at a time tries.

    A call that was let through is reported by ``succeeded`` or ``failed``. A trial that is never
    reported blocks no longer than an open circuit would.

    Attributes:
        opened: How often it has opened, half-open ones that failed again included.

    >>> circuit = Circuit(failures=2, open_seconds=5.0)
    >>> for second in (0.0, 1.0):
    ...     assert circuit.lets_through(second)
    ...     circuit.failed(second)
    >>> circuit.lets_through(5.9), circuit.lets_through(6.0), circuit.lets_through(6.1)
    (False, True, False)
    """

    def __init__(self, failures: int = FAILURES, open_seconds: float = OPEN_SECONDS) -> None:
        self._most, self._open_seconds = failures, open_seconds
        self._failures = 0
        self._held_until: float | None = None
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, all of them or all but one."""
        return self._held_until is not None

    def lets_through(self, now: float) -> bool:
        """Whether a call may go.

        Args:
            now: Seconds on any clock that only goes forward.
        """
        if self._held_until is None:
            return True
        if now < self._held_until:
            return False
        self._held_until = now + self._open_seconds  # others wait for this trial
        return True

    def succeeded(self) -> None:
        """A call that went was answered."""
        self._failures, self._held_until = 0, None

    def failed(self, now: float) -> None:
        """A call that went failed or was not answered in time."""
        self._failures += 1
        if self._failures >= self._most:
            self._held_until = now + self._open_seconds
            self.opened += 1
