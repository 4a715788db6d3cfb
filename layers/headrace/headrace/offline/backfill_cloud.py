"""Backfill above one machine: the steps of ``backfill_steps`` as invocations, with S3 in between.

``plan`` lists the history; ``compute`` gives the features of one entity's views for one partition
of its ids, or finds ids that come again; ``join`` puts them together for one file; ``close`` sums
up. What a step writes has names and contents that follow from its input alone: doing it again does
no harm. The state machine is infra/backfill.asl.json. May import backfill_plan, backfill_steps,
backfill, feed and adapters.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.adapters.aws import in_parallel
from headrace.errors import Misconfigured
from headrace.loading import definition_hash
from headrace.offline.backfill import Knowledge, sources_of
from headrace.offline.backfill_plan import Item, Order, Plan, Planned, partitions_of, plan_of
from headrace.offline.backfill_steps import (
    PLACE,
    Joiner,
    entity_features,
    entity_field,
    placed,
    repeated,
    stacked,
)
from headrace.offline.feed import ARRIVAL_TIME, LABEL_TIME, Feed, feed_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.adapters.objects import Objects, Stored
    from headrace.definition import Definition, Source

_FILE = 2**40
"""Places of one file begin at its number times this."""


class Report(msgspec.Struct, kw_only=True):
    """What a run did; see ``backfill_parts.Parts``."""

    out: str
    knowledge: Knowledge
    events: int = 0
    refused: int = 0
    late: int = 0
    folded: dict[str, int]
    folded_entities: dict[str, int]


class _Computed(msgspec.Struct):
    folded: dict[str, int]
    reasons: dict[str, int]


class _Joined(msgspec.Struct):
    events: int
    refused: int
    late: int


@dataclass(frozen=True, slots=True)
class CloudBackfill:
    """The steps.

    Attributes:
        definition: What features there are.
        objects: In S3.
    """

    definition: Definition
    objects: Objects

    def plan(self, order: Order, run: str) -> Planned:
        """List the history, cut it, and note both for the other steps.

        Args:
            order: What is to be computed.
            run: A name that no other run into the same folder has.

        Raises:
            Misconfigured: No history is there, or something in ``out``, or the definition has
                tables.
            TooLarge: The history, one of its files, or the number of things to do.
        """
        work = f"{order.folder}/_work/{run}"
        if next(iter(self.objects.find(f"{work}/plan.json")), None) is None:
            self._write(f"{work}/plan.json", plan_of(self.definition, self.objects, order))
        found = self._read_plan(work)
        return found.planned(work, self._entities())

    def compute(self, work: str, item: Item) -> None:
        """Compute one item, and leave what it gives cut by place in the files."""
        plan = self._read_plan(work)
        done = _Computed({}, {})
        if item.entity is None:
            scored = self.definition.scored
            feed = self._partition(plan, scored, scored.id, item.partition)
            twice = feed.frame.get_column(scored.id).cast(pl.String).is_duplicated()
            mine = Feed(scored, feed.frame.filter(twice), feed.arrival)
            again = repeated(self.definition, mine, plan.order.knowledge)
            self._keep(plan, work, item, pl.DataFrame({PLACE: again}))
        else:
            used = sources_of(self.definition, item.entity)
            feeds = [
                self._partition(plan, each, entity_field(each, item.entity), item.partition)
                for each in self.definition.sources
                if each.name in used & plan.files.keys()
            ]
            feeds.sort(key=lambda feed: feed.source.name != self.definition.scored.name)
            if len(feeds[0].frame):
                found = entity_features(self.definition, feeds, item.entity, plan.order.knowledge)
                self._keep(plan, work, item, found.features)
                done = _Computed(found.folded, dict(found.reasons))
        self._write(f"{work}/computed/{item.name}.json", done)

    def _partition(self, plan: Plan, source: Source, column: str, partition: int) -> Feed:
        """All events of a source whose id in a column falls into a partition, in order."""
        frames = []
        for number, stored in enumerate(plan.files[source.name]):
            whole = placed(self._feed(stored, source), number * _FILE).frame
            for rows in whole.iter_slices(plan.order.rows_at_once):
                part = partitions_of(rows.get_column(column), plan.partitions)
                frames.append(rows.filter(part == partition))
        return stacked(frames, source)

    def _keep(self, plan: Plan, work: str, item: Item, frame: pl.DataFrame) -> None:
        place = pl.col(PLACE)
        cuts = [place // _FILE, place % _FILE // plan.order.rows_at_once]
        for (file, cut), part in _grouped(frame, cuts):
            self._write_frame(f"{work}/features/{file:05}-{cut:05}/{item.name}.parquet", part)

    def join(self, work: str, file: int) -> None:
        """Put the features of all entities together for the events of one file, in its order.

        Raises:
            Misconfigured: Some item was not computed.
        """
        plan = self._read_plan(work)
        self._check_all(f"{work}/computed/", (len(self._entities()) + 1) * plan.partitions)
        scored = self.definition.scored
        whole = placed(self._feed(plan.files[scored.name][file], scored), file * _FILE)
        joiner = Joiner(self.definition, plan.order.knowledge, {})
        done = _Joined(0, 0, 0)
        for number, part in enumerate(whole.frame.iter_slices(plan.order.rows_at_once)):
            cut = f"{file:05}-{number:05}"
            given = [self._given(work, cut, entity) for entity in self._entities()]
            repeats = self._given(work, cut, None)
            again = pl.Series(dtype=pl.Int64) if repeats is None else repeats.get_column(PLACE)
            feed = Feed(scored, part, whole.arrival)
            found = joiner.join(feed, [each for each in given if each is not None], again)
            self._write_frame(f"{plan.order.folder}/part-{cut}.parquet", found.features)
            done.events += len(found.features)
            done.refused += found.refused
            done.late += int(found.features.get_column("late").sum())
        self._write(f"{work}/joined/{file:05}.json", done)

    def _check_all(self, folder: str, wanted: int) -> None:
        """The state machine sees to it too; a part that is lacking would go unnoticed."""
        there = sum(1 for _ in self.objects.find(folder))
        if there != wanted:
            msg = f"{folder}: {there} of {wanted} are done; expected all of them"
            raise Misconfigured(msg)

    def _given(self, work: str, cut: str, entity: str | None) -> pl.DataFrame | None:
        """What all partitions of an entity left for a cut of a file; None where nothing."""
        stored = [e.uri for e in self.objects.find(f"{work}/features/{cut}/{entity or '-'}/")]
        frames = [pl.read_parquet(data) for data in in_parallel(self.objects.read, stored)]
        return pl.concat(frames) if frames else None

    def close(self, work: str) -> Report:
        """Sum up, and delete what lay between the steps.

        Raises:
            Misconfigured: Some file was not joined.
        """
        out = work.partition("/_work/")[0]
        kept = f"{out}/_report.json"
        if next(iter(self.objects.find(kept)), None) is None:
            self._write(kept, self._report(work))
        self.objects.delete([each.uri for each in self.objects.find(f"{work}/")])
        return msgspec.json.decode(self.objects.read(kept), type=Report)

    def _report(self, work: str) -> Report:
        plan = self._read_plan(work)
        self._check_all(f"{work}/joined/", len(plan.files[self.definition.scored.name]))
        folded: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for each in self._told(f"{work}/computed/", _Computed):
            folded.update(each.folded)
            reasons.update(each.reasons)
        joined = self._told(f"{work}/joined/", _Joined)
        return Report(
            out=plan.order.out,
            knowledge=plan.order.knowledge,
            events=sum(each.events for each in joined),
            refused=sum(each.refused for each in joined),
            late=sum(each.late for each in joined),
            folded=dict(folded),
            folded_entities=dict(reasons),
        )

    def _told(self, folder: str, kind: Callable[..., Any]) -> list[Any]:
        stored = [each.uri for each in self.objects.find(folder)]
        return [
            msgspec.json.decode(data, type=kind) for data in in_parallel(self.objects.read, stored)
        ]

    def _entities(self) -> list[str]:
        return list(dict.fromkeys(view.entity.name for view in self.definition.scored_views))

    def _read_plan(self, work: str) -> Plan:
        plan = msgspec.json.decode(self.objects.read(f"{work}/plan.json"), type=Plan)
        if plan.definition != (mine := definition_hash(self.definition)):
            msg = f"definition {mine} was deployed amid a run of {plan.definition}; start another"
            raise Misconfigured(msg)
        return plan

    def _feed(self, stored: Stored, source: Source) -> Feed:
        """A file's columns of its source; others are not read."""
        data = self.objects.read(stored.uri, stored.etag)
        known = [source.id, source.time, *source.entities, *source.fields, ARRIVAL_TIME, LABEL_TIME]
        try:
            there = pl.read_parquet_schema(io.BytesIO(data))
            chosen = [name for name in there if name in known]
            return feed_of(pl.read_parquet(data, columns=chosen), source, stored.uri)
        except pl.exceptions.PolarsError as error:
            msg = f"{stored.uri}: {error}; expected a Parquet file of {source.name!r}"
            raise Misconfigured(msg) from error

    def _write_frame(self, uri: str, frame: pl.DataFrame) -> None:
        data = io.BytesIO()
        frame.write_parquet(data)
        self.objects.write(uri, data.getvalue())

    def _write(self, uri: str, told: object) -> None:
        self.objects.write(uri, msgspec.json.encode(told))


def _grouped(
    frame: pl.DataFrame, cuts: list[pl.Expr]
) -> list[tuple[tuple[int, int], pl.DataFrame]]:
    """The frame by two numbers of each row."""
    first, second = (cut.alias(str(number)) for number, cut in enumerate(cuts))
    groups = frame.with_columns(first, second).partition_by("0", "1", as_dict=True)
    return [
        ((int(file), int(cut)), part.drop("0", "1")) for (file, cut), part in sorted(groups.items())
    ]
