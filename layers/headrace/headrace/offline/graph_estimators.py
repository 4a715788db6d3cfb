"""Models of scikit-learn as graphs. May import graph_trees and graph_steps.

A classifier gives a decision and a probability, a regressor a prediction.

A model is found by its class itself, not by a base class: a subclass may compute otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC, LinearSVR

from headrace.errors import NotCompiled
from headrace.offline import graph_trees
from headrace.offline.graph import Tree, constant_tree
from headrace.offline.graph_steps import refuse, transformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.offline.graph import Graph, Tensor

    Converter = Callable[[Graph, Any, Tensor], Tensor]


def output(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """What serves: a classifier's probability of its second class, or a regressor's prediction.

    Raises:
        NotCompiled: There is no converter for it, or for an option that it has.
    """
    if hasattr(estimator, "predict_proba"):
        if len(estimator.classes_) != 2:
            refuse(estimator, f"has {len(estimator.classes_)} classes", "two")
        return probability(graph, estimator, x)
    return _converted(PREDICTIONS, graph, estimator, x)


def probability(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """Probability of the second class, shape (rows, 1)."""
    return _converted(PROBABILITIES, graph, estimator, x)


def _decision_or_probability(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """What scikit-learn calibrates: the decision where there is one."""
    kinds = DECISIONS if hasattr(estimator, "decision_function") else PROBABILITIES
    return _converted(kinds, graph, estimator, x)


def _converted(kinds: dict[type, Converter], graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """Through pipelines and wrappers to the model itself."""
    if type(estimator) is FrozenEstimator:
        return _converted(kinds, graph, estimator.estimator, x)
    if type(estimator) is Pipeline:
        for _, step in estimator.steps[:-1]:
            x = transformed(graph, step, x)
        return _converted(kinds, graph, estimator.steps[-1][1], x)
    if type(estimator) not in kinds:
        name = type(estimator).__name__
        there = ", ".join(sorted(kind.__name__ for kind in kinds))
        msg = f"{name}: no converter for this model; there are {there}"
        raise NotCompiled(msg)
    return kinds[type(estimator)](graph, estimator, x)


def _linear(graph: Graph, model: Any, x: Tensor) -> Tensor:
    weights = np.asarray(model.coef_, dtype=np.float64)
    if weights.ndim > 1 and len(weights) != 1:
        refuse(model, f"has {len(weights)} targets", "one")
    return graph.affine(x, weights.reshape(-1, 1), np.reshape(model.intercept_, -1))


def _logistic(graph: Graph, model: Any, x: Tensor) -> Tensor:
    return graph.sigmoid(_linear(graph, model, x))


def _sgd_probability(graph: Graph, model: Any, x: Tensor) -> Tensor:
    if model.loss == "log_loss":
        return _logistic(graph, model, x)
    decision = graph.clip(_linear(graph, model, x), -1.0, 1.0)
    return graph.divide(graph.add(decision, 1.0), 2.0)


def _linear_svc(graph: Graph, model: Any, x: Tensor) -> Tensor:
    if model.kernel != "linear":
        refuse(model, f"kernel is {model.kernel!r}", "'linear', or LinearSVC")
    return _linear(graph, model, x)


_ACTIVATIONS: dict[str, Callable[[Graph, Tensor], Tensor]] = {
    "identity": lambda _, x: x,
    "relu": lambda graph, x: graph.relu(x),
    "logistic": lambda graph, x: graph.sigmoid(x),
    "tanh": lambda graph, x: graph.tanh(x),
}


def _network(graph: Graph, model: Any, x: Tensor) -> Tensor:
    """Every layer but the last's activation."""
    if model.n_outputs_ != 1:
        refuse(model, f"has {model.n_outputs_} outputs", "one")
    last = len(model.coefs_) - 1
    for place, (weights, offset) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = graph.affine(x, weights, offset)
        x = x if place == last else _ACTIVATIONS[model.activation](graph, x)
    return x


