"""How a replay through the stream is run. May import faults and offline.disorder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from headrace.local.faults import Faults
from headrace.offline.disorder import Disorder


@dataclass(frozen=True, slots=True)
class Trial:
    """How a replay through the stream is run, and what it is put through.

    Attributes:
        disorder: How untidy the stream is.
        faults: How often what of AWS goes wrong, for functions and producer.
        seed: Of the faults.
        resume: Whether an earlier replay of the same file may have got part of the way.
        batch_size: Most records in an invocation; the template's own where None.
        logs: Where the functions write; standard error where None.
    """

    disorder: Disorder = field(default_factory=Disorder)
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    resume: bool = False
    batch_size: int | None = None
    logs: TextIO | None = None
