"""Replay history through the stream scorer: the same code that scores live, at volume.

Nothing here computes a feature. May import scoring and adapters in memory.
"""

from __future__ import annotations

import gc
from array import array
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from headrace.adapters.capacity import Capacity, MeteredScores, MeteredStates
from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.errors import HeadraceError
from headrace.offline.disorder import Disorder, disordered
from headrace.offline.feed import arrivals, records
from headrace.offline.holes import HoleMaker, Holes
from headrace.outcome import Outcome
from headrace.scoring import Scorer, StreamScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from headrace.definition import Definition
    from headrace.offline.feed import Feed
    from headrace.ports import Quarantined
    from headrace.scores import LastScore, ScoreRecord
    from headrace.table_rows import TableRow
    from headrace.watch import Finding

CHUNK = 20_000
"""Records in one call of the stream scorer; scores do not depend on it."""


class Window(NamedTuple):
    """Arrival times, microseconds UTC: before ``start`` events only fill the state; ``end`` ends.

    ``end`` itself is not replayed.
    """

    start: int = 0
    end: int = 2**62


class ScoreColumns(MemoryScores):
    """Scores as columns instead of records: a tenth of the memory.

    While ``keeping`` is False, scores are passed over: history only fills the state.
    """

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        self.keeping = True
        self._ids: dict[str, None] = {}
        self._names: tuple[str, ...] = ()
        self._columns = (*definition.columns, *definition.indicators)
        self._scores, self._late = array("d"), array("B")
        self._features = array("d")  # row after row; a record's features are always in one order
        self._texts: dict[str, _Interned] = {
            name: _Interned()
            for name in ("rung", "model_version", "definition_hash", "imputed", "causes")
        }

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port."""
        self.put_first(records)
        super().put_new((), last)

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port."""
        there = 0
        for record in records:
            if record.id in self._ids:
                there += 1
            elif self.keeping:
                self._ids[record.id] = None
                self._append(record)
        return there

    def _append(self, record: ScoreRecord) -> None:
        self._scores.append(record.score)
        self._names = self._names or tuple(record.features)
        self._features.extend(nan if value is None else value for value in record.features.values())
        self._late.append(record.late)
        self._texts["rung"].append(str(record.rung))
        self._texts["model_version"].append(record.model_version)
        self._texts["definition_hash"].append(record.definition_hash)
        self._texts["imputed"].append(" ".join(record.imputed))
        self._texts["causes"].append(" ".join([each.cause for each in record.imputed.values()]))

    def frame(self, feed: Feed) -> pl.DataFrame:
        """One row per kept score, in the order of the feed.

        Columns: the source's id, ``event_time``, ``score``, ``rung``, ``model_version``,
        ``definition_hash``, ``late``, ``imputed`` (names), ``causes`` (of these), and every
        feature and input after
        imputation.
        """
        source = feed.source
        values = np.frombuffer(self._features).reshape(len(self._ids), len(self._names)).T
        features = dict(zip(self._names, values, strict=True))
        found = pl.DataFrame(
            {
                "id": pl.Series(list(self._ids), dtype=pl.String),
                "score": np.frombuffer(self._scores),
                **{name: texts.series() for name, texts in self._texts.items()},
                "late": np.frombuffer(self._late, dtype=np.bool_),
                **{name: features.get(name, np.empty(0)) for name in self._columns},
            }
        ).with_columns(
            pl.col("score", *self._columns).fill_nan(None),
            *(
                pl.when(pl.col(name) != "")
                .then(pl.col(name).str.split(" "))
                .otherwise(pl.lit([], dtype=pl.List(pl.String)))
                .alias(name)
                for name in ("imputed", "causes")
            ),
        )
        events = feed.frame.select(
            pl.col(source.id), event_time=pl.col(source.time), id=pl.col(source.id).cast(pl.String)
        ).unique("id", keep="first", maintain_order=True)
        return events.join(found, on="id", how="inner", maintain_order="left").drop("id")


class _Interned:
    """Texts of which few differ, as codes."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._data = array("I")

    def append(self, text: str) -> None:
        self._data.append(self._codes.setdefault(text, len(self._codes)))

    def series(self) -> pl.Series:
        codes = pl.Series(np.frombuffer(self._data, dtype=np.uint32))
        return pl.Series(list(self._codes), dtype=pl.String).gather(codes)


@dataclass(slots=True)
class Replay:
    """What a replay found.

    Attributes:
        scores: See ``ScoreColumns.frame``.
        counts: Counts over all batches: records, scored, late, repeated, quarantined ...
        states: The entity states at the end.
        quarantined: The records that were refused.
        newest: Newest event time met, microseconds UTC.
        findings: What began to differ from training in the part with scores, in order.
    """

    scores: pl.DataFrame
    states: MemoryStates
    quarantined: list[Quarantined]
    newest: int
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the part of a replay with scores goes through.

    Attributes:
        disorder: How untidy it is.
        batch_size: Records in a call of the stream scorer.
        holes: What is missing or wrong in the events.
        rows: Entity key -> rows of tables, each seen from when it was loaded.
        metered: Whether ``capacity`` counts what it would cost on DynamoDB.
        capacity: The count.
    """

    disorder: Disorder = field(default_factory=Disorder)
    batch_size: int = CHUNK
    holes: Holes = field(default_factory=Holes)
    rows: Mapping[str, list[TableRow]] = field(default_factory=dict)
    metered: bool = False
    capacity: Capacity = field(default_factory=Capacity)


