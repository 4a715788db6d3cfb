"""What a view's state says as of an instant: features out of rows, tiles and base.

May import aggregates, rows, events, definition, view_state.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from headrace.aggregates import Accumulation, reader, statistic
from headrace.definition import LIFETIME, DistinctCount, View
from headrace.events import microseconds
from headrace.view_state import NEVER

if TYPE_CHECKING:
    from headrace.rows import Rows
    from headrace.view_state import ViewState


class ViewReader:
    """A view made ready to accumulate rows and to give features.

    Attributes:
        fields: (field, whether it is hashed) for each column of the view's rows.
        cells: The view's statistics, each once.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.fields = list(
            dict.fromkeys(
                (aggregate.field, isinstance(aggregate, DistinctCount))
                for aggregate in view.aggregates
                if aggregate.field
            )
        )
        statistics = [self.statistic(aggregate) for aggregate in view.aggregates]
        self.cells = list(dict.fromkeys(statistics))
        self._readers = [
            (self.cells.index(each), reader(aggregate))
            for each, aggregate in zip(statistics, view.aggregates, strict=True)
        ]
        self._windows = [
            None if window == LIFETIME else microseconds(window) for window in view.windows
        ]
        self._longest = max((window for window in self._windows if window is not None), default=0)
        self._delay = microseconds(view.delay)
        self._hop = microseconds(view.hop) if view.hop else 0
        self._width = sum(len(read(None, 0)) for _, read in self._readers)
        self._nothing: list[Accumulation] = [None] * len(self.cells)

    def statistic(self, aggregate: Any) -> Any:
        """The statistic behind one of the view's aggregates, over its column of the rows."""
        key = (aggregate.field, isinstance(aggregate, DistinctCount))
        return statistic(aggregate, self.fields.index(key) if aggregate.field else -1)

    def accumulated(self, rows: Rows, start: int, stop: int) -> list[Accumulation]:
        """One accumulation per cell, of some rows."""
        if start >= stop:
            return self._nothing
        return [cell.of(rows, start, stop) for cell in self.cells]

    def merged(self, a: list[Accumulation] | None, b: list[Accumulation]) -> list[Accumulation]:
        """One accumulation per cell, of what two stand for; ``a`` may stand for nothing."""
        if a is None:
            return b
        return [
            y if x is None else x if y is None else cell.merge(x, y)
            for cell, x, y in zip(self.cells, a, b, strict=True)
        ]

    def features_as_of(self, state: ViewState, as_of: int) -> list[float | None]:
        """The view's features as of an instant, from what is in the state now.

        Args:
            state: The entity's state in this view.
            as_of: Right edge before the delay, microseconds UTC, included.

        Returns:
            One value per name in ``features``; None where a window holds nothing, or reaches back
            to where events have left the state: what it held cannot be known any more.
        """
        right = as_of - self._delay
        rows, gone = state.rows, NEVER if state.tiles else state.horizon
        times, (unit, base, _) = rows.times, rows.ticks
        edge = self._snapped(right) if self._delay else right
        stop = bisect_right(times, (edge - base) // unit)
        values: list[float | None] = []
        before, of_rows = -1, self._nothing
        for window in self._windows:
            left = NEVER if window is None else self._snapped(right - window)
            if NEVER < left < gone:
                values += [None] * self._width
                continue
            start = 0 if window is None else bisect_right(times, (left - base) // unit, 0, stop)
            if start != before:  # else the rows hold no more than the shorter window's
                before, of_rows = start, self.accumulated(rows, start, stop)
            found = of_rows
            if window is None and state.base is not None:
                found = self.merged(state.base, found)
            if state.tiles and left < state.horizon:
                tail = self._tail(state, left // state.hop, right)
                found = found if tail is None else self.merged(tail, found)
            for cell, read in self._readers:
                values += read(found[cell], as_of)
        return values

    def reaches_too_far(self, state: ViewState, as_of: int) -> bool:
        """Whether a window as of an instant holds events that have left the state."""
        if state.horizon == NEVER or state.tiles or not self._longest:
            return False
        return self._snapped(as_of - self._delay - self._longest) < state.horizon

    def _tail(self, state: ViewState, first: int, right: int) -> list[Accumulation] | None:
        """Tiles after ``first`` whose events all lie at or before the right edge, merged."""
        whole = right >= state.horizon and not (self._hop and self._delay)
        last = 2**63 if whole else right // state.hop
        if (first, last) not in state.tails:
            found = None
            for k in sorted(state.tiles):
                if first < k <= last:
                    found = self.merged(found, state.tiles[k])
            state.tails[first, last] = found
        return state.tails[first, last]

    def _snapped(self, time: int) -> int:
        return time // self._hop * self._hop if self._hop else time

    def has_seen(self, state: ViewState, as_of: int) -> bool:
        """Whether the view had any event up to an instant."""
        rows = state.rows
        return state.horizon != NEVER or (len(rows.times) > 0 and rows.time(0) <= as_of)

    def newest(self, state: ViewState, as_of: int) -> int | None:
        """Event time of the newest event that features as of an instant use; None if none."""
        right = as_of - self._delay
        index = state.rows.upto(self._snapped(right) if self._delay else right)
        if index:
            return state.rows.time(index - 1)
        if state.horizon <= right:
            return None if state.horizon == NEVER else state.horizon
        return max((k * state.hop for k in state.tiles if k * state.hop <= right), default=None)
