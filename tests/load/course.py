"""A load run from start to end: START HERE. Steady, frozen, caught up, burst, killed, drained."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.adapters.clock import SystemClock
from headrace.adapters.dynamodb import DynamoStates
from headrace.local.stream_replay import seed
from headrace.model import load_bundle
from headrace.scoring import Scorer
from tests.load.proof import proven
from tests.load.rig import ROOT, Rig, kill_functions, rigged
from tests.load.traffic import Producer, history, live_events
from tests.load.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_SECONDS = 600.0
_LOOK_SECONDS = 0.1
_SLACK_SECONDS = 1.0
_CALM_ROWS = 2


@dataclass(frozen=True, slots=True)
class Course:
    """How much of everything.

    Attributes:
        shards: Of the stream.
        customers: Half as many terminals.
        days: Of history before the run.
        probe: Events that wait at once while the capacity is measured.
        steady: Share of the capacity that comes all the time.
        burst: Times the capacity that comes in a burst.
        steady_seconds: Before anything happens.
        frozen_seconds: While DynamoDB answers nothing.
        burst_seconds: Of the burst.
        kills: How often all processes of the function are killed while the backlog drains.
        row_seconds: Of a row of the table.
        random: Seed of the events.
        stream: What plays the stream: ``moto`` or ``kinesis-mock``.
    """

    shards: int = 10
    customers: int = 3_000
    days: int = 40
    probe: int = 5_000
    steady: float = 0.5
    burst: float = 3.0
    steady_seconds: float = 60.0
    frozen_seconds: float = 15.0
    burst_seconds: float = 10.0
    kills: int = 3
    row_seconds: float = 5.0
    random: int = 7
    stream: str = "moto"


class Run:
    """Drives one course on a rig, with pollers and producer at work."""

    def __init__(self, course: Course, rig: Rig, watch: Watch, producer: Producer) -> None:
        self.course, self.rig, self.watch, self.producer = course, rig, watch, producer
        self.found: dict[str, Any] = {}

    def drive(self) -> None:
        """Everything up to the last acknowledged record.

        Raises:
            TimeoutError: A phase did not end.
        """
        self._warm_up()
        steady = self._steady()
        calm = max(row.age_seconds or 0.0 for row in steady) + _SLACK_SECONDS
        self._freeze(calm)
        self._burst(calm)
        self.watch.phase = "end"
        self.producer.stop()
        self._await("all is through", self._drained)

    def _warm_up(self) -> None:
        """Let every shard start its process, then see what is drained while much waits."""
        course, producer = self.course, self.producer
        self.watch.phase = "warm"
        producer.put_now(50 * course.shards)
        self._await("the functions are warm", self._drained)
        self.watch.phase = "capacity"
        began = time.monotonic()
        producer.put_now(course.probe)
        self._await("the probe is through", self._drained)
        self.capacity = course.probe / (time.monotonic() - began)
        self.found["capacity_per_second"] = round(self.capacity)

    def _steady(self) -> list[Any]:
        self.watch.phase = "steady"
        self.producer.rate = self.course.steady * self.capacity
        before = self.producer.put
        time.sleep(self.course.steady_seconds)
        put = (self.producer.put - before) / self.course.steady_seconds
        rows = self.watch.of("steady")[1:]  # the first one began before
        self.found["steady_per_second"] = round(put)
        self.found["steady_age_seconds"] = round(max(row.age_seconds or 0.0 for row in rows), 1)
        return rows

    def _freeze(self, calm: float) -> None:
        """DynamoDB takes connections and answers nothing; events go on coming."""
        self.watch.phase = "frozen"
        with self.rig.dynamodb.frozen():
            time.sleep(self.course.frozen_seconds)
        self.watch.phase = "catch up"
        self._recover("frozen", ("frozen", "catch up"), calm)

    def _burst(self, calm: float) -> None:
        """More comes than can be done, and the processes die while it is worked off."""
        course, steady = self.course, self.producer.rate
        self.watch.phase = "burst"
        self.producer.rate = course.burst * self.capacity
        time.sleep(course.burst_seconds)
        self.producer.rate = steady
        self.watch.phase = "drain"
        killed = 0
        for _ in range(course.kills):
            time.sleep(course.row_seconds / 2)
            killed += kill_functions()
        self.found["killed"] = killed
        self._recover("burst", ("burst", "drain"), calm)

    def _recover(self, name: str, phases: tuple[str, ...], calm: float) -> None:
        """Wait until iterator age is again what it was, and note how bad it had been."""
        began, first = time.monotonic(), len(self.watch.rows) + 1
        self._await(f"calm after {name}", lambda: self._calm(first, calm))
        self.found[f"{name}_recovered_seconds"] = round(time.monotonic() - began)
        rows = [row for phase in phases for row in self.watch.of(phase)]
        self.found[f"{name}_age_seconds"] = round(max(row.age_seconds or 0.0 for row in rows), 1)
        self.found[f"{name}_waiting"] = max(row.waiting for row in rows)

    def _calm(self, first: int, age_seconds: float) -> bool:
        """Whether the last rows, since the one given, are as in the steady phase."""
        last = self.watch.rows[first:][-_CALM_ROWS:]
        ages = [row.age_seconds for row in last]
        return len(ages) == _CALM_ROWS and all(a is not None and a <= age_seconds for a in ages)

    def _drained(self) -> bool:
        return self.watch.acknowledged >= self.producer.put

    def _await(self, what: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not true():
            if time.monotonic() > deadline:
                msg = f"{what}: not after {LIMIT_SECONDS:.0f} s"
                raise TimeoutError(msg)
            time.sleep(_LOOK_SECONDS)


def run(course: Course, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run a course; figures, and the rows of its table.

    Raises:
        NotHereError: An engine cannot be had on this machine.
        TimeoutError: A phase did not end.
    """
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    past = history(scorer, course.customers, course.days)
    with rigged(course.shards, course.stream) as rig:
        dynamodb = rig.client("dynamodb")
        store = DynamoStates(dynamodb, rig.table("StateTable"), SystemClock())
        seed(scorer, past.states, store)
        tell(f"{len(past.states.items):,} states of {past.traffic.events.height:,} events before")
        producer = Producer(rig.client("kinesis"), rig.stream, live_events(past, course.random))
        watch = Watch(course.row_seconds, tell)
        with rig.polled(watch.note), _beside(watch, producer, rig):
            driven = Run(course, rig, watch, producer)
            driven.drive()
        tell("comparing with a replay of what was delivered ...")
        proof = proven(rig, scorer, past.states, watch.records.values(), producer.ids)
        return {
            **driven.found,
            "put": producer.put,
            "transactions": len(producer.ids),
            "undelivered": producer.put - len(watch.records),
            "failed_invocations": watch.failed,
            "conflicts": rig.logs.conflicts,
            "repeated": rig.logs.repeated,
            **proof,
            "rows": watch.as_json(),
        }


@contextmanager
def _beside(watch: Watch, producer: Producer, rig: Rig) -> Iterator[None]:
    """Producer and watch at work in their threads."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=producer.run, daemon=True),
        threading.Thread(target=watch.run, args=(producer, rig.logs, stop), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        producer.stop()
        stop.set()
        for thread in threads:
            thread.join()
