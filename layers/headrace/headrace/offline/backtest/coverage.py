"""What nightly runs knew, how old it was, and what of it nobody asked for. May import frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.offline.backtest.frames import AGE, BEHIND, KNEW, never_used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.offline.backtest.frames import Frames


@dataclass(frozen=True, slots=True)
class Coverage:
    """Over the test events of all weeks.

    Attributes:
        age_median: Hours from the nightly run to the event.
        age_95: Hours that 95 % of the events stay below.
        behind: Share of events before which something of the batch entity happened since the run.
        unknown: Entity -> share of events of which no nightly run knew the entity.
        unused: Entity -> share of what runs made that nobody asked for until the next run.
    """

    age_median: float
    age_95: float
    behind: float
    unknown: dict[str, float]
    unused: dict[str, float | None]


def coverage(weeks: Sequence[Frames]) -> Coverage:
    """Look at the nightly runs of some weeks.

    Args:
        weeks: Their test events.
    """
    facts = pl.concat([week.facts for week in weeks])
    entities = [name.removeprefix(KNEW) for name in facts.columns if name.startswith(KNEW)]
    middle, high = np.quantile(facts[AGE].to_numpy(), [0.5, 0.95]).tolist()
    return Coverage(
        age_median=middle,
        age_95=high,
        behind=_share(facts[BEHIND]),
        unknown={name: 1 - _share(facts[KNEW + name]) for name in entities},
        unused={name: _mean([never_used(week, name) for week in weeks]) for name in entities},
    )


def _share(flags: pl.Series) -> float:
    return float(flags.cast(pl.Float64).to_numpy().mean())


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
