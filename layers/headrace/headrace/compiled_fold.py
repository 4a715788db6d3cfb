"""The compiled fold, where it was built: what it needs to know of an entity's views.

``_fold`` is C (``layers/headrace/fold``) and does what ``state`` and ``windows`` do, bit for bit,
for entities whose views are rows alone and events that are neither late nor met before. Without
it, and for all else, Python does it. May import windows, view_reader, aggregates, definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.aggregates import Different, Ends, Extreme, Moments, Newest, RowCount, Total
from headrace.definition import Count, DistinctCount, First, LastN, Mean, Std, Sum, TimeSinceLast
from headrace.events import microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Aggregate
    from headrace.windows import ViewFold

try:
    from headrace import _fold
except ImportError:  # no compiler where it was installed
    _fold = None  # type: ignore[assignment]

AVAILABLE = _fold is not None
"""Whether it was built."""

MOST = 32
"""Views of an entity, and fields of a view, that it takes."""

if AVAILABLE:  # only where there is one are there plans, which both take
    opened, empty = _fold.open, _fold.empty

Planner = Callable[["Sequence[ViewFold]", "Mapping[str, int]", str], Any]

_READINGS = {Count: 0, DistinctCount: 0, TimeSinceLast: 1, Sum: 2, Mean: 3, Std: 4, LastN: 6}
_VALUE = 5
_ROW_COUNT, _NEWEST, _TOTAL, _MOMENTS, _SMALLEST, _LARGEST, _OLDEST, _LATEST, _DIFFERENT = range(9)


def plan_of(folds: Sequence[ViewFold], sources: Mapping[str, int], scored: str) -> Any:
    """An entity's views made ready; None where Python has to fold them.

    Args:
        folds: The entity's views.
        sources: Name -> number.
        scored: Name of the source whose events are scored.
    """
    if _fold is None or len(folds) > MOST or not all(map(_is_simple, folds)):
        return None
    return _fold.Plan(tuple(_view(fold, sources) for fold in folds), sources[scored])


def in_python(*_: object) -> None:
    """A plan for every entity that Python folds."""


def _is_simple(fold: ViewFold) -> bool:
    view = fold.view
    if view.hop is not None or fold.lifetime or view.source.revised_by:
        return False
    return len(fold.reader.fields) <= MOST


def _view(fold: ViewFold, sources: Mapping[str, int]) -> tuple[Any, ...]:
    view = fold.view
    fields = tuple(
        (name, convert if hashed else None)
        for (name, hashed), (_, convert) in zip(fold.fields, fold.conversions, strict=True)
    )
    return (
        view.name,
        fold.layout,
        sources[view.source.name],
        view.where,
        microseconds(view.delay),
        fold.retention,
        fold.counts_current,
        float(fold.most_row_bytes),
        fields,
        tuple(microseconds(window) for window in view.windows),
        tuple(_aggregate(each, fold) for each in view.aggregates),
    )


def _aggregate(aggregate: Aggregate, fold: ViewFold) -> tuple[int, int, int, int]:
    """Numbers of its statistic and of its reading, its column, and how many values it has."""
    statistic = fold.reader.statistic(aggregate)
    reading = _READINGS.get(type(aggregate), _VALUE)
    column, n = getattr(statistic, "column", -1), getattr(aggregate, "n", 1)
    match statistic:
        case RowCount():
            kind = _ROW_COUNT
        case Newest():
            kind = _NEWEST
        case Total():
            kind = _TOTAL
        case Moments():
            kind = _MOMENTS
        case Extreme():
            kind = _SMALLEST if statistic.choose is min else _LARGEST
        case Ends():
            kind = _OLDEST if isinstance(aggregate, First) else _LATEST
        case Different():
            kind = _DIFFERENT
        case _:
            msg = f"statistic is {statistic!r}; expected one that the compiled fold has"
            raise TypeError(msg)
    return kind, reading, column, n
