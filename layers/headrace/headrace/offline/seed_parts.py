"""Entity states from history: part by part of the entities, through the scorer's own fold.

A part is what one process folds at a time: its size, not that of the history, is what memory must
hold. May import feed, scoring and what is further inwards.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import groupby, islice
from math import ceil
from multiprocessing import get_context
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from headrace.adapters.parquet import utc
from headrace.errors import EventRejected, Misconfigured
from headrace.folding import EntityFold
from headrace.model import load_without_model
from headrace.offline.feed import ARRIVAL_TIME, LABEL_TIME, Feed, arrivals, feed_of, records
from headrace.ports import StateWrite
from headrace.scoring import Scorer
from headrace.seeding import FoldedPart, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from headrace.definition import Definition, Source
    from headrace.events import Event
    from headrace.feature_row import EntityPart
    from headrace.model import Bundle
    from headrace.outcome import Work
    from headrace.state import EntityState

ROWS_PER_PART = 250_000
"""Rows of all sources that a part has about; some 100 MB while they are folded."""

BATCH = 500
"""Events of an entity between which its state is packed: that bounds the memory of their order."""

_CHUNK = 20_000
_SALT = 2_654_435_769  # parts are of no other hash that files may be cut by
_US_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class History:
    """Files of sources, and what of them counts.

    Attributes:
        files: Source name -> Parquet file, or folder of such files.
        until: What arrived before it counts, microseconds UTC: the hand-over.
        active_since: Entities count to which something came since, microseconds UTC.
    """

    files: dict[str, Path]
    until: int
    active_since: int = 0


class Folder(Scorer):
    """The scorer's fold without features: history is folded for the state that it leaves."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.fold_entity = _HistoryFold(bundle.definition, self.codec).fold


class _HistoryFold(EntityFold):
    def _step(
        self, state: EntityState, event: Event, part: EntityPart, later: list[bytes] | None
    ) -> None:
        self._fold(state, event, part, known=later is not None)
        if not (event.late or part.late or part.repeated):
            state.note_scored(event.id, event.time)


def sources_of(scorer: Scorer, history: History, entity: str) -> list[Source]:
    """The sources that change an entity's state, the scored one first, of which there are files."""
    definition = scorer.definition
    read = {view.source.name for view in definition.views if view.entity.name == entity}
    found = [
        source
        for source in definition.sources
        if source.name in history.files
        and (source is definition.scored or source.name in read)
        and entity in {each.name for each in source.entities.values()}
    ]
    return sorted(found, key=lambda source: source is not definition.scored)


def lacking_sources(definition: Definition, history: History) -> dict[str, str]:
    """View -> its source, for views of whose source there is no file."""
    return {
        view.name: view.source.name
        for view in definition.views
        if view.source.name not in history.files
    }


def parts_of(scorer: Scorer, history: History, rows_per_part: int = ROWS_PER_PART) -> list[Part]:
    """Parts of every entity, so many that each has about so many rows."""
    rows = {name: _height(path) for name, path in history.files.items()}
    found = []
    for entity in sorted(scorer.codec.folds):
        names = [source.name for source in sources_of(scorer, history, entity)]
        total = max(1, ceil(sum(rows[name] for name in names) / rows_per_part)) if names else 0
        found += [Part(entity, number, total) for number in range(total)]
    return found


def newest_arrival(scorer: Scorer, history: History) -> int:
    """When the newest event of all files arrived, microseconds UTC; 0 without any."""
    sources = [s for s in scorer.definition.sources if s.name in history.files]
    newest = [
        arrivals_of(history, source).select(pl.col("arrival").max()).collect().item()
        for source in sources
    ]
    return max((each for each in newest if each is not None), default=0)


def arrivals_of(history: History, source: Source, *more: pl.Expr) -> pl.LazyFrame:
    """``arrival`` of each row of a source, microseconds UTC, and more columns beside it.

    Raises:
        Misconfigured: The file cannot be read, or lacks columns of its source.
    """
    path = history.files[source.name]
    frame = scan(path)
    there = frame.collect_schema()
    arrival = next((name for name in (ARRIVAL_TIME, LABEL_TIME) if name in there), source.time)
    lacking = [name for name in (arrival, *source.entities) if name not in there]
    if lacking:
        names = ", ".join(lacking)
        msg = f"{path.name}: columns {names} are missing; source {source.name!r} has them"
        raise Misconfigured(msg)
    moment = utc(pl.DataFrame(schema=there), arrival)
    return frame.select(moment.dt.epoch("us").alias("arrival"), *more)


