"""The same events for everybody: (customer, terminal, unix seconds, amount), a second apart."""

from __future__ import annotations

from random import Random

Event = tuple[int, int, int, float]
START, ENTITIES, WARM, MEASURED = 1_750_000_000, 1_000, 15_000, 5_000
WINDOWS_DAYS = (1, 7, 30)


def events(seed: int = 1) -> list[Event]:
    """So many that all windows hold some, a minute apart."""
    random = Random(seed)
    return [
        (
            random.randrange(ENTITIES),
            random.randrange(ENTITIES),
            START + 60 * number,
            round(random.lognormvariate(3, 1), 2),
        )
        for number in range(WARM + MEASURED)
    ]
