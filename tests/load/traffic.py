"""Card transactions and labels as of now, at a rate: what producers put on the stream."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.adapters.clock import SystemClock
from headrace.local.producer import put_records
from headrace.offline.feed import feed_of
from headrace.offline.replay import Window, replay
from headrace.offline.simulator import Plan, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.adapters.memory import MemoryStates
    from headrace.offline.simulator import Traffic
    from headrace.scoring import Scorer

TICK_SECONDS = 0.2
LABELS = 0.1
"""Share of labels among the events, of transactions of the last days."""
REPEATS = 0.02
"""Share of the events that their producer sends once more, some seconds later."""
_REPEATED_AFTER = 500
_FIRST_LIVE_ID = 10_000_000


@dataclass(frozen=True, slots=True)
class History:
    """What happened before: who pays where, and the states that it left.

    Attributes:
        traffic: The days before now.
        states: Of every entity, as of now.
    """

    traffic: Traffic
    states: MemoryStates


def history(scorer: Scorer, customers: int, days: int) -> History:
    """Simulate the days up to now and fold them."""
    now = datetime.now(UTC).replace(microsecond=0)
    traffic = simulate(
        Plan(
            customers=customers, terminals=customers // 2, days=days, events_per_day=0.7,
            start=now - timedelta(days=days),
        )
    )  # fmt: skip
    definition = scorer.definition
    feeds = [
        feed_of(traffic.events.filter(pl.col("event_time") < now), definition.scored),
        feed_of(traffic.labels.filter(pl.col("label_time") < now), definition.label.source),
    ]
    end = int(now.timestamp()) * 1_000_000
    return History(traffic, replay(scorer, feeds, Window(end, end)).states)


def live_events(past: History, seed: int) -> Iterator[tuple[bytes, str]]:
    """Records without end, of those customers and terminals; each is of when it is drawn."""
    random, sent = Random(seed), []
    events = past.traffic.events.rows(named=True)
    now = datetime.now(UTC)
    recent = pl.col("event_time").is_between(now - timedelta(days=6), now)
    labels = iter(past.traffic.labels.filter(recent, pl.col("label_time") > now).rows(named=True))
    number = _FIRST_LIVE_ID
    while True:
        label = next(labels, None) if random.random() < LABELS else None
        event = _label(label) if label else _transaction(random.choice(events), number)
        number += 1
        record = (msgspec.json.encode(event), str(event["customer_id"]))
        yield record
        sent.append(record)
        if random.random() < REPEATS:
            yield sent[max(0, len(sent) - _REPEATED_AFTER)]


def _transaction(like: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": datetime.now(UTC).isoformat(),
        "customer_id": like["customer_id"],
        "terminal_id": like["terminal_id"],
        **({} if like["amount"] is None else {"amount": like["amount"]}),
    }


def _label(row: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: row[name] for name in ("transaction_id", "customer_id", "terminal_id", "is_fraud")
    }
    return {"source": "labels", "event_time": row["event_time"].isoformat(), **kept}


@dataclass
class Producer:
    """Puts events on a stream at ``rate`` per second from a thread of its own, until stopped.

    Attributes:
        kinesis: A client of its own.
        stream: Name of the stream.
        events: What is put.
        rate: Events per second; may change at any time.
        put: How many so far, with those that are on their way to the stream.
        ids: Of the transactions among them.
    """

    kinesis: Any
    stream: str
    events: Iterator[tuple[bytes, str]]
    rate: float = 0.0
    put: int = 0
    ids: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_now(self, count: int) -> None:
        """Put so many at once."""
        with self._lock:
            chosen = [next(self.events) for _ in range(count)]
            self.put += count  # before: what is acknowledged has been counted
            put_records(self.kinesis, self.stream, chosen, SystemClock())
        for data, _ in chosen:
            event = msgspec.json.decode(data)
            if event["source"] == "transactions":
                self.ids.add(str(event["transaction_id"]))

    def run(self) -> None:
        """Put by the clock; what is late is made up for."""
        owed, before = 0.0, time.monotonic()
        while not self._stop.wait(TICK_SECONDS):
            now = time.monotonic()
            owed += self.rate * (now - before)
            before = now
            self.put_now(int(owed))
            owed -= int(owed)

    def stop(self) -> None:
        """Put no more."""
        self._stop.set()