def name_of(scorer: Scorer, history: History, parts: Sequence[Part]) -> str:
    """Names a seeding by all that its states depend on, and how it is cut into parts."""
    files = [
        (name, str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for name, path in sorted(history.files.items())
        for file in ([path] if path.is_file() else sorted(path.rglob("*.parquet")))
    ]
    manifest = scorer.bundle.manifest
    times = (history.until, history.active_since)
    told = (files, times, manifest.definition_hash, list(parts))
    # The hash that cuts parts may be another in another version of Polars.
    return f"seed {blake2b(repr((told, pl.__version__)).encode(), digest_size=8).hexdigest()}"


def entity_column(source: Source, entity: str) -> str:
    """The column of a source that has an entity's ids."""
    return next(name for name, each in source.entities.items() if each.name == entity)


def hash_of(column: str) -> pl.Expr:
    """What parts are cut by; ids that are numbers in one file and text in another are the same."""
    return pl.col(column).cast(pl.String).hash(_SALT)


def scan(path: Path) -> pl.LazyFrame:
    """A Parquet file, or all of a folder.

    Raises:
        Misconfigured: It cannot be read.
    """
    try:
        frame = pl.scan_parquet(path)
        frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: {error}; expected a Parquet file, or a folder of them"
        raise Misconfigured(msg) from error
    return frame


def fold_part(scorer: Scorer, history: History, part: Part) -> FoldedPart:
    """The states of one part's entities, as a stream would have left them.

    Raises:
        Misconfigured: A file cannot be read, or lacks columns of its source.
    """
    began = time.process_time()
    entity, counts = part.entity, Counter[str]()
    sources = sources_of(scorer, history, entity)
    feeds = [_read(history, source, part) for source in sources]
    works = _works(scorer, feeds, _by_entity(feeds, history, entity), entity, counts)
    writes = []
    for key, group in groupby(works, key=lambda work: work.keys[entity]):
        write = _written(scorer, _folded(scorer, key, group, counts))
        if write is None:
            continue
        if write.expires is not None and write.expires * _US_PER_SECOND <= history.until:
            counts["expired"] += 1
        else:
            writes.append(write)
    return FoldedPart(part, writes, counts, time.process_time() - began)


def folded_parts(
    model_dir: Path, history: History, parts: Sequence[Part], processes: int
) -> Iterator[FoldedPart]:
    """Fold parts in several processes, in order; a few are held at a time.

    Args:
        model_dir: Folder with ``definition.py``.
        history: To fold.
        parts: Of it.
        processes: How many; one works in this process.

    Raises:
        Misconfigured: See ``fold_part``.
    """
    if processes == 1:
        yield from (fold_part(folder_of(model_dir), history, part) for part in parts)
        return
    coming = iter(parts)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        first = islice(coming, processes + 1)
        pending = deque(pool.submit(_fold_elsewhere, model_dir, history, part) for part in first)
        while pending:
            future: Future[FoldedPart] = pending.popleft()
            folded = future.result()
            pending.extend(
                pool.submit(_fold_elsewhere, model_dir, history, part) for part in islice(coming, 1)
            )
            yield folded


@cache
def folder_of(model_dir: Path) -> Folder:
    """What folds with a project's definition; it has no model, as nothing is scored."""
    return Folder(load_without_model(model_dir, "states are seeded without scores"))


def _fold_elsewhere(model_dir: Path, history: History, part: Part) -> FoldedPart:
    return fold_part(folder_of(model_dir), history, part)


def _height(path: Path) -> int:
    return int(scan(path).select(pl.len()).collect().item())


def _read(history: History, source: Source, part: Part) -> Feed:
    """The rows of one part."""
    path = history.files[source.name]
    frame = scan(path)
    there = frame.collect_schema().names()
    wanted = {source.id, source.time, *source.entities, *source.fields, ARRIVAL_TIME, LABEL_TIME}
    column = entity_column(source, part.entity)
    if column in there and part.total > 1:
        frame = frame.filter(hash_of(column) % part.total == part.number)
    try:
        found = frame.select([name for name in there if name in wanted]).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: {error}; expected Parquet files with the same columns"
        raise Misconfigured(msg) from error
    return feed_of(found, source, path.name)


def _by_entity(feeds: Sequence[Feed], history: History, entity: str) -> pl.DataFrame:
    """As ``feed.arrivals`` orders them, but entity after entity."""
    keys = [
        feed.frame.select(
            key=pl.col(entity_column(feed.source, entity)).cast(pl.String),
            feed=pl.lit(number, pl.UInt8),
        ).with_row_index("row")
        for number, feed in enumerate(feeds)
    ]
    order = arrivals(list(feeds)).join(pl.concat(keys), on=["feed", "row"], how="left")
    return (
        order.filter(pl.col("arrival") < history.until)
        .filter(pl.col("arrival").max().over("key") >= history.active_since)
        .sort("key", "arrival", "feed", "row")
    )


def _works(
    scorer: Scorer, feeds: list[Feed], order: pl.DataFrame, entity: str, counts: Counter[str]
) -> Iterator[Work]:
    """Decoded events; what is refused is counted, once for all entities of its source."""
    told = {
        feed.source.name
        for feed in feeds
        if entity == min(each.name for each in feed.source.entities.values())
    }
    for chunk in records(feeds, order, _CHUNK):
        for record in chunk:
            try:
                work = scorer.work(record)
            except EventRejected as error:
                if msgspec.json.decode(record.data)["source"] in told:
                    counts[f"refused {error.faults[0].reason}"] += 1
                continue
            counts["events"] += 1
            yield work


def _folded(
    scorer: Scorer, key: str, works: Iterable[Work], counts: Counter[str]
) -> EntityState | None:
    """An entity's state after its events; None where they leave nothing."""
    codec, events = scorer.codec, iter(works)
    state, keeps = codec.empty(key), False
    while batch := list(islice(events, BATCH)):
        scorer.fold_entity(state, batch)
        counts["late"] += sum(work.late for work in batch)
        keeps = keeps or bool(state.changed) or state.noted
        state = codec.decode(key, 1, codec.encode(state))
    return state if keeps else None


def _written(scorer: Scorer, state: EntityState | None) -> StateWrite | None:
    if state is None:
        return None
    # Packed once more: only now is the last batch an earlier one, whose order is forgotten by age.
    data = scorer.codec.encode(state)
    return StateWrite(state.key, 0, data, scorer.codec.expires(state))
