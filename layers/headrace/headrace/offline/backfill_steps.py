"""The steps of a backfill in parts, each from frames to frames: START at ``entity_features``.

An event touches several entities, so there is no one way to cut a history. Each entity's views get
cuts of their own, by its id; what they give is cut again, by place in the files, and joined there.
Where frames lie in between is said elsewhere: ``backfill_parts`` on one machine, ``backfill_cloud``
in S3. May import backfill, history and feed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from headrace.errors import Misconfigured
from headrace.events import EventDecoder
from headrace.offline.backfill import Knowledge, finished, on_time, windowed_of
from headrace.offline.feed import Feed, feed_of
from headrace.offline.history import histories
from headrace.offline.timeline import grid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.definition import Definition, Source
    from headrace.offline.history import Floats, History
    from headrace.table_rows import TableRow

PLACE = "place in the files"
"""Column: which event of its source a row is; any numbers that ascend in the files' order."""


class EntityFeatures(NamedTuple):
    """What one entity's views give.

    Attributes:
        features: PLACE, and a column per feature.
        folded: View -> events that were folded one by one.
        reasons: Why, with the number of entities.
    """

    features: pl.DataFrame
    folded: dict[str, int]
    reasons: Counter[str]


class Joined(NamedTuple):
    """Features of some events in the order of their files, and how many rows were refused."""

    features: pl.DataFrame
    refused: int


def placed(feed: Feed, first: int) -> Feed:
    """The feed with the place of each row beside it, counted from that of the first."""
    places = pl.int_range(first, first + len(feed.frame), dtype=pl.Int64).alias(PLACE)
    return Feed(feed.source, feed.frame.select(places, pl.all()), feed.arrival)


def stacked(frames: Sequence[pl.DataFrame], source: Source) -> Feed:
    """One feed of the frames of placed ones.

    Raises:
        Misconfigured: They have other columns.
    """
    try:
        frame = pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        msg = f"files of {source.name!r}: {error}; expected the same columns in all of them"
        raise Misconfigured(msg) from error
    feed = feed_of(frame, source)
    return Feed(source, feed.frame.with_columns(frame.get_column(PLACE)), feed.arrival)


def entity_field(source: Source, entity: str) -> str:
    """The column in which a source has the ids of an entity."""
    return next(name for name, each in source.entities.items() if each.name == entity)


def entity_features(
    definition: Definition,
    feeds: Sequence[Feed],
    entity: str,
    knowledge: Knowledge,
    progress: Callable[[int], None] = lambda _: None,
) -> EntityFeatures:
    """The features of one entity's views.

    Args:
        definition: What features there are.
        feeds: Placed; every event of some ids of the entity, the scored source first.
        entity: Its name.
        knowledge: See ``backfill.backfill``.
        progress: Called with the number of scored events, once for each view.
    """
    found = histories_of(definition, feeds, knowledge)
    columns: dict[str, Floats] = {}
    folded: dict[str, int] = {}
    reasons: Counter[str] = Counter()
    for view in windowed_of(definition, found, entity, grid_of(found), definition.scored.name):
        columns.update(zip(view.fold.features, view.features(), strict=True))
        folded[view.fold.view.name] = view.folded
        reasons.update(view.reasons)
        progress(len(found[0]))
    frame = pl.DataFrame({PLACE: found[0].column(PLACE), **columns})
    return EntityFeatures(frame, folded, reasons)


def histories_of(
    definition: Definition, feeds: Sequence[Feed], knowledge: Knowledge
) -> list[History]:
    """The histories of feeds, as known or as happened."""
    chosen = on_time(feeds) if knowledge is Knowledge.AS_HAPPENED else list(feeds)
    return histories(chosen, EventDecoder(definition))


def repeated(definition: Definition, feed: Feed, knowledge: Knowledge) -> pl.Series:
    """Places of accepted events whose id was scored before: their features are not wanted.

    Args:
        definition: Whose events they are.
        feed: Placed; every event of some ids.
        knowledge: Says which of two came first.
    """
    found = histories_of(definition, [feed], knowledge)[0]
    ids = found.column(feed.source.id).cast(pl.String)
    order = pl.DataFrame({"id": ids, "rank": found.rank, PLACE: found.column(PLACE)})
    later = order.filter(pl.col("rank") != pl.col("rank").min().over("id"))
    return later.get_column(PLACE)


class Joiner(NamedTuple):
    """Puts together what each entity's views gave.

    Attributes:
        definition: What features there are.
        knowledge: See ``backfill.backfill``.
        rows: Entity key -> rows of tables.
    """

    definition: Definition
    knowledge: Knowledge
    rows: Mapping[str, Sequence[TableRow]]

    def join(
        self,
        feed: Feed,
        given: Iterable[pl.DataFrame],
        again: pl.Series,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Joined:
        """The features of some events.

        Args:
            feed: Placed; of the scored source.
            given: For each entity with views, the features of these events at least.
            again: Places whose features are not wanted.
            progress: Called with numbers of events where there are request features.

        Raises:
            Misconfigured: An event has none of an entity's features, or has them twice.
        """
        found = histories_of(self.definition, [feed], self.knowledge)[0]
        place = found.column(PLACE)
        columns: dict[str, Floats] = {}
        for features in given:
            columns.update(_met(place, features))
        wanted = {name for view in self.definition.scored_views for name in view.features}
        if lacking := sorted(wanted - columns.keys()) if len(found) else []:
            msg = f"no features {', '.join(lacking)} were given; expected those of each entity"
            raise Misconfigured(msg)
        frame = finished(self.definition, found, columns, self.rows, progress)
        if len(again):
            frame = frame.filter(~place.is_in(again.implode()))
        return Joined(frame, found.refused)


def _met(place: pl.Series, features: pl.DataFrame) -> dict[str, Floats]:
    """The features at these places, in their order."""
    mine = features.filter(pl.col(PLACE).is_in(place.implode()))
    if len(mine) != len(place) or mine.get_column(PLACE).n_unique() != len(place):
        msg = f"{len(mine):,} rows of features for {len(place):,} events; expected one each"
        raise Misconfigured(msg)
    ordered = pl.DataFrame({PLACE: place}).join(mine, on=PLACE, how="left", maintain_order="left")
    return {name: ordered[name].to_numpy() for name in ordered.columns if name != PLACE}
