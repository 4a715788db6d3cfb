"""Backfill of files larger than memory: entity by entity, in parts, then joined by row.

The steps are those of ``backfill_steps``; between them everything lies in temporary Parquet files.
May import backfill_steps, backfill and feed.
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
from headrace.offline.backfill import Knowledge, sources_of
from headrace.offline.backfill_steps import (
    PLACE,
    Joiner,
    entity_features,
    entity_field,
    placed,
    repeated,
    stacked,
)
from headrace.offline.feed import Feed, feed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.definition import Definition, Source
    from headrace.table_rows import TableRow

ROWS = 1_000_000
"""Events of one source that are in memory at once, about."""


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
            found = entity_features(self.definition, feeds, entity, self.how.knowledge, progress)
            self.done.folded.update(found.folded)
            self.done.reasons.update(found.reasons)
            self._keep(found.features, f"{entity}-{part}")

    def _cut(self, folder: Folder, entity: str, parts: int) -> None:
        """Write each event to the part of its entity, in the order of the files."""
        name = entity_field(folder.source, entity)
        for place, feed in folder.feeds(self.how.size):
            frame = placed(feed, place).frame
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
        feed = stacked([pl.read_parquet(file) for file in files], folder.source)
        for file in files:
            file.unlink()
        return feed

    def _keep(self, features: pl.DataFrame, name: str) -> None:
        """Cut features by place."""
        bucket = features.get_column(PLACE) // self.how.size
        for number in bucket.unique().to_list():
            path = self.temporary / "features" / str(number)
            path.mkdir(parents=True, exist_ok=True)
            features.filter(bucket == number).write_parquet(path / f"{name}.parquet")

    def join(self, out: Path, progress: Callable[[int], None]) -> None:
        """Put the features of all entities together, in the order of the files."""
        again = self._again()
        joiner = Joiner(self.definition, self.how.knowledge, self.how.rows)
        for number, (place, feed) in enumerate(self.folders[0].feeds(self.how.size)):
            given = self._given(place, len(feed.frame))
            found = joiner.join(placed(feed, place), given, again, progress)
            self.done.refused += found.refused
            self.done.events += len(found.features)
            self.done.late += int(found.features.get_column("late").sum())
            found.features.write_parquet(out / f"part-{number:05}.parquet")

    def _given(self, first: int, height: int) -> Iterator[pl.DataFrame]:
        """For each entity, what its parts left of some events and of others near them."""
        buckets = range(first // self.how.size, (first + height - 1) // self.how.size + 1)
        folders = [self.temporary / "features" / str(bucket) for bucket in buckets]
        for entity in dict.fromkeys(view.entity.name for view in self.definition.scored_views):
            files = [f for folder in folders for f in sorted(folder.glob(f"{entity}-*.parquet"))]
            if files:
                yield pl.concat([pl.read_parquet(file) for file in files])

    def _again(self) -> pl.Series:
        """Places of events whose id was scored before: their features are not wanted."""
        source = self.folders[0].source
        seen: list[pl.DataFrame] = []
        for place, feed in self.folders[0].feeds(self.how.size):
            ids = feed.frame.get_column(source.id).cast(pl.String).hash(seed=0)
            seen.append(pl.DataFrame({"id": ids, PLACE: np.arange(place, place + len(ids))}))
        every = pl.concat(seen)
        twice = every.filter(pl.col("id").is_duplicated()).get_column(PLACE)
        return self._later(twice) if len(twice) else twice

    def _later(self, twice: pl.Series) -> pl.Series:
        """Of these places, all but the accepted one of each id that arrived first."""
        parts = []
        for place, feed in self.folders[0].feeds(self.how.size):
            mine = placed(feed, place).frame.filter(pl.col(PLACE).is_in(twice.implode()))
            if len(mine):
                parts.append(mine)
        return repeated(self.definition, stacked(parts, self.folders[0].source), self.how.knowledge)
