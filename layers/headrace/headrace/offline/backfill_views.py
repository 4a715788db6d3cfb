"""Windowed features of every scored event, of one view: all windows at once.

What cannot be had so exactly is found first, by entity, and goes through the fold itself. May
import timeline, window_aggregates, scaled, fold_entities, windows and sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.aggregates import SKETCH_SIZE
from headrace.definition import LIFETIME, Count, DistinctCount, TimeSinceLast
from headrace.events import microseconds
from headrace.offline.fold_entities import fold_entities
from headrace.offline.scaled import scaled
from headrace.offline.timeline import Edges, entity_codes, grid_for, timeline
from headrace.offline.window_aggregates import NumberWindows, distinct, seconds_since
from headrace.windows import DELIVERED_AGAIN_US

if TYPE_CHECKING:
    from headrace.definition import View
    from headrace.offline.history import Floats, History, Ints, Mask
    from headrace.offline.timeline import Grid, Spans, Timeline
    from headrace.windows import ViewFold

_MINUTE_US = 60_000_000


@dataclass(slots=True)
class Lines:
    """The timelines of one entity's events, by source; made once for all of its views."""

    by_source: dict[str, Timeline]
    histories: dict[str, History]

    @classmethod
    def of(cls, entity: str, histories: list[History], grid: Grid) -> Lines:
        """Sort the events of the sources that have this entity."""
        columns = []
        for each in histories:
            name = next(n for n, found in each.source.entities.items() if found.name == entity)
            columns.append(each.column(name))
        codes = entity_codes(columns)
        grid = grid_for(grid, histories, 1 + max(int(c.max(initial=0)) for c in codes))
        return cls(
            {
                each.source.name: timeline(each, code, grid)
                for each, code in zip(histories, codes, strict=True)
            },
            {each.source.name: each for each in histories},
        )


@dataclass(slots=True)
class ViewBackfill:
    """One view's features for every scored event.

    Attributes:
        folded: Scored events whose features came out of the fold itself.
        reasons: Why, with the number of entities; one entity may count for several.
    """

    fold: ViewFold
    lines: Lines
    scored: str
    folded: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def features(self) -> list[Floats]:
        """One array per feature of the view, in the order of the scored history; NaN: absent."""
        view = self.fold.view
        if view.source.name not in self.lines.histories:
            return self._of_nothing()
        history, everything = self._of(view.source.name)
        queries = self.lines.by_source[self.scored]
        mask = self._kept(history, everything)
        rows = everything if mask is None else everything.kept(mask)
        edges = Edges(view, rows, queries, self._own_stops(queries, mask))
        windows = _Windows(view, history, rows, queries)
        out = [
            values.take(queries.order)
            for window in view.windows
            for values in windows.features(edges.spans(window))
        ]
        codes = self._odd(windows, edges, rows, queries)
        if len(codes):
            self.folded = int(np.isin(queries.code, codes).sum())
            fold_entities(self.fold, codes, (history, everything), self._of(self.scored), out)
        return out

    def _of_nothing(self) -> list[Floats]:
        """Where there are no events of the view's source."""
        nothing = self.fold.look(self.fold.empty(), 0).features
        size = len(self.lines.histories[self.scored])
        return [np.full(size, np.nan if each is None else each) for each in nothing]

    def _of(self, source: str) -> tuple[History, Timeline]:
        return self.lines.histories[source], self.lines.by_source[source]

    def _kept(self, history: History, line: Timeline) -> Mask | None:
        """Which events the view folds; None where it folds all."""
        if self.fold.view.where is None and not history.any_late:
            return None
        wanted = ~history.late
        if self.fold.view.where is not None:
            places = np.flatnonzero(wanted)
            passed = [self.fold.wants(event) for event in history.events(places)]
            wanted[places] = passed
        found: Mask = wanted[line.places]
        return found

    def _own_stops(self, queries: Timeline, mask: Mask | None) -> Ints | None:
        """Of a view of the scored source without delay: what was folded before each event."""
        view = self.fold.view
        if view.source.name != self.scored or view.delay:
            return None
        if mask is None:
            return np.arange(len(queries)) + int(view.include_current)
        kept = mask.astype(np.int64)
        return np.cumsum(kept) if view.include_current else np.cumsum(kept) - kept

    def _odd(self, windows: _Windows, edges: Edges, rows: Timeline, queries: Timeline) -> Ints:
        """The entities that the fold itself must do."""
        history, scored = self._of(self.fold.view.source.name)[0], self._of(self.scored)[0]
        found = {
            "out of order": np.unique(queries.code[edges.unsettled()]),
            "late events": _late(scored, queries),
            "ids that come again": self._repeated(history),
            "numbers that are no scaled integers": windows.odd_numbers(),
            "more rows than an item holds": self._too_large(rows, windows),
            "estimated distinct counts": self._estimated(windows, rows),
            "hop views out of order": self._overtaken(rows, queries),
        }
        self.reasons = {why: len(codes) for why, codes in found.items() if len(codes)}
        return np.unique(np.concatenate(list(found.values())))

    def _repeated(self, history: History) -> Ints:
        if history.ids_are_unique:
            return np.empty(0, np.int64)
        again = history.column(history.source.id).is_duplicated().to_numpy()
        line = self.lines.by_source[history.source.name]
        return np.unique(line.code[again[line.places]])

    def _too_large(self, rows: Timeline, windows: _Windows) -> Ints:
        """Of an exact view: entities whose rows may grow over their share of an item."""
        view = self.fold.view
        most = int(self.fold.most_row_bytes / windows.row_bytes) - 1
        if view.hop or not len(rows):
            return np.empty(0, np.int64)
        many = np.flatnonzero(np.bincount(rows.code) > most)
        if not len(many):
            return np.empty(0, np.int64)
        mine = np.flatnonzero(np.isin(rows.code, many))
        kept_us = self.fold.retention + microseconds(view.source.ahead)
        kept_us += DELIVERED_AGAIN_US + _MINUTE_US
        floor = rows.code[mine] * rows.grid.span
        oldest = floor + rows.grid.ticks(rows.time[mine] - kept_us)
        held = mine + 1 - np.searchsorted(rows.key, oldest, side="left")
        return np.unique(rows.code[mine[held > most]])

    def _estimated(self, windows: _Windows, rows: Timeline) -> Ints:
        """Entities with more different values than a merged count tells apart."""
        view = self.fold.view
        if not (view.hop or LIFETIME in view.windows):
            return np.empty(0, np.int64)
        found = [np.empty(0, np.int64)]
        for codes in windows.texts.values():
            both = np.unique(np.stack([rows.code, codes])[:, codes >= 0], axis=1)
            found.append(np.flatnonzero(np.bincount(both[0]) > SKETCH_SIZE))
        return np.unique(np.concatenate(found))

    def _overtaken(self, rows: Timeline, queries: Timeline) -> Ints:
        """Of a hop view: entities with more events than its head, not all of them in order."""
        view = self.fold.view
        many = np.flatnonzero(np.bincount(rows.code) > view.head) if view.hop else np.empty(0)
        if not len(many):
            return np.empty(0, np.int64)
        code = np.concatenate([rows.code, queries.code])
        time = np.concatenate([rows.time, queries.time])
        order = np.lexsort((np.concatenate([rows.rank, queries.rank]), code))
        code, time = code[order], time[order]
        back = (code[1:] == code[:-1]) & (time[1:] < time[:-1])
        return np.intersect1d(many, code[1:][back])