def _network_output(graph: Graph, model: Any, x: Tensor) -> Tensor:
    found = _network(graph, model, x)
    if model.out_activation_ not in _ACTIVATIONS:
        refuse(model, f"ends in {model.out_activation_!r}", f"one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[model.out_activation_](graph, found)


def _voting(graph: Graph, model: Any, x: Tensor) -> Tensor:
    parts = [probability(graph, each, x) for each in model.estimators_]
    return graph.mean(parts, model._weights_not_none)


def _calibrated(graph: Graph, model: Any, x: Tensor) -> Tensor:
    """Mean over folds, each with its model and its calibrator."""
    parts = []
    for fold in model.calibrated_classifiers_:
        if fold.method not in {"sigmoid", "isotonic"}:
            refuse(model, f"method is {fold.method!r}", "'sigmoid' or 'isotonic'")
        response = _decision_or_probability(graph, fold.estimator, x)
        (calibrator,) = fold.calibrators
        parts.append(_calibration(graph, calibrator, response))
    return graph.mean(parts)


def _calibration(graph: Graph, calibrator: Any, response: Tensor) -> Tensor:
    if type(calibrator) is IsotonicRegression:
        return _isotonic(graph, calibrator, response)
    scaled = graph.add(graph.multiply(response, calibrator.a_), calibrator.b_)
    return graph.sigmoid(graph.negative(scaled))


def _isotonic(graph: Graph, calibrator: Any, x: Tensor) -> Tensor:
    """Between two points a line: a tree finds start, value there and slope."""
    if calibrator.out_of_bounds != "clip":
        refuse(calibrator, f"out_of_bounds is {calibrator.out_of_bounds!r}", "'clip'")
    xs = np.asarray(calibrator.X_thresholds_, dtype=np.float64)
    ys = np.asarray(calibrator.y_thresholds_, dtype=np.float64)
    if len(xs) == 1:
        return graph.trees(x, [constant_tree(float(ys[0]))])
    x = graph.clip(x, float(calibrator.X_min_), float(calibrator.X_max_))
    slopes = np.diff(ys) / np.diff(xs)
    found = graph.trees(x, [_search(xs[1:-1], v, n) for n, v in enumerate((xs, ys, slopes))], 3)
    start, value, slope = (graph.columns(found, [n]) for n in range(3))
    rise = graph.multiply(slope, graph.subtract(x, start))
    return graph.add(rise, value)


def _search(edges: Any, values: Any, target: int) -> Tree:
    """A balanced tree that gives the value of the interval that a number lies in.

    Args:
        edges: Ascending inner edges, n - 1 of n intervals; an edge belongs to the one below.
        values: At least n; those of the intervals in order.
        target: Column of the output.
    """
    threshold: list[float] = []
    value: list[float] = []
    left: list[int] = []
    right: list[int] = []

    def grown(low: int, high: int) -> int:
        """Number of the node over the intervals from low to high, both included."""
        here, middle = len(left), (low + high) // 2
        threshold.append(0.0 if low == high else float(edges[middle]))
        value.append(float(values[low]))
        left.append(-1)
        right.append(-1)
        if low != high:
            left[here], right[here] = grown(low, middle), grown(middle + 1, high)
        return here

    grown(0, len(edges))
    nothing = np.zeros(len(left), dtype=np.int64)
    splits, sides = np.asarray(threshold), (np.asarray(left), np.asarray(right))
    return Tree(nothing, splits, *sides, nothing, np.asarray(value), target)


DECISIONS: dict[type, Converter] = {
    **dict.fromkeys(
        (LogisticRegression, LogisticRegressionCV, RidgeClassifier, SGDClassifier, LinearSVC),
        _linear,
    ),
    SVC: _linear_svc,
    GradientBoostingClassifier: graph_trees.boosted,
    HistGradientBoostingClassifier: graph_trees.binned,
}
PROBABILITIES: dict[type, Converter] = {
    LogisticRegression: _logistic,
    LogisticRegressionCV: _logistic,
    SGDClassifier: _sgd_probability,
    MLPClassifier: _network_output,
    VotingClassifier: _voting,
    CalibratedClassifierCV: _calibrated,
    GradientBoostingClassifier: graph_trees.boosted_probability,
    HistGradientBoostingClassifier: graph_trees.binned_probability,
    **dict.fromkeys(graph_trees.FORESTS[:2], graph_trees.forest),
    **dict.fromkeys(graph_trees.SINGLE[:2], graph_trees.single),
}
PREDICTIONS: dict[type, Converter] = {
    **dict.fromkeys(
        (LinearRegression, Ridge, RidgeCV, Lasso, ElasticNet, SGDRegressor, LinearSVR), _linear
    ),
    MLPRegressor: _network_output,
    GradientBoostingRegressor: graph_trees.boosted,
    HistGradientBoostingRegressor: graph_trees.binned_prediction,
    **dict.fromkeys(graph_trees.FORESTS[2:], graph_trees.forest),
    **dict.fromkeys(graph_trees.SINGLE[2:], graph_trees.single),
}
