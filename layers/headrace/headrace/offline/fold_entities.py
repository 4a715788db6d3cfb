"""The fold itself over single entities: for what cannot be computed for all at once exactly.

May import history, timeline and windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.offline.history import Floats, History, Ints
    from headrace.offline.timeline import Timeline
    from headrace.windows import ViewFold


def fold_entities(
    fold: ViewFold,
    codes: Ints,
    rows: tuple[History, Timeline],
    queries: tuple[History, Timeline],
    out: list[Floats],
) -> None:
    """Fold some entities' events in order of arrival, and note the features of scored ones.

    Args:
        fold: Of the view.
        codes: The entities.
        rows: Events of the view's source, all of them, and how they are sorted.
        queries: The same of the scored source; the very same objects where it is that source.
        out: One array per feature, in the order of the scored events; those of these entities
            are overwritten.
    """
    for code in codes.tolist():
        scored = _places(queries[1], code)
        if not len(scored):
            continue
        if rows[0] is queries[0]:
            found = _own(fold, queries[0], scored)
        else:
            found = _others(fold, rows[0], _places(rows[1], code), queries[0], scored)
        for column, values in zip(out, np.array(found, dtype=np.float64).T, strict=True):
            column[scored] = values


def _places(line: Timeline, code: int) -> Ints:
    """The places of an entity's events, in order of arrival."""
    start, stop = np.searchsorted(line.code, [code, code + 1])
    order = np.argsort(line.rank[start:stop], kind="stable")
    return line.places[start:stop][order]


def _own(fold: ViewFold, history: History, places: Ints) -> list[list[float | None]]:
    """An event of the view's own source is folded, and has features."""
    state = fold.empty()
    return [fold.step(state, event).features for event in history.events(places)]


def _others(
    fold: ViewFold, history: History, rows: Ints, queries: History, scored: Ints
) -> list[list[float | None]]:
    """Events of the view's source are folded; those of the scored one have features."""
    state, found = fold.empty(), []
    rank, events = history.rank[rows].tolist(), history.events(rows)
    upto = 0
    for place in scored.tolist():
        while upto < len(rank) and rank[upto] < queries.rank[place]:
            fold.fold(state, next(events))
            upto += 1
        found.append(fold.look(state, int(queries.time[place])).features)
    return found
