"""Point-in-time features of every scored event, for all events at once: START HERE.

The same definition as the stream's, and equal features: counts, flags, minima and maxima
exactly, sums and means to the last bit of the stream's arithmetic where that is exact. May
import backfill_views, history, feed, scoring's parts inwards and Polars.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.events import EventDecoder, microseconds
from headrace.feature_row import computed
from headrace.offline.backfill_views import Lines, ViewBackfill
from headrace.offline.history import histories
from headrace.offline.timeline import grid_of
from headrace.state import StateCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.definition import Definition, View
    from headrace.offline.feed import Feed
    from headrace.offline.history import Floats, History
    from headrace.offline.timeline import Grid
    from headrace.table_rows import TableRow
    from headrace.tables import Table

CHUNK = 20_000
"""Events whose request features are computed together."""


class Knowledge(StrEnum):
    """What features may have known."""

    AS_KNOWN = "as-known"  # what had arrived by then, as the stream saw it
    AS_HAPPENED = "as-happened"  # what had happened by then, as if every event came at once


@dataclass(frozen=True, slots=True)
class Backfilled:
    """The features of a history.

    Attributes:
        features: One row per event that the stream would have scored, in the order of its file:
            the source's id, ``event_time``, ``late``, and every column of the definition before
            imputation, null where absent.
        refused: Rows of any file that the stream would have refused.
        folded: View -> events whose features came out of the fold itself, one by one.
        reasons: Why, with the number of entities that were folded for it.
    """

    features: pl.DataFrame
    refused: int
    folded: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)


def backfill(
    definition: Definition,
    feeds: Sequence[Feed],
    knowledge: Knowledge = Knowledge.AS_KNOWN,
    progress: Callable[[int], None] = lambda _: None,
    rows: Mapping[str, Sequence[TableRow]] | None = None,
) -> Backfilled:
    """Compute the features of every scored event.

    Args:
        definition: What features there are.
        feeds: One per source; that of the scored source first.
        knowledge: Whether events count from when they happened, or from when they arrived.
        progress: Called with a number of events; in all ``steps`` times that of the first feed.
        rows: Entity key -> rows of tables, as a replay takes them.
    """
    found = known_histories(definition, feeds, knowledge)
    scored = found[0]
    columns: dict[str, Floats] = {}
    folded: dict[str, int] = {}
    reasons: Counter[str] = Counter()
    for view in windowed(definition, found):
        columns.update(zip(view.fold.features, view.features(), strict=True))
        folded[view.fold.view.name] = view.folded
        reasons.update(view.reasons)
        progress(len(scored))
    features = finished(definition, scored, columns, rows or {}, progress)
    features = _firsts(scored, features)
    return Backfilled(features, sum(each.refused for each in found), folded, reasons)


def steps(definition: Definition) -> int:
    """How often progress counts each event of the scored source."""
    return len(definition.scored_views) + bool(definition.request_features)


def windowed_features(
    definition: Definition, feeds: Sequence[Feed], knowledge: Knowledge
) -> dict[str, Floats]:
    """The windowed features alone, in the order of the accepted events; NaN where absent."""
    columns: dict[str, Floats] = {}
    for view in windowed(definition, known_histories(definition, feeds, knowledge)):
        columns.update(zip(view.fold.features, view.features(), strict=True))
    return columns


def known_histories(
    definition: Definition, feeds: Sequence[Feed], knowledge: Knowledge
) -> list[History]:
    """What the stream would have accepted of each feed.

    Args:
        definition: Its decoder decides.
        feeds: One per source; that of the scored source first.
        knowledge: Whether events arrive when they did, or when they happened.
    """
    chosen = on_time(feeds) if knowledge is Knowledge.AS_HAPPENED else list(feeds)
    return histories(chosen, EventDecoder(definition))


def on_time(feeds: Sequence[Feed]) -> list[Feed]:
    """The same events, each arriving when it happens."""
    return [replace(feed, arrival=feed.source.time) for feed in feeds]


def windowed(
    definition: Definition, found: Sequence[History], looks: History | None = None
) -> Iterator[ViewBackfill]:
    """The definition's views over these histories, each ready to give its features.

    Args:
        definition: Says the views.
        found: One history per source; that of the scored source first.
        looks: At which times states are looked at; None for each scored event's own look.
    """
    asked, every = found[0], list(found)
    if looks is not None:
        asked, every = looks, [*found, looks]
    grid = grid_of(every)
    for entity in dict.fromkeys(view.entity.name for view in definition.scored_views):
        yield from windowed_of(definition, every, entity, grid, asked.source.name)


def windowed_of(
    definition: Definition, found: Sequence[History], entity: str, grid: Grid, asked: str
) -> Iterator[ViewBackfill]:
    """The views of one entity; of the histories, those of their sources and the asked one.

    Args:
        definition: What features there are.
        found: The history that has features, and others.
        entity: Its name.
        grid: Of all these histories.
        asked: Name of the source of that which has features.
    """
    folds = [
        fold
        for fold in StateCodec(definition).folds[entity]
        if fold.view in definition.scored_views
    ]
    used = {asked, *(fold.view.source.name for fold in folds)}
    lines = Lines.of(entity, [each for each in found if each.source.name in used], grid)
    for fold in folds:
        yield ViewBackfill(fold, lines, asked)


def sources_of(definition: Definition, entity: str) -> set[str]:
    """The sources whose events the features of one entity need."""
    views = [view for view in definition.scored_views if view.entity.name == entity]
    return {definition.scored.name, *(view.source.name for view in views)}


def finished(
    definition: Definition,
    scored: History,
    columns: dict[str, Floats],
    rows: Mapping[str, Sequence[TableRow]],
    progress: Callable[[int], None],
) -> pl.DataFrame:
    """Windowed features with those of tables and of the event added; see ``Backfilled``."""
    for table in definition.tables:
        columns.update(looked_up(table, scored, rows))
    add_computed(definition, scored, columns, progress)
    return _frame(definition, scored, columns)


def looked_up(
    table: Table, scored: History, rows: Mapping[str, Sequence[TableRow]]
) -> dict[str, Floats]:
    """What a table's rows say as of each event's arrival: the newest loaded by then."""
    prefix, entity = f"{table.entity.name}#", _entity_field(scored, table)
    known = [
        (key.removeprefix(prefix), -(2**62) if row.newest else row.loaded_at, row)
        for key, loads in rows.items() if key.startswith(prefix)
        for row in loads if row.table == table.name
    ]  # fmt: skip
    always = {key for key, at, _ in known if at < 0}
    known = [each for each in known if each[1] < 0 or each[0] not in always]
    known.sort(key=lambda each: each[1])
    loads = pl.DataFrame(
        {"id": [key for key, _, _ in known], "at": [at for _, at, _ in known],
         "load": range(len(known))},
        schema={"id": pl.String, "at": pl.Int64, "load": pl.Int64},
    )  # fmt: skip
    events = (
        pl.DataFrame({"id": scored.column(entity).cast(pl.String), "arrival": scored.arrival})
        .with_row_index("place")
        .sort("arrival")
    )
    met = events.join_asof(loads, left_on="arrival", right_on="at", by="id", strategy="backward")
    met = met.sort("place")
    age = met["arrival"] - met["at"]
    valid = (met["at"] < 0) | (age <= microseconds(table.valid_for))
    load = met["load"].set(~valid.fill_null(value=False), None)
    place = load.fill_null(len(known)).to_numpy()
    lacking = [None] * len(table.fields)
    values = [
        list(row.values) if len(row.values) == len(table.fields) else lacking for _, _, row in known
    ]
    matrix = np.array([*values, lacking], dtype=np.float64).reshape(-1, len(table.fields))
    return dict(zip(table.features, matrix[place].T, strict=True))


def _entity_field(scored: History, table: Table) -> str:
    return next(n for n, each in scored.source.entities.items() if each == table.entity)


def add_computed(
    definition: Definition,
    scored: History,
    columns: dict[str, Floats],
    progress: Callable[[int], None],
) -> None:
    """Add request features, each seeing those before it, and the fields that are inputs."""
    functions = [(each.__name__, each) for each in definition.request_features]
    known = _as_functions_see_them(definition)
    if functions:
        values: dict[str, list[float | None]] = {name: [] for name, _ in functions}
        for start in range(0, len(scored), CHUNK):
            stop = min(start + CHUNK, len(scored))
            part = _rows({name: columns[name][start:stop] for name in known}, stop - start)
            for fields, found in zip(scored.fields(np.arange(start, stop)), part, strict=True):
                for name, function in functions:
                    found[name] = computed(function, fields, found)
                    values[name].append(found[name])
            progress(stop - start)
        columns.update({n: np.array(found, dtype=np.float64) for n, found in values.items()})
    for name in definition.columns:
        if name not in columns:
            columns[name] = scored.numbers(name)


def _as_functions_see_them(definition: Definition) -> list[str]:
    """Stored features in the order in which the stream has them: entity by entity."""
    both: list[View | Table] = [*definition.views, *definition.tables]
    return [
        name
        for entity in definition.scored.entities.values()
        for part in both
        if part.entity == entity
        for name in part.features
    ]


def _rows(columns: Mapping[str, Floats], height: int) -> Iterator[dict[str, float | None]]:
    """The columns row by row, None where they have NaN."""
    if not columns:
        return ({} for _ in range(height))
    return pl.DataFrame(columns).fill_nan(None).iter_rows(named=True)


def _frame(definition: Definition, scored: History, columns: Mapping[str, Floats]) -> pl.DataFrame:
    source = scored.source
    return pl.DataFrame(
        {
            source.id: scored.column(source.id),
            "event_time": scored.column(source.time),
            "late": scored.late,
            **{name: columns[name] for name in definition.columns},
        }
    ).with_columns(pl.col(definition.columns).fill_nan(None))


def event_rows(
    definition: Definition, scored: History, columns: Mapping[str, Floats]
) -> pl.DataFrame:
    """One row per event; where an id comes again, as it was when it came first."""
    return _firsts(scored, _frame(definition, scored, columns))


def _firsts(scored: History, features: pl.DataFrame) -> pl.DataFrame:
    """Without events whose id was there before: the first score of an event stays."""
    if scored.ids_are_unique:
        return features
    ids = scored.column(scored.source.id).cast(pl.String)
    order = pl.DataFrame({"id": ids, "rank": scored.rank})
    first = order.select(pl.col("rank") == pl.col("rank").min().over("id"))
    return features.filter(first.to_series())
