"""CPU per event on the way of the stream: decode, fold and codec, the whole handler, growth.

In one process, in rounds, medians. Six windows (1, 7 and 30 days of the customer's and of the
terminal's amounts, count and mean each) over two entities, states in memory. The handler is the
function as deployed with the reference definition and model, batches of 500 records, stores in
memory. Prints one JSON object.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import sys
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from headrace import bootstrap
from headrace.adapters.clock import FixedClock
from headrace.adapters.kinesis import decode_records
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.definition import (
    Count,
    Definition,
    Entity,
    Flag,
    Label,
    Mean,
    Number,
    Source,
    View,
    days,
)
from headrace.events import EventDecoder
from headrace.folding import EntityFold
from headrace.model import load_bundle
from headrace.outcome import Work
from headrace.scoring import Scorer, StreamScorer
from headrace.state import StateCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "layers" / "model"
START_US = 1_750_000_000_000_000
BATCH, ROUNDS = 500, 9

customer, terminal = Entity("customer"), Entity("terminal")
source = Source(
    name="transactions",
    id="transaction_id",
    time="event_time",
    entities={"customer_id": customer, "terminal_id": terminal},
    fields={"amount": Number(at_least=0)},
)
labels = Source(
    name="labels",
    id="transaction_id",
    time="event_time",
    entities={"customer_id": customer},
    fields={"is_fraud": Flag(required=True)},
)


def six_windows() -> Definition:
    """Two views with three windows each."""
    views = [
        View(
            name=entity.name,
            source=source,
            entity=entity,
            windows=[days(1), days(7), days(30)],
            aggregates=[Count(), Mean("amount")],
        )
        for entity in (customer, terminal)
    ]
    inputs = [f"{e.name}_{a}_{w}d" for e in (customer, terminal) for w in (1, 7, 30)
              for a in ("count", "amount_mean")]  # fmt: skip
    return Definition(
        sources=[source, labels], scored=source, views=views, inputs=["amount", *inputs],
        batch_entity=customer, label=Label(labels, "is_fraud"),
    )  # fmt: skip


def main() -> None:
    """Measure everything."""
    bootstrap.settle()  # as the functions do
    definition = six_windows()
    lines = events(20_000, entities=1_000)
    decode = decode_us(definition, lines)
    fold = fold_us(definition, lines)
    codec = codec_us(definition)
    handler = handler_us()
    rest = handler - fold_us(load_bundle(MODEL).definition, lines)  # of the same definition
    print(json.dumps({"decode_and_check_us": round(decode, 2), "fold_us": round(fold, 2),
                      "codec_100_us": round(codec, 2), "handler_us": round(handler, 1),
                      "handler_without_fold_us": round(rest, 1),
                      "growth": growth(definition)}))  # fmt: skip


def events(n: int, entities: int, seed: int = 1) -> list[bytes]:
    """JSON of events, a second apart, as producers send it."""
    random = Random(seed)
    return [
        json.dumps(
            {
                "source": "transactions",
                "transaction_id": number,
                "event_time": datetime.fromtimestamp(START_US / 1e6 + number, UTC).isoformat(),
                "customer_id": random.randrange(entities),
                "terminal_id": random.randrange(entities),
                "amount": round(random.lognormvariate(3, 1), 2),
            }
        ).encode()
        for number in range(n)
    ]


def cpu_us(call: Callable[[], Any], n: int) -> float:
    """CPU microseconds per event."""
    began = time.process_time()
    call()
    return (time.process_time() - began) / n * 1e6


def decode_us(definition: Definition, lines: Sequence[bytes]) -> float:
    """What Lambda gets of a shard, base64 and all, to checked events."""
    decoder = EventDecoder(definition)
    invocations = [kinesis(lines[at : at + BATCH], at) for at in range(0, len(lines), BATCH)]

    def run() -> None:
        for invocation in invocations:
            for record in decode_records(invocation):
                decoder.decode(record.data, record.arrival)

    return median(cpu_us(run, len(lines)) for _ in range(ROUNDS))


def works_of(
    definition: Definition, lines: Sequence[bytes], spacing_seconds: int = 1
) -> list[Work]:
    """Decoded events, which arrive as they happen."""
    decoder = EventDecoder(definition)
    found = []
    for number, line in enumerate(lines):
        event = decoder.decode(line, START_US + number * spacing_seconds * 1_000_000)
        found.append(Work(event, number, "", dict(event.keys)))
    return found


class Folding:
    """What the stream does between reading and writing, without decoding and model."""

    def __init__(self, definition: Definition) -> None:
        self.codec = StateCodec(definition)
        self.fold_entity = EntityFold(definition, self.codec).fold
        self.stored: dict[str, bytes] = {}

    def fold(self, works: Sequence[Work]) -> None:
        """Decode each state once, fold, encode once."""
        by_key: dict[str, list[Work]] = {}
        for work in works:
            for key in work.keys.values():
                by_key.setdefault(key, []).append(work)
        for key, mine in by_key.items():
            data = self.stored.get(key)
            state = self.codec.decode(key, 1, data) if data else self.codec.empty(key)
            self.fold_entity(state, mine)
            self.stored[key] = self.codec.encode(state)


def fold_us(definition: Definition, lines: Sequence[bytes], warm: int = 15_000) -> float:
    """Fold and codec per event, in batches of 500, over states that hold some history."""
    found = []
    for _ in range(ROUNDS // 2):
        folding, works = Folding(definition), works_of(definition, lines)
        for start in range(0, warm, BATCH):
            folding.fold(works[start : start + BATCH])
        rest = works[warm:]
        began = time.process_time()
        for start in range(0, len(rest), BATCH):
            folding.fold(rest[start : start + BATCH])
        found.append((time.process_time() - began) / len(rest) * 1e6)
    return median(found)


def codec_us(definition: Definition, retained: int = 100, rounds: int = 2_000) -> float:
    """Decode, fold one event, encode: a state that keeps 100 events, three windows read of it."""
    folding = Folding(definition)
    works = works_of(definition, events(retained + rounds, entities=1))
    key = works[0].keys["customer"]
    state = folding.codec.empty(key)
    folding.fold_entity(state, works[:retained])
    data = folding.codec.encode(state)

    def run() -> None:
        for work in works[retained:]:
            found = folding.codec.decode(key, 1, data)
            folding.fold_entity(found, [work])
            folding.codec.encode(found)

    run()
    return median(cpu_us(run, rounds) for _ in range(ROUNDS))


def handler_us(batches: int = 30) -> float:
    """The stream function, all included, on the reference definition: microseconds per event."""
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"  # its lines are for people
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "headrace")
    os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "Headrace")
    sys.path.insert(0, str(ROOT / "functions" / "score_stream"))
    handler = importlib.import_module("app").lambda_handler
    clock = FixedClock(START_US + 10**12)
    scorer = Scorer(load_bundle(MODEL))
    stream = StreamScorer(scorer, MemoryStates(), MemoryScores(), MemoryQuarantine(), clock)
    bootstrap.stream_scorer = lambda: stream  # type: ignore[assignment]
    lines = events(BATCH * batches, entities=1_000)
    invocations = [kinesis(lines[at : at + BATCH], at) for at in range(0, len(lines), BATCH)]
    found = []
    for event in invocations:
        with redirect_stdout(io.StringIO()):
            began = time.process_time()
            answer = handler(event, Context())
            found.append((time.process_time() - began) / BATCH * 1e6)
        assert answer == {"batchItemFailures": []}, answer
    assert len(stream._scores.records) == len(lines)  # type: ignore[attr-defined]
    return median(found[batches // 3 :])


class Context:
    """Of an invocation."""

    function_name, function_version, memory_limit_in_mb = "f", "1", 1769
    invoked_function_arn, aws_request_id = "arn:aws:lambda:eu-central-1:1:function:f", "r"
    log_group_name, log_stream_name = "g", "s"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def kinesis(lines: Sequence[bytes], first: int) -> dict[str, Any]:
    """What Lambda gets of a shard."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": str(10**20 + first + number),
                    "data": base64.b64encode(line).decode(),
                    "approximateArrivalTimestamp": (START_US / 1e6 + first + number),
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{10**20 + first + number}",
                "eventName": "aws:kinesis:record",
                "awsRegion": "eu-central-1",
                "eventSourceARN": "arn:aws:kinesis:eu-central-1:1:stream/s",
            }
            for number, line in enumerate(lines)
        ]
    }


