"""The only place where the library asks what time it is."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from headrace.adapters.begun import InPlace

if TYPE_CHECKING:
    from headrace.adapters.begun import Begun


class SystemClock:
    """The machine's clock; fulfils ``ports.Clock``."""

    def now(self) -> int:
        """Microseconds UTC since 1970."""
        return time.time_ns() // 1_000

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def seconds(self) -> float:
        """Seconds on a clock that only goes forward; see ``lookups.Stopwatch``."""
        return time.monotonic()

    def wait(self, call: Begun[Any], seconds: float) -> None:
        """Wait for a call, so long at most; see ``lookups.Stopwatch``."""
        if isinstance(call, Future):
            wait([call], max(0.0, seconds))
        elif isinstance(call, InPlace):
            end = time.monotonic() + seconds
            call.proceed(lambda: end - time.monotonic())


class FixedClock:
    """A virtual clock: it stands still unless somebody waits; for tests, replays and triggers."""

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        """Microseconds UTC since 1970."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self._now += round(seconds * 1_000_000)

    def set(self, now: int) -> None:
        """Move to an instant, microseconds UTC."""
        self._now = now
