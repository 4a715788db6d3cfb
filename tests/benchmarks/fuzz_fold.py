"""Streams and altered states under the compiler's sanitizers, for some seconds. Wants gcc.

`python tests/benchmarks/fuzz_fold.py [--seconds 60] [--seed 0]`: builds the C of
layers/headrace/fold with AddressSanitizer and UndefinedBehaviorSanitizer, holds it to the fold in
Python by bytes and features, and lets it read states that were cut, altered or stuffed.
"""

from __future__ import annotations

import time
from random import Random

from sanitized import sanitized

ALTERED, EVENTS = 300, 400


def compared(seconds: float, seed: int) -> dict[str, int]:
    """How many streams were the same in both; the first that is not ends it."""
    from headrace import compiled_fold
    from tests.unit import test_compiled_fold as made

    streams = altered = of_which_folded = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        random = Random(seed + streams)
        views, amount, step = (
            random.choice(list(each)) for each in (made.VIEWS, made.AMOUNTS, made.STEPS)
        )
        made.agree(random, views, amount, step, EVENTS)
        data, event = made.one_state(random, views)
        lane = made.lane(made.definition_of(made.VIEWS[views]), compiled_fold.plan_of)
        for _ in range(ALTERED):
            found = made.altered(random, data)
            of_which_folded += made.folds(lane.codec, lane.folding, found, event)
        streams, altered = streams + 1, altered + ALTERED
    return {"streams": streams, "altered": altered, "of_which_folded": of_which_folded}


if __name__ == "__main__":
    sanitized("fold", __doc__, compared)