def replay(
    scorer: Scorer,
    feeds: list[Feed],
    window: Window = Window(),  # noqa: B008 - immutable
    progress: Callable[[int], None] = lambda _: None,
    conditions: Conditions | None = None,
) -> Replay:
    """Replay feeds in order of arrival through the stream scorer, with stores in memory.

    Args:
        scorer: With definition, model and imputation.
        feeds: One per source; that of the scored source first.
        window: Which part is replayed, and of which part scores are kept.
        progress: Called with the number of records done.
        conditions: What the part with scores goes through.

    Raises:
        HeadraceError: A batch could not be stored (stores in memory always can).
    """
    how = conditions or Conditions()
    states, quarantine = MemoryStates(), MemoryQuarantine()
    states.rows.update(how.rows)
    columns, clock = ScoreColumns(scorer.definition), FixedClock()
    stores = MeteredStates(states, how.capacity), MeteredScores(columns, how.capacity)
    plain = StreamScorer(scorer, states, columns, quarantine, clock)
    stream = StreamScorer(scorer, *stores, quarantine, clock) if how.metered else plain
    tidy = arrivals(feeds).filter(pl.col("arrival") < window.end)
    order = disordered(feeds, tidy, how.disorder, window.start)
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    maker = HoleMaker(scorer.definition, how.holes)
    with _without_garbage_collection():
        for part, keep in split_at(order, window.start):
            columns.keeping = keep
            for chunk in records(feeds, part, how.batch_size if keep else CHUNK):
                clock.set(chunk[-1].arrival)
                batch = maker.pierced(chunk) if keep else chunk
                outcome = checked((stream if keep else plain).score(batch))
                add_counts(counts, outcome)
                findings += outcome.findings if keep else []
                progress(len(chunk))
    return Replay(
        columns.frame(feeds[0]),
        states,
        list(quarantine.refused.values()),
        _newest(feeds, window.end),
        counts + Counter({f"holes {kind}": made for kind, made in maker.made.items()}),
        findings,
    )


def _newest(feeds: list[Feed], end: int) -> int:
    """Newest event time among what arrived before ``end``, microseconds UTC; 0 without any."""
    arrived = pl.col("arrival") < end
    times = [
        feed.frame.select(
            arrival=pl.col(feed.arrival).dt.epoch("us"),
            time=pl.col(feed.source.time).dt.epoch("us"),
        ).filter(arrived)
        for feed in feeds
    ]
    newest: int | None = pl.concat(times).get_column("time").max()  # type: ignore[assignment]
    return newest or 0


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Scoring makes no reference cycles, and looking for them takes a third of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def split_at(order: pl.DataFrame, start: int) -> Iterable[tuple[pl.DataFrame, bool]]:
    """What arrived before ``start``, which is not kept, and the rest, which is."""
    yield order.filter(pl.col("arrival") < start), False
    yield order.filter(pl.col("arrival") >= start), True


def checked(outcome: Outcome) -> Outcome:
    """The outcome of a batch that must not fail.

    Raises:
        HeadraceError: It did.
    """
    if outcome.failed is not None:
        msg = f"record {outcome.failed}: {outcome.error}"
        raise HeadraceError(msg)
    return outcome


def add_counts(counts: Counter[str], outcome: Outcome) -> None:
    """Add a batch to the counts of a replay."""
    for name in ("records", "scored", "folded", "repeated", "late", "conflicts"):
        counts[name] += getattr(outcome, name)
    for name in ("quarantined", "imputed", "invalid", "accepted", "degraded", "unknown_fields"):
        counts[name] += sum(getattr(outcome, name).values())
    for reason, count in outcome.quarantined.items():
        counts[f"quarantined {reason}"] += count
    for cause, count in outcome.imputed.items():
        counts[f"imputed {cause}"] += count


def state_rows(scorer: Scorer, states: MemoryStates, as_of: int) -> pl.DataFrame:
    """One row per entity and view: its features as of an instant.

    Returns:
        Columns ``entity``, ``entity_id``, ``view``, ``as_of`` and one per feature, null in the
        rows of other views; sorted by entity, id and view.
    """
    rows: list[dict[str, object]] = []
    for key, stored in states.items.items():
        state = scorer.codec.decode(key, *stored)
        for fold in scorer.codec.folds[state.entity]:
            view = scorer.codec.view(state, fold)
            values = fold.reader.features_as_of(view, as_of)
            rows.append(
                {
                    "entity": state.entity,
                    "entity_id": key.partition("#")[2],
                    "view": fold.view.name,
                    "as_of": as_of,
                    **dict(zip(fold.features, values, strict=True)),
                }
            )
    columns = [name for view in scorer.definition.views for name in view.features]
    schema = {
        **dict.fromkeys(("entity", "entity_id", "view"), pl.String),
        "as_of": pl.Int64,
        **dict.fromkeys(columns, pl.Float64),
    }
    frame = pl.DataFrame(rows, schema=schema)
    as_time = pl.from_epoch("as_of", time_unit="us").dt.replace_time_zone("UTC")
    return frame.with_columns(as_time).sort("entity", "entity_id", "view")
