"""What `headrace replay` tells of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from rich.table import Table

from headrace.cli.terminal import out
from headrace.events import us_to_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.offline.comparison import Quality
    from headrace.offline.feed import Feed
    from headrace.offline.replay import Replay, Window
    from headrace.watch import Finding


@dataclass(frozen=True, slots=True)
class Report:
    """A replay as it is told.

    Attributes:
        found: The replay.
        path: Where its scores are.
        used: DynamoDB units per event; empty unless they were counted.
        lost: Events that were neither scored nor quarantined.
        qualities: Run -> how well it ranks the positives; empty unless runs were compared.
        sizes: ``<entity>_state_bytes`` -> mean bytes of its items; empty unless units were counted.
    """

    found: Replay
    path: Path
    used: dict[str, float]
    lost: int
    qualities: dict[str, Quality] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything in one object."""
        compared = {name: each._asdict() for name, each in self.qualities.items()}
        return {
            "out": str(self.path),
            **self.found.counts,
            **self.used,
            **self.sizes,
            "lost": self.lost,
            "imputed_by_cause": [
                {"column": column, "cause": cause, "events": events}
                for column, cause, events in imputed_by_cause(self.found.scores)
            ],
            "findings": [_told(each) for each in self.found.findings],
            **({"compared": compared} if compared else {}),
        }

    def show(self) -> None:
        """Print tables: counts, imputations, what differs from training, how runs compare."""
        out.print(self._counts())
        if imputed := imputed_by_cause(self.found.scores):
            out.print(_imputed(imputed, len(self.found.scores)))
        if self.found.findings:
            out.print(_findings(self.found.findings))
        if self.qualities:
            out.print(_qualities(self.qualities))

    def _counts(self) -> Table:
        title = f"{len(self.found.scores):,} scores in {self.path}"
        table = Table(title=title, show_header=False)
        for name, count in self.found.counts.items():
            table.add_row(name, f"{count:,}")
        for name, per_event in self.used.items():
            table.add_row(f"{name.replace('_', ' ')} per event", f"{per_event:g}")
        for name, size in self.sizes.items():
            table.add_row(name.replace("_", " "), f"{size:,.0f} on average")
        table.add_row("lost", f"{self.lost:,}")
        return table


def lost_events(found: Replay, feed: Feed, window: Window) -> int:
    """How many events of the scored source were neither scored nor quarantined."""
    arrival, name = pl.col(feed.arrival).dt.epoch("us"), feed.source.id
    inside = feed.frame.filter((arrival >= window.start) & (arrival < window.end))
    events = inside.select(pl.col(name).cast(pl.String)).drop_nulls().unique()
    scored = found.scores.select(pl.col(name).cast(pl.String))
    refused = [_id_of(each.record.data, name) for each in found.quarantined]
    unscored = events.join(scored, on=name, how="anti").get_column(name)
    return len({*unscored} - {*refused})


def _id_of(data: bytes, name: str) -> str:
    return str(msgspec.json.decode(data).get(name))  # of a replay's own record: a JSON object


def _told(finding: Finding) -> dict[str, Any]:
    return finding._asdict() | {"since": us_to_text(finding.since)}


def _findings(findings: Sequence[Finding]) -> Table:
    table = Table(
        "since", "field", "kind", "share", "in training", "factor", title="Unlike training"
    )
    for each in findings:
        factor = f"{each.factor:g}" if each.factor else ""
        share, expected = f"{each.share:.2%} of {each.events:,}", f"{each.expected:.2%}"
        table.add_row(us_to_text(each.since), each.field, each.kind, share, expected, factor)
    return table


def _qualities(qualities: dict[str, Quality]) -> Table:
    table = Table("run", "events", "positives", "average precision", "ROC AUC")
    for name, each in qualities.items():
        measured = f"{each.average_precision:.4f}", f"{each.roc_auc:.4f}"
        table.add_row(name, f"{each.events:,}", f"{each.positives:,}", *measured)
    return table


def imputed_by_cause(scores: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Column, cause and number of events, the commonest first, of the events with scores."""
    pairs = scores.select("imputed", "causes").explode("imputed", "causes").drop_nulls()
    counts = pairs.group_by("imputed", "causes").len()
    return counts.sort("len", "imputed", "causes", descending=[True, False, False]).rows()


def _imputed(counts: Sequence[tuple[str, str, int]], scores: int) -> Table:
    table = Table("imputed", "cause", "events", "share", title="Imputed, of the events with scores")
    for column, cause, events in counts:
        table.add_row(column, cause, f"{events:,}", f"{events / scores:.2%}")
    return table
