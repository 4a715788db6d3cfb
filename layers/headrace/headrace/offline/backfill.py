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
    for table in definition.tables:
        columns.update(looked_up(table, scored, rows or {}))
    add_computed(definition, scored, columns, progress)
    refused = sum(each.refused for each in found)
    return Backfilled(event_rows(definition, scored, columns), refused, folded, reasons)


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
    chosen = list(feeds)
    if knowledge is Knowledge.AS_HAPPENED:
        chosen = [replace(feed, arrival=feed.source.time) for feed in feeds]
    return histories(chosen, EventDecoder(definition))


def windowed(
    definition: Definition, found: Sequence[History], looks: History | None = None
) -> Iterator[ViewBackfill]:
    """The definition's views over these histories, each ready to give its features.

    Args:
        definition: Says the views.
        found: One history per source; that of the scored source first.
        looks: At which times states are looked at; None for each scored event's own look.
    """
    asked = found[0] if looks is None else looks
    every = list(found) if looks is None else [*found, looks]
    codec, grid = StateCodec(definition), grid_of(every)
    views = definition.scored_views
    for entity in dict.fromkeys(view.entity.name for view in views):
        folds = [fold for fold in codec.folds[entity] if fold.view in views]
        used = {asked.source.name, *(fold.view.source.name for fold in folds)}
        lines = Lines.of(entity, [each for each in every if each.source.name in used], grid)
        for fold in folds:
            yield ViewBackfill(fold, lines, asked.source.name)


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


def event_rows(
    definition: Definition, scored: History, columns: Mapping[str, Floats]
) -> pl.DataFrame:
    """One row per event; where an id comes again, as it was when it came first."""
    source = scored.source
    frame = pl.DataFrame(
        {
            source.id: scored.column(source.id),
            "event_time": scored.column(source.time),
            "late": scored.late,
            **{name: columns[name] for name in definition.columns},
        }
    ).with_columns(pl.col(definition.columns).fill_nan(None))
    if scored.ids_are_unique:
        return frame
    order = pl.DataFrame({"key": frame.get_column(source.id).cast(pl.String), "rank": scored.rank})
    first = order.select(pl.col("rank") == pl.col("rank").min().over("key"))
    return frame.filter(first.to_series())
