"""Cuts of history by event time: train, gap, test. May import training, definition and errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import Misconfigured

if TYPE_CHECKING:
    import polars as pl

    from headrace.definition import Definition
    from headrace.offline.training import Training

_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Split:
    """Intervals of event time: train in [start, end), test in [test_start, test_end).

    Between ``end`` and ``test_start`` lie the days whose labels would not have been known yet:
    ``test_start`` is when the model would have been trained.
    """

    start: datetime
    end: datetime
    test_start: datetime
    test_end: datetime

    @property
    def gap(self) -> timedelta:
        """Between training and test."""
        return self.test_start - self.end


def split_by_time(
    rows: pl.DataFrame, definition: Definition, training: Training, until: datetime | None = None
) -> Split:
    """The last part for the test, before it the gap, before that the training interval.

    Args:
        rows: With ``event_time``.
        definition: Its label source's lateness is the gap where ``training`` names none.
        training: Lengths.
        until: End of the test interval; None for just after the last row.

    Raises:
        Misconfigured: The rows do not span that long.
    """
    first, last = _span(rows)
    test_end = until or last + _US
    test_start = test_end - training.test
    gap = definition.label.source.lateness if training.gap is None else training.gap
    end = test_start - gap
    start = first if training.train is None else end - training.train
    if end <= first or start < first:
        need = training.test + gap + (training.train or timedelta(0))
        msg = f"training: got events from {first} to {test_end}; expected more than {need}"
        raise Misconfigured(msg)
    return Split(start, end, test_start, test_end)


def _span(rows: pl.DataFrame) -> tuple[datetime, datetime]:
    first, last = rows["event_time"].min(), rows["event_time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        msg = "training: got no labelled event; expected labels with ids of the events"
        raise Misconfigured(msg)
    return first, last


def rolling_splits(
    rows: pl.DataFrame, definition: Definition, training: Training, most: int
) -> list[Split]:
    """Splits of equal lengths, each test following on the one before, the last one at the end.

    Days begin at midnight UTC; a day that history ends in counts whole.

    Args:
        rows: With ``event_time``.
        definition: As of ``split_by_time``.
        training: Lengths; ``train`` must say one.
        most: As many as fit, and not more than this.

    Raises:
        Misconfigured: Not even one fits.
    """
    first, last = _span(rows)
    until = last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    found = [split_by_time(rows, definition, training, until)]
    while len(found) < most and found[0].start - training.test >= first:
        found.insert(0, split_by_time(rows, definition, training, found[0].test_start))
    return found


def tuning_split(split: Split, training: Training) -> Split:
    """The training interval, cut alike: fit in [start, end), tune in [test_start, test_end).

    Raises:
        Misconfigured: It is too short for that.
    """
    tune = training.tune or training.test
    tune_start = split.end - tune
    if tune_start - split.gap <= split.start:
        msg = (
            f"training: the training interval is {split.end - split.start}; calibration and "
            f"threshold need more than {tune} to be fitted on, and the gap of {split.gap} before"
        )
        raise Misconfigured(msg)
    return Split(split.start, tune_start - split.gap, tune_start, split.end)


def later_folds(times: Any, gap: timedelta, folds: int) -> list[tuple[Any, Any]]:
    """Splits for a search: each is fitted on the past and validated on what comes after a gap.

    Args:
        times: Event times, microseconds UTC, shape (n,).
        gap: Between the two.
        folds: How many; the time is cut into one part more, and each but the first validates.

    Returns:
        Pairs of row numbers: to fit on, and to validate on.

    Raises:
        Misconfigured: A part is not longer than the gap, so that nothing is left to fit on.
    """
    start, end = int(times.min()), int(times.max()) + 1
    edges = np.linspace(start, end, folds + 2)
    gap_us = gap // _US
    pairs = [
        (np.flatnonzero(times < low - gap_us), np.flatnonzero((times >= low) & (times < high)))
        for low, high in pairwise(edges[1:])
    ]
    if not all(len(fit) and len(later) for fit, later in pairs):
        part = timedelta(microseconds=(end - start) // (folds + 1))
        msg = f"search: {folds} folds of {part} each; expected parts longer than the gap of {gap}"
        raise Misconfigured(msg)
    return pairs
