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
            "findings": [_told(each) for each in self.found.findings],
            **({"compared": compared} if compared else {}),
        }

    def show(self) -> None:
        """Print tables: counts, what differs from training, and how runs compare."""
        out.print(self._counts())
        if self.found.findings:
            out.print(_findings(self.found.findings))
        if self.qualities:
            out.print(_qualities(self.qualities))

    def _counts(self) -> Table:
        scores = self.found.scores
        table = Table(title=f"{len(scores):,} scores in {self.path}", show_header=False)
        for name, count in self.found.counts.items():
            table.add_row(name, f"{count:,}")
        for name, per_event in self.used.items():
            table.add_row(f"{name.replace('_', ' ')} per event", f"{per_event:g}")
        for name, size in self.sizes.items():
            table.add_row(name.replace("_", " "), f"{size:,.0f} on average")
        for name, share in _top_imputed(scores) if len(scores) else ():
            table.add_row(f"imputed {name}", f"{share:.2%} of events")
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


def _top_imputed(scores: pl.DataFrame) -> list[tuple[str, float]]:
    counts = scores.get_column("imputed").explode().drop_nulls().value_counts(sort=True)
    return [(name, count / len(scores)) for name, count in counts.head(5).iter_rows()]
