"""Rows on which a compiled model would first differ from its original. May import graph_trees.

Trees decide by comparisons: a threshold, its neighbours among doubles and among singles, and the
middle between two singles, where rounding turns, are where a wrong precision shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from headrace.offline.graph_trees import trees_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Matrix = np.ndarray[Any, np.dtype[np.float64]]
    Score = Callable[[Matrix], Matrix]

MOST_SPLITS = 1_000
MOST_ROUNDED = 2_000
JUMPS_PER_INPUT = 6
# Beyond it scikit-learn's trees refuse a row; a compiled one takes it as above every threshold.
_LARGEST_SINGLE = float(np.finfo(np.float32).max)
_BISECTIONS = 80  # from any two numbers that features have to two that are neighbours
_BASE_ROWS = 3
_EXTREMES = (
    0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1e-30, 1e15, -1e15, 1e30, -1e30, 3.3e38, -3.3e38,
    np.inf, -np.inf,
)  # fmt: skip


def edge_rows(estimator: Any, rows: Matrix, score: Score, seed: int = 0) -> dict[str, Matrix]:
    """Rows by kind, made from rows of data.

    Args:
        estimator: The original.
        rows: Shape (n, inputs), n >= 1, as it was trained on.
        score: What the original gives for rows, shape (n,), NaN where it refuses one.
        seed: Which rows are taken is drawn by it.

    Returns:
        ``threshold``: values on and next to where trees split, in rows that are near.
        ``jump``: neighbouring doubles between which the original's score changes, found by halving;
        they reach thresholds that lie behind scalers.
        ``missing``: NaN in each input, and in all.
        ``extreme``: zeros, tiny, huge and infinite values in each input.
        ``rounded``: rows of data in single precision.
    """
    random = np.random.default_rng(seed)
    some = rows[random.choice(len(rows), min(len(rows), MOST_ROUNDED), replace=False)]
    return {
        "threshold": _at_thresholds(estimator, some, random),
        "jump": _jumps(some, score, random),
        "missing": np.vstack([_replaced(some, (np.nan,)), np.full((1, rows.shape[1]), np.nan)]),
        "extreme": _replaced(some, _EXTREMES),
        "rounded": some.astype(np.float32).astype(np.float64),
    }


def splits(estimator: Any) -> Iterator[tuple[int, float]]:
    """Input and threshold of every split of trees that look at the inputs themselves."""
    if type(estimator) is FrozenEstimator:
        yield from splits(estimator.estimator)
    elif type(estimator) is Pipeline and all(map(_keeps_values, estimator.steps[:-1])):
        yield from splits(estimator.steps[-1][1])
    elif type(estimator) is CalibratedClassifierCV:
        for fold in estimator.calibrated_classifiers_:
            yield from splits(fold.estimator)
    elif type(estimator) is VotingClassifier:
        for each in estimator.estimators_:
            yield from splits(each)
    else:
        for tree in trees_of(estimator):
            inner = tree.left >= 0
            yield from zip(
                tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True
            )


def _keeps_values(step: tuple[str, Any]) -> bool:
    _, transformer = step
    return transformer == "passthrough" or (
        type(transformer) is SimpleImputer and not np.isnan(transformer.statistics_).any()
    )


def neighbours(threshold: float) -> list[float]:
    """A number, those next to it as doubles and as singles, and where rounding to singles turns."""
    single = np.float32(threshold)
    below, above = (
        np.nextafter(single, np.float32(-np.inf)),
        np.nextafter(single, np.float32(np.inf)),
    )
    turns = [(float(single) + float(each)) / 2 for each in (below, above)]
    exact = [threshold, float(single), float(below), float(above), *turns]
    around = [
        float(np.nextafter(each, to)) for each in (threshold, *turns) for to in (-np.inf, np.inf)
    ]
    return [value for value in exact + around if abs(value) <= _LARGEST_SINGLE]


def _at_thresholds(estimator: Any, rows: Matrix, random: np.random.Generator) -> Matrix:
    """Each value in the row of data that is nearest to it, so that a path leads to the split."""
    found = sorted(set(splits(estimator)))
    taken = random.choice(len(found), min(len(found), MOST_SPLITS), replace=False)
    values = [(found[n][0], each) for n in taken.tolist() for each in neighbours(found[n][1])]
    if not values:
        return rows[:0]
    made = np.vstack([rows[np.nanargmin(_gaps(rows[:, column], v))] for column, v in values])
    made[np.arange(len(values)), [column for column, _ in values]] = [v for _, v in values]
    return made


def _gaps(column: Matrix, value: float) -> Matrix:
    return np.where(np.isnan(column), np.inf, np.abs(column - value))


def _jumps(rows: Matrix, score: Score, random: np.random.Generator) -> Matrix:
    """Both sides of a change of score, for some pairs of values of each input."""
    inputs = np.repeat(np.arange(rows.shape[1]), JUMPS_PER_INPUT)
    low = rows[random.integers(len(rows), size=len(inputs))]
    high, places = low.copy(), np.arange(len(inputs))
    high[places, inputs] = rows[random.integers(len(rows), size=len(inputs)), inputs]
    usable = np.isfinite(low[places, inputs]) & np.isfinite(high[places, inputs])
    low, high, inputs = low[usable], high[usable], inputs[usable]
    places, of_low = np.arange(len(inputs)), score(low)
    for _ in range(_BISECTIONS):
        middle = low.copy()
        middle[places, inputs] += (high[places, inputs] - low[places, inputs]) / 2
        same = score(middle) == of_low
        low[same], high[~same] = middle[same], middle[~same]
    return np.vstack([low, high])


def _replaced(rows: Matrix, values: tuple[float, ...]) -> Matrix:
    """Each value in each input of a few rows."""
    made = []
    for row in rows[:_BASE_ROWS]:
        for column in range(rows.shape[1]):
            block = np.tile(row, (len(values), 1))
            block[:, column] = values
            made.append(block)
    return np.vstack(made)
