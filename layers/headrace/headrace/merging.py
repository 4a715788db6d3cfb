"""Two states of one entity: what history gives, and what a stream that was faster has stored.

The stored one is never replaced by less. Where nothing has left its rows, or nothing but rows too
old to matter, its events are known one by one and join those of history; where events have gone
into tiles or a base they are not, and the two are left apart. May import state and windows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from headrace.view_state import NEVER
from headrace.windows import DELIVERED_AGAIN_US

if TYPE_CHECKING:
    from headrace.state import EntityState, StateCodec
    from headrace.view_state import ViewState
    from headrace.windows import ViewFold


class Fit(StrEnum):
    """How a stored state and history's go together."""

    THERE = "there"  # the stored one holds all of history's
    MERGED = "merged"  # each had what the other had not, event by event
    APART = "apart"  # the stored one has tiles or a base of which history may be a part


class Merge(NamedTuple):
    """How they fit, and the state with both where they were merged."""

    fit: Fit
    state: EntityState | None = None


def merge(codec: StateCodec, history: EntityState, stored: EntityState) -> Merge:
    """History's state with what the stored one has.

    Args:
        codec: Of the definition that both were written with.
        history: Of every event up to an instant; changed.
        stored: Of every event that a stream brought since some instant before that one.

    Raises:
        StateError: The stored one was written under another layout of a view.
    """
    folds = codec.folds[stored.entity]
    pairs = [(fold, codec.view(history, fold), codec.view(stored, fold)) for fold in folds]
    newest = stored.newest_arrival
    if _knows(stored, history) and all(_holds(*pair, newest) for pair in pairs):
        return Merge(Fit.THERE)
    if not all(_is_known_by_event(view) for _, _, view in pairs):
        return Merge(Fit.APART)
    for fold, ours, theirs in pairs:
        if fold.view.name in stored.packed:
            fold.absorb(ours, theirs)
            history.changed.add(fold.view.name)
    history.recent = history.recent.joined(stored.recent)
    history.note_arrival(stored.newest_arrival)
    history.note_scored(stored.last_id, stored.last_time)
    history.version = stored.version
    return Merge(Fit.MERGED, history)


def _knows(stored: EntityState, history: EntityState) -> bool:
    """Whether the stored state knows of the newest scored event of history."""
    return (stored.last_time, stored.last_id) >= (history.last_time, history.last_id)


def _is_known_by_event(view: ViewState) -> bool:
    """Whether all that a view holds, or may still use, is in its rows."""
    return not view.tiles and view.base is None and (not view.hop or view.horizon == NEVER)


def _holds(fold: ViewFold, history: ViewState, stored: ViewState, newest: int) -> bool:
    """Whether a stored view has all that history's has, or had until it was too old to matter."""
    if stored.horizon < history.horizon or stored.base != history.base:
        return False
    if history.tiles and stored.hop != history.hop:
        return False
    rows = history.rows
    for number in range(rows.upto(stored.horizon), len(rows)):
        index = stored.rows.find(rows.digest(number))
        if index < 0 or fold.is_newer(stored.rows, index, rows.values(number)):
            return False
    matters = newest - DELIVERED_AGAIN_US - fold.retention
    return all(
        stored.tiles.get(k) == tile
        for k, tile in history.tiles.items()
        if k * history.hop > matters or fold.lifetime
    )
