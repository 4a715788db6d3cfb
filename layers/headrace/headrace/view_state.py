"""What a view knows of one entity, and what it says of an event. May import rows and aggregates."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headrace.aggregates import Accumulation
    from headrace.rows import Rows

NEVER = -(2**63)
"""Earlier than any event."""


class Folded(Enum):
    """What became of an event in a view."""

    NEW = "new"  # it changed the state
    REPEATED = "repeated"  # its id is there already
    LATE = "late"  # older than what may still change the state
    PASSED = "passed"  # the view's filter does not want it


class Step(NamedTuple):
    """An event met a view.

    Attributes:
        folded: What became of it.
        features: One value per name in ``ViewFold.features``, as of the event.
        newest: Event time of the newest earlier event used, microseconds UTC; None without one.
        seen: Whether the view had any event before.
        cut: Whether a window reaches back to where events have left the state.
    """

    folded: Folded
    features: list[float | None]
    newest: int | None
    seen: bool
    cut: bool = False


class ViewState:
    """What one view knows of one entity.

    Attributes:
        rows: Single events, sorted by (event time, id digest).
        horizon: Newest event time that has left the rows, microseconds UTC: what is not newer
            cannot be told from a repetition, and is late.
        tiles: k -> accumulations of the events in ((k - 1) * hop, k * hop] that left the rows.
        base: Accumulations of everything that left rows and tiles; None unless lifetime.
        hop: Microseconds; 0 as long as the view has no tiles.
        tails: (first, last) -> tiles merged, for as long as the tiles do not change.
    """

    __slots__ = ("base", "hop", "horizon", "rows", "tails", "tiles")

    def __init__(
        self,
        rows: Rows,
        hop: int,
        horizon: int = NEVER,
        tiles: dict[int, list[Accumulation]] | None = None,
        base: list[Accumulation] | None = None,
    ) -> None:
        self.rows, self.hop, self.horizon = rows, hop, horizon
        self.tiles = {} if tiles is None else tiles
        self.base = base
        self.tails: dict[tuple[int, int], list[Accumulation] | None] = {}
