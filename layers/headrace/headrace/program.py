"""A compiled model as data: steps, numbers and flattened trees. May import program_twin.

C runs it where it was built, Python elsewhere: to the same bits, without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

try:
    from headrace import _program
except ImportError:  # no compiler where it was installed
    from headrace.program_twin import Program as _Twin

    PROGRAM: Any = _Twin
    COMPILED = False
else:
    PROGRAM = _program.Program
    COMPILED = True
"""What runs a program, and whether that is C."""

FORMAT = 1
MOST_BYTES = 200 * 2**20  # Lambda takes 250 MB for a function with its layers


class ProgramFile(msgspec.Struct, frozen=True, kw_only=True):
    """A program as msgpack; see ``program_twin.Program`` for its parts.

    Attributes:
        format: Version of this layout and of what the steps mean.
    """

    format: int
    takes: bytes
    constants: bytes
    indices: bytes
    nodes: bytes
    trees: bytes
    steps: bytes


class Runnable(Protocol):
    """A program that was checked."""

    @property
    def columns(self) -> int:
        """How many inputs it takes."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """One score per row; see ``program_twin.Program``."""


def program_of(data: bytes, kind: Any = PROGRAM) -> Runnable:
    """The program of a file, checked.

    Args:
        data: What ``headrace.offline.compile`` made.
        kind: What runs it.

    Raises:
        ValueError: These bytes are no program of this version; nothing of it has run.
    """
    if len(data) > MOST_BYTES:
        msg = f"{len(data)} bytes; expected at most {MOST_BYTES}"
        raise ValueError(msg)
    try:
        found = msgspec.msgpack.decode(data, type=ProgramFile)
    except msgspec.DecodeError as error:  # a ValueError, of msgspec's own words
        msg = f"no program ({error})"
        raise ValueError(msg) from error
    if found.format != FORMAT:
        msg = f"program's format is {found.format}; this version runs {FORMAT}"
        raise ValueError(msg)
    made: Runnable = kind(
        found.takes, found.constants, found.indices, found.nodes, found.trees, found.steps
    )
    return made
