"""CPU that the store's client takes of the stream function, and what functions log.

A stub answers every request with the same bytes, so that only the client counts: one conditional
PutItem per state, BatchGetItem for states, BatchWriteItem for scores, as the stream function calls
them for a batch of 500. The sizes of an event, a score record and log lines come from the reference
definition and traffic like the card data. Prints one JSON object.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import boto3
from capacity import small_feeds
from request import Context, api_event, b64, encoded, handler_of, set_environment, traffic
from stub import stub

from headrace import bootstrap
from headrace.adapters.capacity import item_bytes, state_sizes
from headrace.adapters.clock import FixedClock, SystemClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.items import score_item, state_item
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import LeanClient
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.model import load_bundle
from headrace.offline.feed import arrivals, records
from headrace.ports import StateWrite
from headrace.scoring import Scorer, StreamScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.events import Record
    from headrace.scores import ScoreRecord

ROOT = Path(__file__).resolve().parents[2]
BATCH, ROUNDS = 500, 7
EXPIRES = 2_000_000_000
MANY, DYNAMODB_SECONDS = 600, 0.005  # states at a time, and for DynamoDB to answer one


def main() -> None:
    """Measure client, sizes and logs."""
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    states, scores, chunks = replayed(scorer)
    found: dict[str, Any] = sizes(states, scores, chunks)
    found |= client_us(states, list(scores.records.values())[-BATCH:])
    found |= waits_ms(states)
    found |= logged(scorer)
    print(json.dumps(found))


def replayed(scorer: Scorer) -> tuple[MemoryStates, MemoryScores, list[list[Record]]]:
    """States, scores and records of the whole history."""
    _, feeds = small_feeds(scorer)
    states, scores, clock = MemoryStates(), MemoryScores(), FixedClock()
    stream = StreamScorer(scorer, states, scores, MemoryQuarantine(), clock)
    chunks = list(records(feeds, arrivals(feeds), BATCH))
    for chunk in chunks:
        clock.set(chunk[-1].arrival)
        stream.score(chunk)
    return states, scores, chunks


def sizes(
    states: MemoryStates, scores: MemoryScores, chunks: list[list[Record]]
) -> dict[str, float]:
    """Mean bytes of what is stored and sent."""
    found = {
        "event_bytes": mean(len(record.data) for chunk in chunks for record in chunk),
        "score_bytes": mean(item_bytes(score_item(r, EXPIRES)) for r in scores.records.values()),
    }
    found |= state_sizes(states.items)
    return {name: round(value) for name, value in found.items()}


def client_us(states: MemoryStates, scores: list[ScoreRecord]) -> dict[str, float]:
    """CPU microseconds per state written, state read and score written: botocore's way, and ours.

    Both ways take turns.
    """
    some = dict(list(states.items.items())[:100])
    items = [state_item(StateWrite(key, s.version, s.data, EXPIRES)) for key, s in some.items()]
    for item in items:
        item["state"] = {"B": b64(item["state"]["B"])}
    read = encoded({"Responses": {"states": items}, "UnprocessedKeys": {}})
    written = encoded({"UnprocessedItems": {}})
    writes = [StateWrite(key, s.version, s.data, EXPIRES) for key, s in some.items()]
    with stub(read) as read_port, stub(written) as write_port:
        calls: dict[str, tuple[Callable[[], object], int]] = {}
        for way, of in (("", lean_client), ("boto3_", client)):
            reader = DynamoStates(of(read_port), "states", SystemClock())
            writer = DynamoStates(of(write_port), "states", SystemClock())
            putter = DynamoScores(of(write_port), "scores", SystemClock(), 30)
            calls |= {
                f"{way}put_state_us": (partial(writer.write, writes), len(writes)),
                f"{way}get_state_us": (partial(reader.read, list(some)), len(some)),
                f"{way}put_score_us": (partial(putter.put_new, scores), len(scores)),
            }
        return cpu_us(calls)


def waits_ms(states: MemoryStates) -> dict[str, Any]:
    """How long it takes to write states to a store that answers after a while."""
    some = list(states.items.items())[:MANY]
    writes = [StateWrite(key, s.version, s.data, EXPIRES) for key, s in some]
    with stub(encoded({}), DYNAMODB_SECONDS) as port:
        ways = {
            "boto3": client(port),
            **{str(number): lean(client(port), at_once(number)) for number in (8, 16, 32, 64)},
        }
        calls = {
            name: partial(DynamoStates(of, "states", SystemClock()).write, writes)
            for name, of in ways.items()
        }
        return {f"put_{len(writes)}_states_ms_by_puts_at_once": wall_ms(calls)}


def at_once(number: int) -> type[LeanClient]:
    """A client with so many puts under way."""
    return type("Client", (LeanClient,), {"at_once": number, "most_kept": number})


def client(port: int) -> Any:
    """As the functions make it, against a stub."""
    return boto3.client(
        "dynamodb", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


def lean_client(port: int) -> Any:
    """As the stream function makes it, against a stub."""
    return lean(client(port), LeanClient)


def cpu_us(calls: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """CPU microseconds per thing, all threads; the median of some rounds after a first one.

    Args:
        calls: Name -> what is measured, and how many things it does.
    """
    for call, _ in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, (call, things) in calls.items():
            began = time.process_time()
            call()
            found[name].append((time.process_time() - began) / things * 1e6)
    return {name: round(median(times), 1) for name, times in found.items()}


def wall_ms(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds that each takes, all waiting included; the median of some rounds, in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(median(times[1:]), 1) for name, times in found.items()}


def logged(scorer: Scorer) -> dict[str, float]:
    """Bytes that functions log: per batch of the stream, and per request."""
    event, body = traffic(scorer)
    with stub(encoded(body)) as port, redirect_stdout(io.StringIO()) as logs:
        set_environment(port)
        os.environ["POWERTOOLS_LOG_LEVEL"] = "INFO"  # as deployed
        handler = handler_of()
        handler(api_event(event), Context())  # the first says more
        before = len(logs.getvalue())
        handler(api_event(event), Context())
        of_request = len(logs.getvalue()) - before
    return {"request_log_bytes": of_request, "batch_log_bytes": batch_log_bytes(scorer)}


def batch_log_bytes(scorer: Scorer) -> int:
    """What the stream function logs of a batch of 500."""
    from stream import Context as StreamContext
    from stream import events, kinesis

    sys.modules.pop("app", None)
    sys.path.insert(0, str(ROOT / "functions" / "score_stream"))
    handler = importlib.import_module("app").lambda_handler
    stream = StreamScorer(scorer, MemoryStates(), MemoryScores(), MemoryQuarantine(), SystemClock())
    bootstrap.stream_scorer = lambda: stream  # type: ignore[assignment]
    lines = events(2 * BATCH, entities=1_000)
    with redirect_stdout(io.StringIO()) as logs:
        handler(kinesis(lines[:BATCH], 0), StreamContext())
        before = len(logs.getvalue())
        handler(kinesis(lines[BATCH:], BATCH), StreamContext())
    return len(logs.getvalue()) - before


if __name__ == "__main__":
    main()
