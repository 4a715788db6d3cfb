"""What a backfill on AWS goes by: which files of a history, and in how many partitions.

May import backfill, adapters, loading and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import msgspec
import polars as pl

from headrace.adapters.objects import Stored
from headrace.errors import Misconfigured, TooLarge
from headrace.loading import definition_hash
from headrace.offline.backfill import Knowledge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.adapters.objects import Objects
    from headrace.definition import Definition, Source

MOST_BYTES = 8 * 2**30
"""Of a history: every invocation of ``compute`` reads all of it once, within its 15 minutes.

Going through 100 MB took up to 8 CPU seconds (decision 0015): 8 GB take 11 minutes at most.
"""

MOST_FILE_BYTES = 128 * 2**20
"""Of one file, which is in memory as a whole; see MemorySize in infra/backfill.yaml."""

MOST_ITEMS = 4_000
"""Of one map: their list has to fit into the 256 KB that one state may give to the next."""

BYTES_PER_EVENT = 10
"""Of Parquet, at least: 11 to 18 in the simulated and the card data. Less makes more partitions."""

_HIDDEN = ("_", ".")  # what Spark and others write beside the data, or have not finished
_SUFFIX = ".parquet"


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be computed.

    Attributes:
        events: Address of a folder with Parquet files of the scored source, or of one file.
        labels: Likewise of the labels.
        out: Address of an empty folder for the features.
        knowledge: See ``backfill.backfill``.
        rows_at_once: Events of one source that an invocation has in memory, about.
        partitions: Of each entity's ids; 0 chooses by the size of the files.
    """

    events: str
    out: str
    labels: str | None = None
    knowledge: Knowledge = Knowledge.AS_KNOWN
    rows_at_once: int = 1_000_000
    partitions: int = 0

    @property
    def folder(self) -> str:
        """``out`` without a slash at its end."""
        return self.out.rstrip("/")


class Item(msgspec.Struct, frozen=True):
    """One of the things to compute.

    Attributes:
        partition: Which part of the ids.
        entity: Whose views; None stands for finding ids of events that come again.
    """

    partition: int
    entity: str | None = None

    @property
    def name(self) -> str:
        """As objects are called after it."""
        return f"{self.entity or '-'}/{self.partition:05}"


class Planned(msgspec.Struct, frozen=True):
    """What the state machine goes by: ``work`` is where all steps of a run meet."""

    work: str
    items: list[Item]
    files: list[int]


class Plan(msgspec.Struct, frozen=True):
    """What all steps of a run go by: the same files, cut alike, under the same definition.

    Attributes:
        order: What is to be computed.
        definition: Hash of the definition.
        partitions: Of each entity's ids.
        files: Source -> its files; the scored source comes first.
    """

    order: Order
    definition: str
    partitions: int
    files: dict[str, list[Stored]]

    def planned(self, work: str, entities: Sequence[str]) -> Planned:
        """What there is to do.

        Raises:
            TooLarge: It is more than the state machine can list.
        """
        files = list(range(len(next(iter(self.files.values())))))
        parts = range(self.partitions)
        items = [Item(number, entity) for entity in (*entities, None) for number in parts]
        for what, listed in (("partitions of entities", items), ("files", files)):
            if len(listed) > MOST_ITEMS:
                raise TooLarge(what, len(listed), MOST_ITEMS)
        return Planned(work, items, files)


def plan_of(definition: Definition, objects: Objects, order: Order) -> Plan:
    """List a history and cut it; see ``backfill_cloud.CloudBackfill.plan``."""
    if definition.tables:
        names = ", ".join(table.name for table in definition.tables)
        msg = f"the definition has tables ({names}); on AWS there is no history of their rows"
        raise Misconfigured(msg)
    for each in objects.find(f"{order.folder}/"):
        if not each.uri.startswith(f"{order.folder}/_work/"):
            msg = f"{each.uri} is there already; expected a new or empty folder to write to"
            raise Misconfigured(msg)
    given = [(definition.scored, order.events), (definition.label.source, order.labels)]
    files = {source.name: _files(objects, source, at) for source, at in given if at is not None}
    sizes = [sum(each.size for each in found) for found in files.values()]
    if sum(sizes) > MOST_BYTES:
        what = "bytes of the history"
        raise TooLarge(what, sum(sizes), MOST_BYTES)
    wanted = 1 + max(sizes) // (BYTES_PER_EVENT * order.rows_at_once)
    return Plan(order, definition_hash(definition), order.partitions or wanted, files)


def _files(objects: Objects, source: Source, folder: str) -> list[Stored]:
    """The files of a folder in the order in which paths are sorted on one machine."""
    if folder.endswith(_SUFFIX):
        found = [each for each in objects.find(folder) if each.uri == folder]
    else:
        place = f"{folder.rstrip('/')}/"
        found = [each for each in objects.find(place) if _is_history(each.uri.removeprefix(place))]
    if not found:
        msg = f"{folder}: no {_SUFFIX} file in it; expected those of {source.name!r}"
        raise Misconfigured(msg)
    for each in found:
        if each.size > MOST_FILE_BYTES:
            what = f"{each.uri}: bytes"
            raise TooLarge(what, each.size, MOST_FILE_BYTES)
    return sorted(found, key=lambda each: each.uri.split("/"))


def _is_history(name: str) -> bool:
    parts = name.split("/")
    return name.endswith(_SUFFIX) and not any(part.startswith(_HIDDEN) for part in parts)


def partitions_of(ids: pl.Series, partitions: int) -> pl.Series:
    """The partition of each id, alike on every machine and in every release of Polars."""
    texts = ids.cast(pl.String).fill_null("")  # an event without one is refused later on
    every = texts.unique()
    numbers = [crc32(each.encode()) % partitions for each in every.to_list()]
    return texts.replace_strict(every, pl.Series(numbers, dtype=pl.Int64))
