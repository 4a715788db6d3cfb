"""River: count and mean of amounts in six rolling windows over two entities; CPU per event."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from river import stats, utils
from rounds import serve
from stream_events import MEASURED, WARM, WINDOWS_DAYS, Event, events

Windows = list[utils.TimeRolling]


def fold(states: dict[tuple[str, int], Windows], event: tuple[Event, datetime]) -> list[float]:
    """Update both entities' windows with an event, and read the features as of it."""
    (customer, terminal, _, amount), when = event
    found: list[float] = []
    for key in (("customer", customer), ("terminal", terminal)):
        windows = states.get(key)
        if windows is None:
            windows = states[key] = [
                utils.TimeRolling(stats.Mean(), timedelta(days=days)) for days in WINDOWS_DAYS
            ]
        for window in windows:
            window.update(amount, t=when)
            found += [window.n, window.get()]
    return found


def measure() -> float:
    """One round: a history, then the events that count."""
    states: dict[tuple[str, int], Windows] = {}
    start = datetime(1970, 1, 1)  # noqa: DTZ001 - River wants times without a zone
    timed = [(event, start + timedelta(seconds=event[2])) for event in events()]
    for event in timed[:WARM]:
        fold(states, event)
    began = time.process_time()
    for event in timed[WARM:]:
        fold(states, event)
    return (time.process_time() - began) / MEASURED * 1e6


if __name__ == "__main__":
    serve(measure)
