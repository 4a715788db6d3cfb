"""What seeding a history would take, from a sample of its entities. May import history."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from headrace.adapters.capacity import item_bytes, write_units
from headrace.adapters.items import state_item
from headrace.offline.seed_parts import (
    arrivals_of,
    entity_column,
    fold_part,
    hash_of,
    sources_of,
)
from headrace.seeding import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.definition import Source
    from headrace.offline.seed_parts import History
    from headrace.ports import StateWrite
    from headrace.scoring import Scorer

SAMPLE = 5_000
"""Entities of each kind that a plan measures, about."""

_OVERHEAD_BYTES = 100  # that DynamoDB charges storage for, per item
_TWO_SIDED_95 = 1.96


class Estimate(NamedTuple):
    """A total, and half the width of its 95 % interval, by the spread in the sample."""

    total: float
    within: float


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """What seeding one kind of entity would take.

    Attributes:
        entity: Its name.
        entities: In the history, of those that count.
        sampled: How many were folded.
        events: Of all of them.
        states: Items to write.
        item_bytes: Mean size of an item.
        largest_item_bytes: In the sample.
        write_units: To write all, each at its price of one conditional put.
        storage_bytes: Of all, as DynamoDB counts storage.
        cpu_seconds: To read and fold all, on one core of this machine.
        cpu_us_per_entity: The same for one.
    """

    entity: str
    entities: int
    sampled: int
    events: int
    states: int
    item_bytes: float
    largest_item_bytes: int
    write_units: Estimate
    storage_bytes: float
    cpu_seconds: float
    cpu_us_per_entity: float


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What seeding would take.

    Attributes:
        entities: By kind.
        write_units: Of all; on demand, what is paid for.
        storage_bytes: Of all.
        cpu_seconds: To read and fold, divided by the processes.
        write_seconds: At the budget; None without one.
        seconds: The longer of the two.
    """

    entities: Sequence[EntityPlan]
    write_units: float
    storage_bytes: float
    cpu_seconds: float
    write_seconds: float | None
    seconds: float

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return asdict(self)


def plan(
    scorer: Scorer,
    history: History,
    processes: int,
    units_per_second: float | None,
    advance: Callable[[int], None] = lambda _: None,
    sample: int = SAMPLE,
) -> SeedPlan:
    """Fold a sample of each kind of entity, and reckon for all.

    Args:
        scorer: With the definition.
        history: To seed.
        processes: That would fold.
        units_per_second: Budget of write units; None writes as fast as it goes.
        advance: Called with 1 for each kind of entity.
        sample: Entities of each kind, about.

    Raises:
        Misconfigured: A file cannot be read, or lacks columns of its source.
    """
    found = []
    for entity in sorted(scorer.codec.folds):
        if sources_of(scorer, history, entity):
            found.append(_plan_entity(scorer, history, entity, sample))
        advance(1)
    units = sum(each.write_units.total for each in found)
    cpu = sum(each.cpu_seconds for each in found) / processes
    writing = units / units_per_second if units_per_second else None
    storage = sum(each.storage_bytes for each in found)
    return SeedPlan(found, units, storage, cpu, writing, max(cpu, writing or 0.0))


def _plan_entity(scorer: Scorer, history: History, entity: str, sample: int) -> EntityPlan:
    sources = sources_of(scorer, history, entity)
    entities, events, sampled = _counted(history, sources, entity, sample)
    total = max(1, entities // sample)
    folded = fold_part(scorer, history, Part(entity, 0, total))
    times = entities / max(1, sampled)
    sizes = [item_bytes(state_item(write)) for write in folded.writes]
    cpu = folded.cpu_seconds * times
    return EntityPlan(
        entity=entity,
        entities=entities,
        sampled=sampled,
        events=events,
        states=round(len(sizes) * times),
        item_bytes=round(sum(sizes) / max(1, len(sizes)), 1),
        largest_item_bytes=max(sizes, default=0),
        write_units=_estimate(folded.writes, sampled, entities),
        storage_bytes=round(sum(size + _OVERHEAD_BYTES for size in sizes) * times),
        cpu_seconds=round(cpu, 2),
        cpu_us_per_entity=round(cpu / max(1, entities) * 1e6, 1),
    )


def _estimate(writes: Sequence[StateWrite], sampled: int, entities: int) -> Estimate:
    """Units of all entities; those of the sample that need no item count as 0."""
    units = [write_units(write) for write in writes]
    mean = sum(units) / max(1, sampled)
    square = sum(each**2 for each in units) / max(1, sampled) - mean**2
    spread = sqrt(max(0.0, square) / max(1, sampled) * (1 - sampled / max(1, entities)))
    return Estimate(round(mean * entities), round(_TWO_SIDED_95 * spread * entities))


def _counted(
    history: History, sources: Sequence[Source], entity: str, sample: int
) -> tuple[int, int, int]:
    """Entities that count, their events, and how many entities the sample has."""
    ids = (
        pl.concat(
            arrivals_of(history, source, hash_of(entity_column(source, entity)).alias("id"))
            for source in sources
        )
        .filter(pl.col("arrival") < history.until)
        .group_by("id")
        .agg(events=pl.len(), newest=pl.col("arrival").max())
        .filter(pl.col("newest") >= history.active_since)
    )
    found = ids.select("id", "events").collect(engine="streaming")
    total = max(1, len(found) // sample)
    sampled = found.filter(pl.col("id") % total == 0)
    return len(found), int(found.get_column("events").sum()), len(sampled)
