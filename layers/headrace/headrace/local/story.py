"""The story that `headrace demo` tells: from history to live scores, step by step.

Every step uses the real handlers behind the template's own triggers. May import everything but
the command line.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace import bootstrap
from headrace.adapters.aws import in_parallel
from headrace.events import time_to_us
from headrace.local.stream_replay import Arrivals, seed
from headrace.offline.feed import Feed, arrivals, feed_of, partition_keys, records
from headrace.offline.replay import Window, replay
from headrace.offline.simulator import Plan, Traffic, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.local.stack import LocalAws
    from headrace.scores import ScoreRecord
    from headrace.scoring import Scorer

_REPEATS_OF_A_CHUNK = 5
_LIVE_PAUSE_SECONDS = 0.1
_LIVE_LIMIT_SECONDS = 30.0
_LIVE_ID = 10**9


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is of everything.

    Attributes:
        customers: How many are simulated.
        terminals: How many they pay at.
        days: Length of their history.
        backlog: Last records of it, which go through the stream.
        live: Events that are sent one by one.
    """

    customers: int = 1_000
    terminals: int = 2_000
    days: int = 45
    backlog: int = 2_500
    live: int = 40


@dataclass(slots=True)
class Story:
    """What was met on the way.

    Attributes:
        history: Transactions that were folded before the stream was started.
        seeded: Entity states written to DynamoDB.
        sent: Records put on the stream, bad and repeated ones included.
        repeats: Of those, repeated ones.
        bad: Of those, bad ones.
        expected: Good events among what was sent, each counted once.
        scored: Events with a stored score.
        imputed: Cause -> values imputed in their scores.
        quarantined: Reason -> records in quarantine.
        backlog_seconds: From the first put to the last score.
        ranks: Of the frauds among the scored events, by what the simulator knows; 1 is the
            highest score.
        live_seconds: Put to score of each live event.
        answers: What the endpoint said: request -> short answer.
        batch: The scheduled run's report.
        rungs: Rung -> how many look-ups it answered.
    """

    history: int = 0
    seeded: int = 0
    sent: int = 0
    repeats: int = 0
    bad: int = 0
    expected: int = 0
    scored: int = 0
    imputed: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    backlog_seconds: float = 0.0
    ranks: list[int] = field(default_factory=list)
    live_seconds: list[float] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)
    rungs: dict[str, int] = field(default_factory=dict)

    def lacks(self, scale: Scale) -> list[str]:
        """What should have come out and did not; nothing where all went well."""
        kept, live = sum(self.quarantined.values()), len(self.live_seconds)
        found = (
            ("scores of the backlog", self.scored, self.expected),
            ("bad records in quarantine", kept, self.bad),
            ("scores of live events", live, scale.live),
            ("customers in the scheduled run", self.batch.get("entities", 0), 1),
        )
        return [f"{name}: got {n:,}; expected {due:,}" for name, n, due in found if n < due]


_USUAL = Scale()


