"""Skew: features that were logged when events were scored, beside the same ones backfilled.

Every difference must have a reason; what has none is an error in the stream, in the files, or
here. May import backfill, differences and scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.errors import Misconfigured
from headrace.loading import definition_hash
from headrace.offline.backfill import Knowledge, backfill
from headrace.offline.differences import same
from headrace.offline.feed import Feed
from headrace.scores import Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.definition import Definition
    from headrace.scores import ScoreRecord
    from headrace.table_rows import TableRow

_KEY = "the event's id as text"


class Reason(StrEnum):
    """Why a logged feature is, or is not, what backfill gives: the closed list."""

    EQUAL = "equal"
    DEFINITION_CHANGED = "definition changed"  # it was scored by another definition
    LATE_DATA = "late data"  # as known then; more has happened than had arrived
    IMPUTED = "imputed"  # it, or a field in its windows, was absent when it was scored
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Skew:
    """What a comparison found.

    Attributes:
        counts: Feature -> reason -> events.
        examples: Ids of a few events with unexplained features.
        compared: Events compared.
        without_features: Logged events without features: from a lower rung of the ladder.
        not_backfilled: Logged events that the files do not have.
    """

    counts: dict[str, dict[Reason, int]]
    examples: list[str]
    compared: int
    without_features: int = 0
    not_backfilled: int = 0

    @property
    def unexplained(self) -> int:
        """How many features of all events have no explanation."""
        return sum(each[Reason.UNEXPLAINED] for each in self.counts.values())


def logged_of(records: Iterable[ScoreRecord], definition: Definition) -> pl.DataFrame:
    """Score records as a replay's file has them: one row per event.

    Columns: the source's id, ``rung``, ``definition_hash``, ``imputed`` (names), and every
    column of the definition, null where the record has none.
    """
    rows = [
        {
            definition.scored.id: record.id,
            "rung": str(record.rung),
            "definition_hash": record.definition_hash,
            "imputed": list(record.imputed),
            **{name: record.features.get(name) for name in definition.columns},
        }
        for record in records
    ]
    schema: dict[str, Any] = {
        definition.scored.id: pl.String,
        "rung": pl.String,
        "definition_hash": pl.String,
        "imputed": pl.List(pl.String),
        **dict.fromkeys(definition.columns, pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema)


def skew(
    definition: Definition,
    logged: pl.DataFrame,
    feeds: Sequence[Feed],
    progress: Callable[[int], None] = lambda _: None,
    rows: Mapping[str, Sequence[TableRow]] | None = None,
) -> Skew:
    """Explain every logged feature.

    Args:
        definition: What features there are now.
        logged: As of ``logged_of``, or a replay's file; without ``definition_hash``, by this one.
        feeds: The events with their arrival times, the scored source first, then the labels.
        progress: Called with a number of events; in all ``PASSES * backfill.steps`` times that
            of the first feed.
        rows: Entity key -> rows of tables.

    Raises:
        Misconfigured: The log has no ids, or does not say what was imputed.
    """
    log = _checked(definition, logged)
    key = definition.scored.id
    known, happened, pierced = (
        backfill(definition, each, kind, progress, rows).features
        for each, kind in (
            (feeds, Knowledge.AS_KNOWN),
            (feeds, Knowledge.AS_HAPPENED),
            (_pierced(definition, feeds, log), Knowledge.AS_KNOWN),
        )
    )
    scored = log.filter(pl.col("rung") == Rung.REAL_TIME)
    both = scored
    for prefix, frame in (("known ", known), ("happened ", happened), ("pierced ", pierced)):
        columns = [pl.col(name).alias(prefix + name) for name in definition.columns]
        found = frame.select(pl.col(key).cast(pl.String).alias(_KEY), *columns)
        both = both.join(found, on=_KEY, how="left" if prefix != "known " else "inner")
    reasons = {
        name: both.select(_reason(definition, name)).to_series() for name in definition.columns
    }
    odd = pl.any_horizontal(pl.lit(series == Reason.UNEXPLAINED) for series in reasons.values())
    return Skew(
        {name: _counted(series) for name, series in reasons.items()},
        both.filter(odd).get_column(_KEY).head(5).to_list() if len(both) else [],
        len(both),
        len(log) - len(scored),
        len(scored) - len(both),
    )


PASSES = 3
"""As known, as happened, and as known with the fields absent that were absent then."""


def _checked(definition: Definition, logged: pl.DataFrame) -> pl.DataFrame:
    """The log with all of its columns, keyed by text."""
    lacking = [name for name in (definition.scored.id, "imputed") if name not in logged.columns]
    if lacking:
        msg = f"log: columns {', '.join(lacking)} are missing; a replay's file has them"
        raise Misconfigured(msg)
    defaults = {
        "rung": pl.lit(str(Rung.REAL_TIME)),
        "definition_hash": pl.lit(definition_hash(definition)),
        **dict.fromkeys(definition.columns, pl.lit(None, pl.Float64)),
    }
    added = [value.alias(name) for name, value in defaults.items() if name not in logged.columns]
    return logged.with_columns(pl.col(definition.scored.id).cast(pl.String).alias(_KEY), *added)


def _pierced(definition: Definition, feeds: Sequence[Feed], log: pl.DataFrame) -> list[Feed]:
    """The feeds with those fields of scored events absent that were imputed when scored."""
    first, *others = feeds
    source = definition.scored
    fields = [name for name in source.fields if name in first.frame.columns]
    fields = [name for name in fields if name in definition.columns]
    frame = first.frame.with_columns(pl.col(source.id).cast(pl.String).alias(_KEY)).join(
        log.select(_KEY, "imputed").unique(_KEY, keep="first"), on=_KEY, how="left",
        maintain_order="left",
    ).with_columns(
        pl.when(pl.col("imputed").list.contains(name).fill_null(value=False))
        .then(None).otherwise(pl.col(name)).alias(name)
        for name in fields
    )  # fmt: skip
    return [Feed(source, frame.drop(_KEY, "imputed"), first.arrival), *others]


def _reason(definition: Definition, name: str) -> pl.Expr:
    """Why one feature is what it is, event by event."""
    absent = pl.col("imputed").list.contains(name)
    value = pl.when(absent).then(None).otherwise(pl.col(name).cast(pl.Float64))
    known, happened, pierced = (
        pl.col(prefix + name) for prefix in ("known ", "happened ", "pierced ")
    )
    changed = pl.col("definition_hash") != definition_hash(definition)
    return (
        pl.when(same(value, known) & same(known, happened) & ~absent).then(pl.lit(Reason.EQUAL))
        .when(same(value, known) & ~same(known, happened)).then(pl.lit(Reason.LATE_DATA))
        .when(same(value, known)).then(pl.lit(Reason.IMPUTED))
        .when(changed).then(pl.lit(Reason.DEFINITION_CHANGED))
        .when(same(value, pierced)).then(pl.lit(Reason.IMPUTED))
        .otherwise(pl.lit(Reason.UNEXPLAINED))
    )  # fmt: skip


def _counted(reasons: pl.Series) -> dict[Reason, int]:
    return {reason: int((reasons == reason).sum()) for reason in Reason}
