"""The features of every event as each stage would have had them. May import as_of and train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.offline.as_of import DAY_US, Known, last_midnight
from headrace.offline.train import ENTITY, with_entity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Definition, Entity, View
    from headrace.offline.feed import Feed
    from headrace.offline.history import Ints
    from headrace.table_rows import TableRow
    from headrace.tables import Table

AS_OF, AGE, BEHIND, KNEW = "as of", "age", "behind", "knew "
"""Columns of ``facts``; ``knew <entity>`` is one for each kind of entity."""
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Frames:
    """One row per scored event in each of them, in the same order.

    Attributes:
        definition: What features there are.
        realtime: Features as of the event, as they were known then.
        nightly: Stored features as of the last midnight before it; fields and request features
            are those of the event.
        facts: ``as of`` (microseconds UTC, of the nightly run), ``age`` (hours since then),
            ``behind`` (whether something of the batch entity happened since), ``knew <entity>``
            (whether the run knew the entity).
        known: Entity -> since when each one had been known.
    """

    definition: Definition
    realtime: pl.DataFrame
    nightly: pl.DataFrame
    facts: pl.DataFrame
    known: Mapping[str, Ints]

    def only(self, wanted: pl.Series) -> Frames:
        """Some of the events."""
        return replace(
            self,
            realtime=self.realtime.filter(wanted),
            nightly=self.nightly.filter(wanted),
            facts=self.facts.filter(wanted),
        )


def frames_of(
    definition: Definition,
    feeds: Sequence[Feed],
    rows: Mapping[str, Sequence[TableRow]] | None = None,
) -> Frames:
    """Compute them.

    Args:
        definition: What features there are.
        feeds: One per source; that of the scored source first.
        rows: Entity key -> rows of tables.
    """
    known = Known.of(definition, feeds, rows)
    as_of = last_midnight(known.scored.time)
    facts, first = _facts(known, as_of)
    realtime, nightly = known.real_time(), known.stored_as_of(as_of)
    key = definition.scored.id
    kept = realtime.select(key).join(facts, on=key, how="left", maintain_order="left")
    return Frames(
        definition,
        with_entity(definition, realtime, feeds[0]),
        with_entity(definition, nightly, feeds[0]),
        kept,
        first,
    )


def _facts(known: Known, as_of: Ints) -> tuple[pl.DataFrame, dict[str, Ints]]:
    scored = known.scored
    columns: dict[str, Any] = {AS_OF: as_of, AGE: (scored.time - as_of) / _HOUR_US}
    first = {}
    for entity in dict.fromkeys(scored.source.entities.values()):
        acquaintance = known.entity(entity)
        first[entity.name] = acquaintance.first
        columns[KNEW + entity.name] = acquaintance.knew(as_of)
        if entity == known.definition.batch_entity:
            columns[BEHIND] = acquaintance.something_since(as_of, scored.time)
    key = scored.source.id
    fields = {name: scored.column(name) for name in (key, *scored.source.entities)}
    frame = pl.DataFrame({**fields, **columns})
    return frame.unique(key, keep="first", maintain_order=True), first


def of_batch_run(frames: Frames) -> pl.DataFrame:
    """The nightly rows as the batch run has them: no event, no other entity, each row once.

    Returns:
        The batch entity's id (``ENTITY``), ``as of``, and every column; null where absent.
    """
    definition = frames.definition
    of_entity = _stored(definition, definition.batch_entity)
    absent = [pl.lit(None, pl.Float64).alias(n) for n in definition.columns if n not in of_entity]
    rows = frames.nightly.select(ENTITY, *of_entity).with_columns(frames.facts[AS_OF], *absent)
    return rows.unique([ENTITY, AS_OF], keep="first", maintain_order=True)


def _stored(definition: Definition, entity: Entity) -> list[str]:
    parts: list[View | Table] = [*definition.scored_views, *definition.tables]
    return [name for part in parts if part.entity == entity for name in part.features]


def never_used(frames: Frames, entity: str) -> float | None:
    """Share of what nightly runs made of these entities that nobody asked for until the next run.

    Args:
        frames: Of the events of some days.
        entity: Which kind.

    Returns:
        None where no run knew any entity.
    """
    facts = frames.facts
    as_of = facts[AS_OF].to_numpy()
    runs = np.arange(as_of.min(initial=2**62), as_of.max(initial=0) + 1, DAY_US)
    made = sum(int((frames.known[entity] <= run).sum()) for run in runs.tolist())
    name = next(n for n, e in frames.definition.scored.entities.items() if e.name == entity)
    used = facts.filter(pl.col(KNEW + entity)).select(AS_OF, name).n_unique()
    return 1 - used / made if made else None