class Storyteller:
    """Tells the story on one local AWS."""

    def __init__(
        self, scorer: Scorer, known: Arrivals, now: datetime, scale: Scale = _USUAL
    ) -> None:
        self._scorer, self._known, self.scale = scorer, known, scale
        definition = scorer.definition
        start = (now - timedelta(days=scale.days)).replace(microsecond=0)
        plan = Plan(
            customers=scale.customers, terminals=scale.terminals, days=scale.days, start=start
        )
        self._traffic: Traffic = simulate(plan)
        self._feeds = [
            feed_of(self._traffic.events, definition.scored),
            feed_of(self._traffic.labels, definition.label.source),
        ]
        self._order = arrivals(self._feeds).filter(pl.col("arrival") < time_to_us(now))
        self._cut = int(self._order["arrival"][-scale.backlog])
        self.story = Story()

    def seed_history(self, progress: Callable[[int], None]) -> None:
        """Fold the history in memory and write every entity's state to DynamoDB."""
        found = replay(self._scorer, self._feeds, Window(self._cut, self._cut), progress)
        seed(self._scorer, found.states)
        self.story.history = found.counts["scored"]
        self.story.seeded = len(found.states.items)

    @property
    def history(self) -> int:
        """Records of the history."""
        return len(self._order) - len(self._backlog)

    @property
    def _backlog(self) -> pl.DataFrame:
        return self._order.filter(pl.col("arrival") >= self._cut)

    def drain_backlog(self, aws: LocalAws, progress: Callable[[int], None]) -> None:
        """Put the rest of the history on the stream, with repeated and bad records among it."""
        story, order = self.story, self._backlog
        keys = iter(partition_keys(self._scorer.definition, self._feeds, order))
        started = time.perf_counter()
        sent: list[tuple[bytes, str]] = []
        for chunk in records(self._feeds, order, 500):
            batch = [(record.data, next(keys)) for record in chunk]
            extra = batch[:_REPEATS_OF_A_CHUNK] + (_bad_records() if not sent else [])
            self._known.note(chunk)
            aws.put(batch + extra)
            aws.drain()
            sent += batch + extra
            story.repeats += len(batch[:_REPEATS_OF_A_CHUNK])
            progress(len(chunk))
        story.sent, story.bad = len(sent), len(_bad_records())
        story.backlog_seconds = time.perf_counter() - started
        self._look_at_scores(aws)

    def _look_at_scores(self, aws: LocalAws) -> None:
        story, feed = self.story, self._feeds[0]
        ids = _ids(feed, self._backlog)
        story.expected = len(set(ids))
        found = [r for r in in_parallel(bootstrap.score_store().get, ids) if r is not None]
        story.scored = len(found)
        for record in found:
            for each in record.imputed.values():
                story.imputed[each.cause] = story.imputed.get(each.cause, 0) + 1
        story.quarantined = _quarantined(aws)
        self._rank(found)

    def _rank(self, found: Sequence[ScoreRecord]) -> None:
        labels = self._traffic.labels
        frauds = set(labels.filter(pl.col("is_fraud") == 1)["transaction_id"].cast(pl.String))
        ranked = sorted(found, key=lambda record: -record.score)
        self.story.ranks = [rank for rank, record in enumerate(ranked, 1) if record.id in frauds]

    def go_live(self, aws: LocalAws, progress: Callable[[int], None]) -> None:
        """Run the triggers in the background and put events one by one, as of now."""
        aws.serve()
        put_at: dict[str, float] = {}
        for number, event in enumerate(islice(self._live_events(), self.scale.live)):
            aws.put([(msgspec.json.encode(event), str(event["customer_id"]))])
            put_at[str(_LIVE_ID + number)] = time.time()
            time.sleep(_LIVE_PAUSE_SECONDS)
        deadline = time.time() + _LIVE_LIMIT_SECONDS
        while put_at and time.time() < deadline:
            for event_id in list(put_at):
                record = bootstrap.score_store().get(event_id)
                if record is not None:
                    scored = datetime.fromisoformat(record.scored_at).timestamp()
                    self.story.live_seconds.append(scored - put_at.pop(event_id))
                    progress(1)
            time.sleep(_LIVE_PAUSE_SECONDS)

    def _live_events(self) -> Any:
        """The newest simulated transactions once more, with new ids, as of now."""
        rows = self._feeds[0].frame.tail(self.scale.live).iter_rows(named=True)
        for number, row in enumerate(rows):
            yield row | {
                "source": "transactions",
                "transaction_id": _LIVE_ID + number,
                "event_time": datetime.now(UTC),
            }

    def ask_endpoint(self, aws: LocalAws) -> None:
        """Score on request, record, look up, and send a faulty event."""
        event = {
            "transaction_id": _LIVE_ID * 2,
            "event_time": datetime.now(UTC).isoformat(),
            "customer_id": 1,
            "terminal_id": 2,
            "amount": 480.0,
        }
        answers = self.story.answers
        reply = aws.api.request("POST", "/scores", event)
        answers["POST /scores"] = f"{reply.status} score {reply.json()['score']:.4f}"
        faulty = event | {"event_time": "2024-05-01T12:00:00", "customer_id": None}
        reply = aws.api.request("POST", "/scores", faulty)
        faults = ", ".join(fault["reason"] for fault in reply.json()["faults"])
        answers["POST /scores, two faults"] = f"{reply.status} {faults}"
        reply = aws.api.request("POST", "/scores?record=true", event)
        answers["POST /scores?record=true"] = f"{reply.status} on the stream as {_recorded(reply)}"
        event_id = _ids(self._feeds[0], self._backlog)[-1]
        reply = aws.api.request("GET", f"/scores/{event_id}")
        answers[f"GET /scores/{event_id}"] = f"{reply.status} rung {reply.json()['rung']}"

    def run_batch(self, aws: LocalAws) -> None:
        """Fire the schedule, then look up entities on every rung of the ladder."""
        self.story.batch = aws.run_schedule(datetime.now(UTC))
        customers = [*range(self.scale.customers), "never-seen"]
        for customer in customers[::-1][:100]:
            reply = aws.api.request("GET", f"/entities/customer/{customer}/score")
            rung = reply.json()["rung"]
            self.story.rungs[rung] = self.story.rungs.get(rung, 0) + 1


def _ids(feed: Feed, order: pl.DataFrame) -> list[str]:
    rows = order.filter(pl.col("feed") == 0).get_column("row")
    return feed.frame[rows].get_column(feed.source.id).cast(pl.String).to_list()


def _recorded(reply: Any) -> str:
    return f"...{reply.json()['recorded'][-6:]}"


def _quarantined(aws: LocalAws) -> dict[str, int]:
    pages = aws.client("s3").get_paginator("list_objects_v2")
    found: dict[str, int] = {}
    for page in pages.paginate(Bucket=aws.stack.buckets[0], Prefix="quarantine/"):
        for item in page.get("Contents", []):
            reason = item["Key"].split("/")[1]
            found[reason] = found.get(reason, 0) + 1
    return found


def _bad_records() -> list[tuple[bytes, str]]:
    """What producers send on a bad day."""
    event = {
        "source": "transactions",
        "transaction_id": 1,
        "event_time": "2024-05-01T12:00:00Z",
        "customer_id": 1,
        "terminal_id": 1,
        "amount": 1.0,
    }
    bad = [
        event | {"event_time": "2024-05-01T12:00:00"},
        event | {"customer_id": True},
        event | {"terminal_id": ""},
        event | {"event_time": "1970-01-01T00:00:00Z"},
        event | {"source": "refunds"},
        {name: value for name, value in event.items() if name != "customer_id"},
    ]
    return [(b"not JSON", "1"), (b"\xff\xfe", "1"), *((msgspec.json.encode(e), "1") for e in bad)]


def live_median(story: Story) -> float | None:
    """Median seconds from put to score of the live events."""
    return median(story.live_seconds) if story.live_seconds else None
