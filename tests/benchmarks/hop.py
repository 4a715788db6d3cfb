"""One entity with a million events under hop windows: does its state stay flat?

Folds events of one merchant, ten a second, through the definition's own fold, packing and
unpacking every 500 events as the stream function does. Prints one JSON object.
"""

from __future__ import annotations

import json
import time

from headrace.definition import (
    Constant,
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
    hours,
    minutes,
)
from headrace.events import Event, id_digest
from headrace.loading import checked
from headrace.state import StateCodec

TOTAL, BATCH = 1_000_000, 500
POINTS = (200_000, 400_000, 1_000_000)  # the longest window is full after 108,000 events
START_US, STEP_US = 1_700_000_000_000_000, 800_000

merchant = Entity("merchant")
payments = Source(
    name="payments",
    id="payment_id",
    time="event_time",
    entities={"merchant_id": merchant},
    fields={"amount": Number(), "fraud": Flag()},
    lateness=hours(1),
)
view = View(
    name="merchant",
    entity=merchant,
    source=payments,
    aggregates=[Count(), Mean("amount")],
    windows=[hours(1), hours(6), days(1)],
    hop=minutes(15),
)
definition = checked(
    Definition(
        sources=[payments],
        scored=payments,
        views=[view],
        inputs=list(view.features),
        batch_entity=merchant,
        label=Label(payments, "fraud"),
        default_imputation=Constant(0.0),
    )
)


class Fields:
    """The only field that the view reads."""

    __slots__ = ("amount",)

    def __init__(self, amount: float) -> None:
        self.amount = amount


def event(number: int) -> Event:
    """The n-th payment, in cents."""
    at = START_US + number * STEP_US
    key, fields = {"merchant": "merchant#1"}, Fields((number * 7919) % 20_000 / 100)
    return Event(
        payments, str(number), id_digest("payments", str(number)), at, at, False, key, fields
    )


def main() -> None:
    """Fold a million events; note size and time per event on the way."""
    codec = StateCodec(definition)
    fold = codec.folds["merchant"][0]
    result: dict[str, float] = {}
    data = codec.encode(codec.empty("merchant#1"))
    spent, since = 0.0, 0
    for start in range(0, TOTAL, BATCH):
        events = [event(number) for number in range(start, start + BATCH)]
        began = time.process_time()
        state = codec.decode("merchant#1", 1, data)
        rows = codec.view(state, fold)
        for each in events:
            fold.step(rows, each)
            state.note_arrival(each.arrival)
        state.changed.add("merchant")
        data = codec.encode(state)
        spent += time.process_time() - began
        since += BATCH
        if start + BATCH in POINTS:
            label = f"{(start + BATCH) // 1000}k"
            result[f"bytes_at_{label}"] = len(data)
            result[f"us_per_event_to_{label}"] = round(spent / since * 1e6, 2)
            spent, since = 0.0, 0
    result["size_ratio_1m_to_200k"] = round(result["bytes_at_1000k"] / result["bytes_at_200k"], 3)
    times = result["us_per_event_to_1000k"] / result["us_per_event_to_200k"]
    result["time_ratio_1m_to_200k"] = round(times, 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
