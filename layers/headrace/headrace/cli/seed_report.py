"""What a seeding did, or would do, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table

from headrace.cli.terminal import err, out
from headrace.events import us_to_text
from headrace.recent import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from headrace.adapters.capacity import Capacity
    from headrace.offline.seed_plan import SeedPlan
    from headrace.seeding import Progress

_SHOWN = 10
_US_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What became of a seeding.

    Attributes:
        until: The hand-over, microseconds UTC.
        progress: Of this run and those before it.
        capacity: Units that this run used.
        seconds: That this run took.
        parts: Of the history.
        parts_before: That earlier runs had done.
        stopped: Why it ended early; "" where it did not.
    """

    APART: ClassVar[str] = (
        "a stream has put events of theirs into tiles or a lifetime already, which history may "
        "hold too. Way out: stop the stream, delete these items, seed again, and start the stream "
        "at the time that is given here"
    )

    until: int
    progress: Progress
    capacity: Capacity
    seconds: float
    parts: int
    parts_before: int
    stopped: str = ""

    @property
    def apart(self) -> int:
        """States that were left as they were."""
        return self.progress.counts.get("apart", 0)

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        counts = self.progress.counts
        names = ("written", "merged", "there", "apart", "expired", "events", "late")
        return {
            **{name: counts.get(name, 0) for name in names},
            "refused": _refused(counts),
            "left_apart": self.progress.apart,
            "write_units": self.capacity.state_writes,
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.progress.cpu_seconds, 1),
            "parts": self.parts,
            "parts_before": self.parts_before,
            "hand_over": us_to_text(self.until),
            "start_stream_from": us_to_text(self.until - SECONDS * _US_PER_SECOND),
            "stopped": self.stopped,
        }

    def show(self) -> None:
        """Print it."""
        for line in self._lines():
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        for key in self.progress.apart[:_SHOWN]:
            err.print(f"Left as it was: {key}", highlight=False, markup=False)

    def _lines(self) -> Iterator[str]:
        counts = self.progress.counts
        if self.parts_before:
            yield f"{self.parts_before} of {self.parts} parts were done before"
        yield (
            f"states written {counts.get('written', 0):,}, merged with what a stream had stored "
            f"{counts.get('merged', 0):,}, there already {counts.get('there', 0):,}"
        )
        if counts.get("expired"):
            yield f"too old to matter {counts['expired']:,}"
        yield f"write units {self.capacity.state_writes:,} in {self.seconds:.0f} s"
        for reason, count in _refused(counts).items():
            yield f"events refused ({reason}) {count:,}"
        if not self.stopped:
            yield (
                f"History is in the states up to {us_to_text(self.until)}. Let the stream start "
                f"between {us_to_text(self.until - SECONDS * _US_PER_SECOND)} and that time"
            )


def plan_shown(plan: SeedPlan, processes: int) -> Iterator[RenderableType]:
    """A plan as a table and a few lines."""
    table = Table(title="What would be seeded")
    table.add_column("entity")
    for name in ("entities", "sampled", "states", "mean bytes", "largest", "write units"):
        table.add_column(name, justify="right")
    for each in plan.entities:
        counts = (
            each.entities,
            each.sampled,
            each.states,
            each.item_bytes,
            each.largest_item_bytes,
        )
        units = f"{each.write_units.total:,.0f} ± {each.write_units.within:,.0f}"
        table.add_row(each.entity, *(f"{count:,.0f}" for count in counts), units)
    yield table
    yield f"write units {plan.write_units:,.0f}, storage {plan.storage_bytes / 1e9:,.3f} GB"
    yield f"folding {_duration(plan.cpu_seconds)} with {processes} processes"
    if plan.write_seconds is not None:
        yield f"writing {_duration(plan.write_seconds)} within the budget"
    else:
        yield "give --write-units-per-second to bound the writing, and to plan its duration"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _refused(counts: dict[str, int]) -> dict[str, int]:
    return {
        name.removeprefix("refused "): count
        for name, count in counts.items()
        if name.startswith("refused ")
    }
