"""What a job at fixed times knew: stored features as of other instants than the events' own.

No second implementation: the looks are one more history, at which the backfill's own code looks
at its views. May import backfill, history and Polars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.offline.backfill import (
    Knowledge,
    add_computed,
    event_rows,
    known_histories,
    looked_up,
    windowed,
)
from headrace.offline.history import ranks, times_us
from headrace.offline.timeline import entity_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.definition import Definition, Entity
    from headrace.offline.feed import Feed
    from headrace.offline.history import Floats, History, Ints, Mask
    from headrace.table_rows import TableRow

DAY_US = 86_400_000_000
_LOOKS = "looks at states"
"""Name of a source of no events; with blanks, so that no definition has it."""


def last_midnight(time: Ints) -> Ints:
    """The last midnight, UTC, before each time; an event at midnight is in no run of that night.

    >>> last_midnight(np.array([DAY_US, DAY_US + 1])) // DAY_US
    array([0, 1])
    """
    return (time - 1) // DAY_US * DAY_US


@dataclass(frozen=True, slots=True)
class Known:
    """A whole history, and what could have been looked up when.

    Attributes:
        definition: What features there are.
        histories: What had been accepted of each source, as it arrived; the scored one first.
        rows: Entity key -> rows of tables.
    """

    definition: Definition
    histories: list[History]
    rows: Mapping[str, Sequence[TableRow]]

    @classmethod
    def of(
        cls,
        definition: Definition,
        feeds: Sequence[Feed],
        rows: Mapping[str, Sequence[TableRow]] | None = None,
    ) -> Known:
        """Read feeds as the stream would have; that of the scored source comes first."""
        return cls(definition, known_histories(definition, feeds, Knowledge.AS_KNOWN), rows or {})

    @property
    def scored(self) -> History:
        """The events that are scored."""
        return self.histories[0]

    def real_time(self) -> pl.DataFrame:
        """Rows of ``backfill``: every feature as of the event."""
        columns: dict[str, Floats] = {}
        for view in windowed(self.definition, self.histories):
            columns.update(zip(view.fold.features, view.features(), strict=True))
        for table in self.definition.tables:
            columns.update(looked_up(table, self.scored, self.rows))
        return self._rows(columns)

    def stored_as_of(self, as_of: Ints) -> pl.DataFrame:
        """The same rows with stored features as of other times; the event's own part stays.

        Args:
            as_of: For each scored event, microseconds UTC. What had arrived by then counts, an
                event that arrived at that very instant included.
        """
        histories, looks = self._looks(as_of)
        columns: dict[str, Floats] = {}
        for view in windowed(self.definition, histories, looks):
            columns.update(zip(view.fold.features, view.features(), strict=True))
        for table in self.definition.tables:
            columns.update(looked_up(table, looks, self.rows))
        return self._rows(columns)

    def _rows(self, columns: dict[str, Floats]) -> pl.DataFrame:
        add_computed(self.definition, self.scored, columns, lambda _: None)
        return event_rows(self.definition, self.scored, columns)

    def _looks(self, as_of: Ints) -> tuple[list[History], History]:
        """The histories and the looks at them, in one order of arrival."""
        arrivals = [times_us(each.feed.frame, each.feed.arrival) for each in self.histories]
        *placed, mine = ranks([*arrivals, as_of])
        again = [
            replace(each, ranked=_given(rank))
            for each, rank in zip(self.histories, placed, strict=True)
        ]
        by_row = np.zeros(len(arrivals[0]), np.int64)
        by_row[self.scored.rows] = mine
        looks = replace(
            self.scored,
            source=replace(self.scored.source, name=_LOOKS),
            time=as_of,
            arrival=as_of,
            ranked=_given(by_row),
            late=np.zeros(len(as_of), np.bool_),
        )
        return again, looks

    def entity(self, entity: Entity) -> Acquaintance:
        """Since when each entity of a kind has been known."""
        having = [each for each in self.histories if entity in each.source.entities.values()]
        columns = []
        for each in having:
            name = next(n for n, found in each.source.entities.items() if found == entity)
            columns.append(each.column(name))
        codes = entity_codes(columns)
        first = np.full(1 + max(int(c.max(initial=0)) for c in codes), 2**62)
        for each, code in zip(having, codes, strict=True):
            np.minimum.at(first, code, each.arrival)
        return Acquaintance(codes[0], first)


def _given(rank: Ints) -> Callable[[], Ints]:
    return lambda: rank


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """Since when entities have been known.

    Attributes:
        code: Number of each scored event's entity.
        first: When the first event of each entity arrived, microseconds UTC.
    """

    code: Ints
    first: Ints

    def knew(self, as_of: Ints) -> Mask:
        """Whether something of each event's entity had arrived by then."""
        found: Mask = self.first[self.code] <= as_of
        return found

    def something_since(self, as_of: Ints, time: Ints) -> Mask:
        """Whether an earlier event of the same entity happened after ``as_of``."""
        order = np.lexsort((time, self.code))
        same = self.code[order][1:] == self.code[order][:-1]
        found = np.zeros(len(time), np.bool_)
        found[order[1:]] = same & (time[order][:-1] > as_of[order][1:])
        return found
