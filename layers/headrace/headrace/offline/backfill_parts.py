"""Backfill of files larger than memory: entity by entity, in parts, then joined by row.

An event touches several entities, so there is no one way to cut a file. Each entity's views get
cuts of their own, by a hash of its id; what they give is cut again, by place in the files, and
joined there. Between the steps everything lies in temporary Parquet files. May import backfill,
history and feed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.errors import Misconfigured
from headrace.events import EventDecoder
from headrace.offline.backfill import (
    Knowledge,
    finished,
    on_time,
    sources_of,
    windowed_of,
)
from headrace.offline.feed import Feed, feed_of
from headrace.offline.history import histories
from headrace.offline.timeline import grid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.definition import Definition, Source
    from headrace.offline.history import Floats, History
    from headrace.table_rows import TableRow

ROWS = 1_000_000
"""Events of one source that are in memory at once, about."""

_ROW = "place in the files"


@dataclass(frozen=True, slots=True)
class Folder:
    """Parquet files of one source, read a part at a time; in order of their names, one history.

    Attributes:
        source: Whose events they are.
        files: In order.
    """

    source: Source
    files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path, source: Source) -> Folder:
        """A file, or all Parquet files in a folder and below.

        Raises:
            Misconfigured: There are none.
        """
        files = tuple(sorted(path.rglob("*.parquet"))) if path.is_dir() else (path,)
        if not files:
            msg = f"{path.name}: no .parquet file in it; expected those of {source.name!r}"
            raise Misconfigured(msg)
        return cls(source, files)

    def __len__(self) -> int:
        """Number of events."""
        return sum(int(pl.scan_parquet(f).select(pl.len()).collect().item()) for f in self.files)

    def feeds(self, size: int) -> Iterator[tuple[int, Feed]]:
        """The events, ``size`` at a time at most, each part with the place of its first."""
        place = 0
        for file in self.files:
            try:
                height = int(pl.scan_parquet(file).select(pl.len()).collect().item())
                for start in range(0, height, size):
                    frame = pl.scan_parquet(file).slice(start, size).collect()
                    yield place, feed_of(frame, self.source, file.name)
                    place += len(frame)
            except (OSError, pl.exceptions.PolarsError) as error:
                msg = f"{file.name}: {error}; expected a Parquet file of {self.source.name!r}"
                raise Misconfigured(msg) from error


@dataclass(slots=True)
class Parts:
    """What a backfill in parts did.

    Attributes:
        events: Rows written.
        late: Of these, the late ones.
        refused: Rows of the files that the stream would have refused.
        folded: View -> events that were folded one by one.
        reasons: Why, with the number of entities.
    """

    events: int = 0
    late: int = 0
    refused: int = 0
    folded: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


def backfill_parts(
    definition: Definition,
    folders: Sequence[Folder],
    out: Path,
    how: How,
    progress: Callable[[int], None] = lambda _: None,
) -> Parts:
    """Backfill files of any size into a folder of Parquet files, in the order of the events.

    Args:
        definition: What features there are.
        folders: One per source; that of the scored source first.
        out: Folder; ``part-00000.parquet`` and so on are written there.
        how: What is known, and how much is in memory at once.
        progress: See ``backfill.backfill``.
    """
    done = Parts()
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="headrace-backfill-") as name:
        work = _Work(definition, folders, how, Path(name), done)
        for entity in dict.fromkeys(view.entity.name for view in definition.scored_views):
            work.compute(entity, progress)
        work.join(out, progress)
    return done


@dataclass(frozen=True, slots=True)
class How:
    """How a backfill in parts is done.

    Attributes:
        knowledge: See ``backfill.backfill``.
        size: Events of one source that are in memory at once, about: of one entity all are.
        rows: Entity key -> rows of tables.
    """

    knowledge: Knowledge = Knowledge.AS_KNOWN
    size: int = ROWS
    rows: Mapping[str, Sequence[TableRow]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Work:
    """The steps, with the folder where they leave what they made."""

    definition: Definition
    folders: Sequence[Folder]
    how: How
    temporary: Path
    done: Parts

    def compute(self, entity: str, progress: Callable[[int], None]) -> None:
        """The features of one entity's views, cut by place in the files."""
        used = sources_of(self.definition, entity)
        folders = [each for each in self.folders if each.source.name in used]
        parts = 1 + max(len(each) for each in folders) // self.how.size
        for folder in folders:
            self._cut(folder, entity, parts)
        for part in range(parts):
            feeds = [self._part(folder, entity, part) for folder in folders]
            if not len(feeds[0].frame):
                continue
            found = self._histories(feeds)
            columns: dict[str, Floats] = {}
            for view in windowed_of(
                self.definition, found, entity, grid_of(found), self.definition.scored.name
            ):
                columns.update(zip(view.fold.features, view.features(), strict=True))
                self.done.folded[view.fold.view.name] += view.folded
                self.done.reasons.update(view.reasons)
                progress(len(found[0]))
            place = found[0].column(_ROW)
            self._keep(pl.DataFrame({_ROW: place, **columns}), f"{entity}-{part}")

    def _histories(self, feeds: list[Feed]) -> list[History]:
        chosen = on_time(feeds) if self.how.knowledge is Knowledge.AS_HAPPENED else feeds
        return histories(chosen, EventDecoder(self.definition))

    def _cut(self, folder: Folder, entity: str, parts: int) -> None:
        """Write each event to the part of its entity, in the order of the files."""
        name = next(n for n, each in folder.source.entities.items() if each.name == entity)
        for place, feed in folder.feeds(self.how.size):
            frame = feed.frame.with_row_index(_ROW, offset=place).with_columns(
                pl.col(_ROW).cast(pl.Int64)
            )
            part = frame.get_column(name).cast(pl.String).hash(seed=0) % parts
            for number in range(parts):
                path = self._folder(folder, entity, number)
                frame.filter(part == number).write_parquet(path / f"{place:015}.parquet")

    def _folder(self, folder: Folder, entity: str, part: int) -> Path:
        path = self.temporary / "events" / entity / folder.source.name / str(part)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _part(self, folder: Folder, entity: str, part: int) -> Feed:
        files = sorted(self._folder(folder, entity, part).iterdir())
        frame = pl.concat([pl.read_parquet(file) for file in files], how="vertical_relaxed")
        for file in files:
            file.unlink()
        feed = feed_of(frame, folder.source)
        return Feed(feed.source, feed.frame.with_columns(frame.get_column(_ROW)), feed.arrival)

    def _keep(self, features: pl.DataFrame, name: str) -> None:
        """Cut features by place."""
        bucket = features.get_column(_ROW) // self.how.size
        for number in bucket.unique().to_list():
            path = self.temporary / "features" / str(number)
            path.mkdir(parents=True, exist_ok=True)
            features.filter(bucket == number).write_parquet(path / f"{name}.parquet")

    def join(self, out: Path, progress: Callable[[int], None]) -> None:
        """Put the features of all entities together, in the order of the files."""
        again = self._again()
        for number, (place, feed) in enumerate(self.folders[0].feeds(self.how.size)):
            placed = feed.frame.with_row_index(_ROW, offset=place)
            found = self._histories(
                [Feed(feed.source, placed.with_columns(pl.col(_ROW).cast(pl.Int64)), feed.arrival)]
            )[0]
            columns = self._columns(found)
            frame = finished(self.definition, found, columns, self.how.rows, progress)
            if again:
                frame = frame.filter(~found.column(_ROW).is_in(sorted(again)))
            self.done.refused += found.refused
            self.done.events += len(frame)
            self.done.late += int(frame.get_column("late").sum())
            frame.write_parquet(out / f"part-{number:05}.parquet")

    def _columns(self, found: History) -> dict[str, Floats]:
        """The windowed features of some events, from what each entity's parts left."""
        place = found.column(_ROW)
        buckets = (place // self.how.size).unique().sort().to_list()
        folders = [self.temporary / "features" / str(bucket) for bucket in buckets]
        columns: dict[str, Floats] = {}
        for entity in dict.fromkeys(view.entity.name for view in self.definition.scored_views):
            files = [f for folder in folders for f in sorted(folder.glob(f"{entity}-*.parquet"))]
            features = pl.concat([pl.read_parquet(file) for file in files])
            met = pl.DataFrame({_ROW: place}).join(
                features, on=_ROW, how="left", maintain_order="left"
            )
            columns.update({name: met[name].to_numpy() for name in met.columns if name != _ROW})
        return columns

    def _again(self) -> set[int]:
        """Places of events whose id was scored before: their features are not wanted."""
        source = self.folders[0].source
        seen: list[pl.DataFrame] = []
        for place, feed in self.folders[0].feeds(self.how.size):
            ids = feed.frame.get_column(source.id).cast(pl.String).hash(seed=0)
            seen.append(pl.DataFrame({"id": ids, _ROW: np.arange(place, place + len(ids))}))
        every = pl.concat(seen)
        twice = set(every.filter(pl.col("id").is_duplicated()).get_column(_ROW).to_list())
        if not twice:
            return set()
        return self._later(twice)

    def _later(self, twice: set[int]) -> set[int]:
        """Of these places, all but the accepted one of each id that arrived first."""
        parts = []
        for place, feed in self.folders[0].feeds(self.how.size):
            rows = feed.frame.with_row_index(_ROW, offset=place)
            mine = rows.filter(pl.col(_ROW).is_in(sorted(twice)))
            if len(mine):
                parts.append(mine.with_columns(pl.col(_ROW).cast(pl.Int64)))
        feed = feed_of(pl.concat(parts), self.folders[0].source)
        placed = pl.concat(parts).get_column(_ROW)
        feed = Feed(feed.source, feed.frame.with_columns(placed), feed.arrival)
        found = self._histories([feed])[0]
        ids = found.column(feed.source.id).cast(pl.String)
        order = pl.DataFrame({"id": ids, "rank": found.rank, _ROW: found.column(_ROW)})
        later = order.filter(pl.col("rank") != pl.col("rank").min().over("id"))
        return set(later.get_column(_ROW).to_list())
