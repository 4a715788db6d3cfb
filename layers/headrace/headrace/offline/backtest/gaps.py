"""Why a real-time score differs from the batch score of the same event: parts that add up exactly.

One thing after the other is put in place of what the batch score was made of; a part is what the
score moves by. Imports numpy and Polars only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.offline.history import Floats


class Part(StrEnum):
    """What a gap is made of, in the order in which things are put in place."""

    IMPUTATION = "imputation"  # what only an event brings, and other entities, are there
    STALENESS = "staleness"  # stored features are as of the event, not of the last midnight
    DEFINITION = "definition"  # features are those of the real-time definition
    MODEL = "model"  # the model is the one that was trained on real-time features


@dataclass(frozen=True, slots=True)
class Steps:
    """An event's score as one thing after the other is put in place; each of shape (events,).

    Attributes:
        batch: The nightly score: nightly model, batch entity's nightly features, rest imputed.
        with_event: Nightly model, nightly features of all entities, the event's own fields.
        fresh: Nightly model, features as of the event.
        defined: A model trained on nightly features too, but of the real-time definition.
        realtime: The model trained on real-time features.
    """

    batch: Floats
    with_event: Floats
    fresh: Floats
    defined: Floats
    realtime: Floats

    @property
    def gap(self) -> Floats:
        """Real-time score minus batch score."""
        return self.realtime - self.batch

    def parts(self) -> dict[Part, Floats]:
        """What the gap is made of.

        Scores are multiples of 2^-40 up to 1: their differences are exact, and so is the sum.
        """
        return {
            Part.IMPUTATION: self.with_event - self.batch,
            Part.STALENESS: self.fresh - self.with_event,
            Part.DEFINITION: self.defined - self.fresh,
            Part.MODEL: self.realtime - self.defined,
        }


@dataclass(frozen=True, slots=True)
class PartOfGap:
    """One part over many events.

    Attributes:
        part: Which.
        mean_positive: Mean over positive events; None where there are none.
        mean_negative: Mean over the others.
        mean_size: Mean of its absolute value.
        share: Covariance with the gap over the gap's variance: shares add up to 1, and a part that
            works against the others has one below 0.
    """

    part: Part
    mean_positive: float | None
    mean_negative: float | None
    mean_size: float
    share: float | None


def summed_up(parts: dict[Part, Floats], labels: Floats) -> list[PartOfGap]:
    """The parts over all events."""
    gap = np.sum(list(parts.values()), axis=0)
    spread = float(np.var(gap))
    found = []
    for part, values in parts.items():
        with_gap = float(np.mean((values - values.mean()) * (gap - gap.mean())))
        found.append(
            PartOfGap(
                part,
                _mean(values[labels == 1]),
                _mean(values[labels == 0]),
                float(np.abs(values).mean()),
                with_gap / spread if spread else None,
            )
        )
    return found


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
