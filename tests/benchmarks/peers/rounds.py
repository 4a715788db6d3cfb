"""A worker of a comparison: one round of work for each line on standard input, its figure back.

Workers run in interpreters of their own, so that peers keep their own requirements; whoever starts
them lets them work in turns.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(measure: Callable[[], float]) -> None:
    """Answer each line with what one round measured; the real output, whatever work prints."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for _ in sys.stdin:
        print(measure(), file=answers, flush=True)


def cpu_us(call: Callable[[], Any], times: int) -> float:
    """CPU microseconds of one call, threads counted."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6
