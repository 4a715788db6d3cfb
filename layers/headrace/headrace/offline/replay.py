"""Replay history through the stream scorer: the same code that scores live, at volume.

Nothing here computes a feature. May import scoring and adapters in memory.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.errors import HeadraceError
from headrace.events import microseconds
from headrace.offline.feed import arrivals, records
from headrace.outcome import Outcome
from headrace.scoring import Scorer, StreamScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.definition import Definition
    from headrace.offline.feed import Feed
    from headrace.ports import Quarantined
    from headrace.scores import ScoreRecord

CHUNK = 10_000
"""Records in one call of the stream scorer: what Lambda takes at most."""


class ScoreColumns(MemoryScores):
    """Scores as columns instead of records: a tenth of the memory.

    Only scores asked for are kept: ``from_time`` leaves out what is replayed as history.
    """

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        self.keeping = True
        self._ids: dict[str, None] = {}
        self._names = definition.columns
        self._features = {name: array("d") for name in self._names}
        self._scores, self._late = array("d"), array("B")
        self._texts: dict[str, list[str]] = {"rung": [], "model_version": []}
        self._imputed: list[tuple[str, ...]] = []
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}

    def put_new(self, records: Sequence[ScoreRecord]) -> None:
        """See the port."""
        self.put_first(records)

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
        self._late.append(record.late)
        self._texts["rung"].append(record.rung)
        self._texts["model_version"].append(record.model_version)
        names = tuple(record.imputed)
        self._imputed.append(self._interned.setdefault(names, names))
        for name in self._names:
            self._features[name].append(record.features[name])

    def frame(self, feed: Feed) -> pl.DataFrame:
        """One row per kept score, in the order of the feed.

        Columns: the source's id, ``event_time``, ``score``, ``rung``, ``model_version``,
        ``late``, ``imputed`` (names), and every feature and input after imputation.
        """
        source = feed.source
        found = pl.DataFrame(
            {
                "id": list(self._ids),
                "score": pl.Series(self._scores, dtype=pl.Float64),
                **{name: pl.Series(texts, dtype=pl.String) for name, texts in self._texts.items()},
                "late": pl.Series(self._late, dtype=pl.UInt8).cast(pl.Boolean),
                "imputed": pl.Series(self._imputed, dtype=pl.List(pl.String)),
                **{name: pl.Series(v, dtype=pl.Float64) for name, v in self._features.items()},
            }
        )
        events = feed.frame.select(
            pl.col(source.id), event_time=pl.col(source.time), id=pl.col(source.id).cast(pl.String)
        ).unique("id", keep="first", maintain_order=True)
        return events.join(found, on="id", how="inner", maintain_order="left").drop("id")


@dataclass(slots=True)
class Replay:
    """What a replay found.

    Attributes:
        scores: See ``ScoreColumns.frame``.
        counts: Counts over all batches: records, scored, late, repeated, quarantined ...
        states: The entity states at the end.
        quarantined: The records that were refused.
        newest: Newest event time met, microseconds UTC.
    """

    scores: pl.DataFrame
    states: MemoryStates
    quarantined: list[Quarantined]
    newest: int
    counts: Counter[str] = field(default_factory=Counter)


def replay(
    scorer: Scorer,
    feeds: list[Feed],
    *,
    scores_from: int = 0,
    until: int = 2**62,
    progress: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Replay feeds in order of arrival through the stream scorer, with stores in memory.

    Args:
        scorer: With definition, model and imputation.
        feeds: One per source; that of the scored source first.
        scores_from: Arrival, microseconds UTC, from which on scores are kept.
        until: Arrival before which the replay ends.
        progress: Called with the number of records done.

    Raises:
        HeadraceError: A batch could not be stored (stores in memory always can).
    """
    states, quarantine = MemoryStates(), MemoryQuarantine()
    columns, clock = ScoreColumns(scorer.definition), FixedClock()
    stream = StreamScorer(scorer, states, columns, quarantine, clock)
    order = arrivals(feeds).filter(pl.col("arrival") < until)
    counts: Counter[str] = Counter()
    for part, keep in _history_and_rest(order, scores_from):
        columns.keeping = keep
        for chunk in records(feeds, part, CHUNK):
            clock.set(chunk[-1].arrival)
            add_counts(counts, checked(stream.score(chunk)))
            progress(len(chunk))
    newest = order.select(time=pl.col("arrival").max()).item() or 0
    return Replay(
        columns.frame(feeds[0]),
        states,
        list(quarantine.refused.values()),
        newest,
        counts,
    )


def _history_and_rest(order: pl.DataFrame, start: int) -> Iterable[tuple[pl.DataFrame, bool]]:
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
    for name in ("quarantined", "imputed", "degraded", "unknown_fields"):
        counts[name] += sum(getattr(outcome, name).values())
    for reason, count in outcome.quarantined.items():
        counts[f"quarantined {reason}"] += count


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
            values = fold.features_as_of(view, as_of)
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


def warm_up(definition: Definition) -> int:
    """Microseconds of history that the longest window needs before its features are whole."""
    finite = [microseconds(v.retention - v.source.lateness) for v in definition.views]
    return max(finite, default=0)
