"""Transformers of scikit-learn as graphs: what comes before a model. May import graph.

The formulas, and the order of their operations, are scikit-learn's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import (
    RFE,
    RFECV,
    SelectFromModel,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from headrace.errors import NotCompiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.offline.graph import Graph, Tensor

_STANDS_FOR_NAN = float(np.finfo(np.float64).max)  # equal to itself, which NaN is not


def transformed(graph: Graph, step: Any, x: Tensor) -> Tensor:
    """The columns that a fitted transformer makes of others.

    Raises:
        NotCompiled: There is no converter for it, or for an option that it has.
    """
    if step is None or step == "passthrough":
        return x
    found = STEPS.get(type(step))
    if found is None:
        msg = f"{type(step).__name__}: no converter for this step; there are {_names(STEPS)}"
        raise NotCompiled(msg)
    return found(graph, step, x)


def _names(kinds: Any) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))


def refuse(step: Any, got: str, expected: str) -> None:
    """Refuse an option of a step or model.

    Raises:
        NotCompiled: Always.
    """
    msg = f"{type(step).__name__}: {got}; expected {expected}"
    raise NotCompiled(msg)


def _pipeline(graph: Graph, pipeline: Any, x: Tensor) -> Tensor:
    for _, step in pipeline.steps:
        x = transformed(graph, step, x)
    return x


def _union(graph: Graph, union: Any, x: Tensor) -> Tensor:
    if union.transformer_weights:
        refuse(union, "has transformer_weights", "none")
    parts = [transformed(graph, step, x) for _, step in union.transformer_list if step != "drop"]
    return graph.concat(parts)


def _by_column(graph: Graph, transformer: Any, x: Tensor) -> Tensor:
    if transformer.transformer_weights:
        refuse(transformer, "has transformer_weights", "none")
    parts = []
    for name, step, columns in transformer.transformers_:
        chosen = _places(transformer, name, columns)
        if step != "drop" and chosen:
            parts.append(transformed(graph, step, graph.columns(x, chosen)))
    return graph.concat(parts)


def _places(transformer: Any, name: str, columns: Any) -> list[int]:
    if any(isinstance(each, str) for each in np.ravel(np.asarray(columns, dtype=object))):
        refuse(transformer, f"{name!r} names columns", "their numbers, in the order of inputs")
    places: list[int] = np.atleast_1d(np.arange(transformer.n_features_in_)[columns]).tolist()
    return places


def _simple_imputer(graph: Graph, imputer: Any, x: Tensor) -> Tensor:
    if not (isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)):
        refuse(imputer, f"missing_values is {imputer.missing_values!r}", "NaN")
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    kept = np.flatnonzero(~np.isnan(statistics))
    known = x if len(kept) == len(statistics) else graph.columns(x, kept)
    filled = graph.filled(known, statistics[kept])
    if imputer.indicator_ is None:
        return filled
    return graph.concat([filled, graph.is_nan(graph.columns(x, imputer.indicator_.features_))])


def _standard(graph: Graph, scaler: Any, x: Tensor) -> Tensor:
    x = graph.subtract(x, scaler.mean_) if scaler.with_mean else x
    return graph.divide(x, scaler.scale_) if scaler.with_std else x


def _robust(graph: Graph, scaler: Any, x: Tensor) -> Tensor:
    x = graph.subtract(x, scaler.center_) if scaler.with_centering else x
    return graph.divide(x, scaler.scale_) if scaler.with_scaling else x


def _min_max(graph: Graph, scaler: Any, x: Tensor) -> Tensor:
    x = graph.add(graph.multiply(x, scaler.scale_), scaler.min_)
    return graph.clip(x, *scaler.feature_range) if scaler.clip else x


def _max_abs(graph: Graph, scaler: Any, x: Tensor) -> Tensor:
    if getattr(scaler, "clip", False):
        refuse(scaler, "has clip", "none")
    return graph.divide(x, scaler.scale_)


def _one_hot(graph: Graph, encoder: Any, x: Tensor) -> Tensor:
    """1 where a value is a column's category; an unknown one gives none, or is refused."""
    if getattr(encoder, "infrequent_categories_", None) and any(
        each is not None for each in encoder.infrequent_categories_
    ):
        refuse(encoder, "groups infrequent categories", "neither min_frequency nor max_categories")
    places = np.repeat(np.arange(len(encoder.categories_)), [len(c) for c in encoder.categories_])
    categories = np.concatenate([np.asarray(c, dtype=np.float64) for c in encoder.categories_])
    x = graph.filled(x, _STANDS_FOR_NAN)
    comparable = np.where(np.isnan(categories), _STANDS_FOR_NAN, categories)
    encoded = graph.equal(graph.columns(x, places), comparable)
    kept = _kept_categories(encoder)
    shown = encoded if len(kept) == len(categories) else graph.columns(encoded, kept)
    if encoder.handle_unknown == "error":
        known = graph.product(encoded, np.eye(places[-1] + 1)[places])
        graph.guard(graph.divide(0.0, graph.least(known)))  # 0 / 0 is NaN
    return shown


def _kept_categories(encoder: Any) -> Any:
    """Places of the categories that `drop` leaves."""
    sizes = [len(each) for each in encoder.categories_]
    starts = np.cumsum([0, *sizes[:-1]])
    dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * len(sizes)
    gone = [start + int(d) for start, d in zip(starts, dropped, strict=True) if d is not None]
    return np.setdiff1d(np.arange(sum(sizes)), gone)


def _function(graph: Graph, step: Any, x: Tensor) -> Tensor:
    if step.func is not None:
        refuse(step, f"has a function, {step.func!r}", "none: Python cannot be compiled")
    return x


def _selected(graph: Graph, selector: Any, x: Tensor) -> Tensor:
    return graph.columns(x, selector.get_support(indices=True))


STEPS: dict[type, Callable[[Graph, Any, Tensor], Tensor]] = {
    Pipeline: _pipeline,
    FeatureUnion: _union,
    ColumnTransformer: _by_column,
    SimpleImputer: _simple_imputer,
    StandardScaler: _standard,
    RobustScaler: _robust,
    MinMaxScaler: _min_max,
    MaxAbsScaler: _max_abs,
    OneHotEncoder: _one_hot,
    FunctionTransformer: _function,
    **dict.fromkeys(
        (SelectKBest, SelectPercentile, SelectFromModel, VarianceThreshold, RFE, RFECV), _selected
    ),
}
