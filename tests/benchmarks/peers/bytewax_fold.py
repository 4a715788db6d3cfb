"""Bytewax: the same six windows by stateful maps over lists with head pointers; CPU per event."""

from __future__ import annotations

import time
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from rounds import serve
from stream_events import MEASURED, WARM, WINDOWS_DAYS, Event, events

SECONDS = [days * 86_400 for days in WINDOWS_DAYS]


def fold(state: Any, event: Event) -> tuple[Any, list[float]]:
    """Rows, and for each window where it begins and its sum."""
    if state is None:
        state = ([], [], [0] * len(SECONDS), [0.0] * len(SECONDS))
    times, amounts, heads, sums = state
    now, amount = event[2], event[3]
    times.append(now)
    amounts.append(amount)
    found: list[float] = []
    for number, length in enumerate(SECONDS):
        sums[number] += amount
        while times[heads[number]] <= now - length:
            sums[number] -= amounts[heads[number]]
            heads[number] += 1
        count = len(times) - heads[number]
        found += [count, sums[number] / count]
    return state, found


def run(given: list[Event]) -> float:
    """CPU seconds of a data flow over these events."""
    flow, out = Dataflow("bench"), []
    stream = op.input("in", flow, TestingSource(given))
    for number, name in enumerate(("customer", "terminal")):
        keyed = op.key_on(f"key_{name}", stream, lambda event, at=number: str(event[at]))
        folded = op.stateful_map(f"fold_{name}", keyed, fold)
        op.output(f"out_{name}", folded, TestingSink(out))
    began = time.process_time()
    run_main(flow)
    return time.process_time() - began


def measure() -> float:
    """What the last events add to a run: the history itself and the start are not counted."""
    given = events()
    return (run(given) - run(given[:WARM])) / MEASURED * 1e6


if __name__ == "__main__":
    serve(measure)
