"""Headrace: fold and codec of the same events, in batches of 500; CPU per event."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rounds import serve
from stream_events import MEASURED, WARM, events

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stream import BATCH, Folding, six_windows, works_of

from headrace import bootstrap


def main() -> None:
    """Serve rounds."""
    bootstrap.settle()  # as the functions do
    definition = six_windows()
    lines = [
        json.dumps(
            {
                "source": "transactions",
                "transaction_id": number,
                "event_time": datetime.fromtimestamp(when, UTC).isoformat(),
                "customer_id": customer,
                "terminal_id": terminal,
                "amount": amount,
            }
        ).encode()
        for number, (customer, terminal, when, amount) in enumerate(events())
    ]

    def measure() -> float:
        folding, works = Folding(definition), works_of(definition, lines, spacing_seconds=60)
        for start in range(0, WARM, BATCH):
            folding.fold(works[start : start + BATCH])
        began = time.process_time()
        for start in range(WARM, WARM + MEASURED, BATCH):
            folding.fold(works[start : start + BATCH])
        return (time.process_time() - began) / MEASURED * 1e6

    serve(measure)


if __name__ == "__main__":
    main()