def growth(definition: Definition) -> dict[str, dict[str, float]]:
    """Fold and codec per event against entities, retained events per entity, and batch size."""
    by_entities = {}
    for entities in (10**3, 10**4, 10**5, 10**6):
        lines = events(20_000, entities)
        by_entities[f"{entities:,}"] = round(fold_us(definition, lines), 1)
    by_retained = {
        f"{n:,}": round(retained_us(definition, n), 1) for n in (10, 100, 1_000, 10_000, 100_000)
    }
    by_batch = {}
    lines = events(6_000, entities=1_000)
    for size in (1, 10, 100, 500):
        by_batch[f"{size:,}"] = round(batch_us(definition, lines, size), 1)
    return {"entities": by_entities, "retained_events": by_retained, "batch_size": by_batch}


def retained_us(definition: Definition, retained: int, measured: int = 2_000) -> float:
    """Fold and codec per event, where every entity holds so many events before."""
    entities = max(2, min(500, 20_000 // retained))
    lines = events(entities * retained + measured, entities)
    folding, works = Folding(definition), works_of(definition, lines)
    folding.fold(works[:-measured])
    began = time.process_time()
    for start in range(len(works) - measured, len(works), BATCH):
        folding.fold(works[start : start + BATCH])
    return (time.process_time() - began) / measured * 1e6


def batch_us(definition: Definition, lines: Sequence[bytes], size: int) -> float:
    """Fold and codec per event in batches of a size."""
    folding, works = Folding(definition), works_of(definition, lines)
    folding.fold(works[:4_000])
    rest = works[4_000:]
    began = time.process_time()
    for start in range(0, len(rest), size):
        folding.fold(rest[start : start + size])
    return (time.process_time() - began) / len(rest) * 1e6


if __name__ == "__main__":
    main()