def _late(scored: History, queries: Timeline) -> Ints:
    if not scored.any_late:
        return np.empty(0, np.int64)
    return np.unique(queries.code[scored.late[queries.places]])


class _Windows:
    """The columns of a view's rows, and its aggregates over spans of them."""

    def __init__(self, view: View, history: History, rows: Timeline, queries: Timeline) -> None:
        self._view, self._rows, self._queries = view, rows, queries
        self._numbers: dict[str, NumberWindows] = {}
        self._odd = [np.empty(0, np.int64)]
        self.texts: dict[str, Ints] = {}
        for each in view.aggregates:
            if isinstance(each, DistinctCount):
                self.texts.setdefault(each.field, _text_codes(history, rows, each.field))
            elif each.field and each.field not in self._numbers:
                values = history.numbers(each.field)[rows.places]
                found, odd = scaled(values, rows.code)
                self._numbers[each.field] = NumberWindows(values, rows.key, found)
                self._odd.append(odd)

    def features(self, spans: Spans) -> list[Floats]:
        """One array per feature of one window, in the order of the queries."""
        return [each for a in self._view.aggregates for each in self._of(a, spans)]

    def _of(self, aggregate: Any, spans: Spans) -> list[Floats]:
        match aggregate:
            case Count():
                return [spans.length]
            case TimeSinceLast():
                return [seconds_since(self._rows.time, self._queries.time, spans)]
            case DistinctCount():
                return [distinct(self.texts[aggregate.field], spans)]
        return self._numbers[aggregate.field].of(aggregate, spans)

    def odd_numbers(self) -> Ints:
        """Entities some of whose numbers are no scaled integers."""
        return np.concatenate(self._odd)

    @property
    def row_bytes(self) -> int:
        """The most that one row can take in state."""
        widths = [each.width for each in self._numbers.values()]
        revision = 8 if self._view.source.revised_by else 0
        return 14 + sum(widths) + 8 * len(self.texts) + revision


def _text_codes(history: History, rows: Timeline, name: str) -> Ints:
    """A number for each different value; -1 where it is absent."""
    entity = name in history.source.entities
    texts = history.column(name).cast(pl.String) if entity else history.texts(name)
    codes = texts.rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    found: Ints = codes[rows.places]
    return found
