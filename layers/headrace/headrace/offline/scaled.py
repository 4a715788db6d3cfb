"""Numbers as scaled integers, as the rows of the state keep them, so that their sums are exact.

May import rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headrace.rows import EXACT, SCALES

if TYPE_CHECKING:
    from headrace.offline.history import Floats, Ints, Mask


_SAMPLE = 1_000
"""Values that are tried before all are: most scales are ruled out by the first few."""


class Scaled(NamedTuple):
    """A column of numbers in the order of a timeline.

    Attributes:
        scale: Integers are the value times this.
        integers: Zero where absent, or where no integer will do.
        present: Which values are there; None where all are.
    """

    scale: int
    integers: Ints
    present: Mask | None


def scaled(values: Floats, code: Ints) -> tuple[Scaled, Ints]:
    """Numbers as integers of one scale.

    Args:
        values: NaN where absent.
        code: The entity of each.

    Returns:
        The integers, and the codes of the entities some of whose numbers are no such integers:
        their rows hold floats, at least from some event on.
    """
    absent = np.isnan(values)
    present = None if not absent.any() else ~absent
    filled = values if present is None else np.where(absent, 0.0, values)
    largest = max(float(filled.max(initial=0.0)), -float(filled.min(initial=0.0)))
    for scale in SCALES:
        if largest * scale >= EXACT:
            break
        if not _whole(filled[:_SAMPLE], scale).all():
            continue
        integers = np.rint(filled * scale)
        if bool((integers / scale == filled).all()):
            return Scaled(scale, integers.astype(np.int64), present), np.empty(0, np.int64)
    return _partly(filled, code, present)


def _whole(values: Floats, scale: int) -> Mask:
    found: Mask = np.rint(values * scale) / scale == values
    return found


def _partly(filled: Floats, code: Ints, present: Mask | None) -> tuple[Scaled, Ints]:
    """The same where some numbers are no scaled integers: those count as 0, and are told."""
    needed = np.full(len(filled), SCALES[-1] + 1)
    for scale in reversed(SCALES):
        fits = (np.abs(filled) * scale < EXACT) & _whole(filled, scale)
        needed[fits] = scale
    odd = needed > SCALES[-1]
    scale = int(needed[~odd].max(initial=1))
    odd |= np.abs(filled) * scale >= EXACT
    integers = np.rint(np.where(odd, 0.0, filled) * scale).astype(np.int64)
    return Scaled(scale, integers, present), np.unique(code[odd])
