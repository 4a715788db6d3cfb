"""Random and altered programs under the compiler's sanitizers, for some seconds. Wants gcc.

`python tests/benchmarks/fuzz_program.py [--seconds 60] [--seed 0]`: builds the C of
layers/headrace/program with AddressSanitizer and UndefinedBehaviorSanitizer, and holds it to its
twin in Python by bits and by refusals.
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

from sanitized import sanitized

if TYPE_CHECKING:
    from collections.abc import Sequence

ALTERED, ROWS, MANY = 60, 4, 1_000


def compared(seconds: float, seed: int) -> dict[str, int]:
    """How many programs of each kind were the same in both; the first that is not ends it."""
    from tests.unit import test_program as made

    programs = altered = ran = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        random = Random(seed + programs)
        data = made.any_program(random)
        rows = [[random.choice(made.VALUES) for _ in range(made.COLUMNS)] for _ in range(ROWS)]
        made.agree(data, rows)
        alone_as_together(made, data, random)
        for _ in range(ALTERED):
            ran += made.agree(made.altered(random, data), rows)
        programs, altered = programs + 1, altered + ALTERED
    return {"programs": programs, "altered": altered, "of_which_ran": ran}


def alone_as_together(made: Any, data: bytes, random: Random) -> None:
    model = made.program_of(data)
    rows: Sequence[list[float]] = [
        [random.gauss(0, 3) for _ in range(made.COLUMNS)] for _ in range(MANY)
    ]
    alone = {tuple(row): made.bits(model, row) for row in rows}
    scored = [list(row) for row, found in alone.items() if isinstance(found, bytes)]
    together = [made.pack("<d", score) for score in model.score(scored)]
    if together != [alone[tuple(row)] for row in scored]:
        msg = "a row scores otherwise among others than alone"
        raise AssertionError(msg)


if __name__ == "__main__":
    sanitized("program", __doc__, compared)
