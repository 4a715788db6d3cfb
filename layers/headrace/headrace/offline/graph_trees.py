"""Trees of scikit-learn's ensembles, bit for bit. May import graph.

Histogram gradient boosting compares doubles with doubles. The other trees round inputs to single
precision first and compare with doubles. Sums begin where scikit-learn's begin and take the trees
in its order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from headrace.errors import NotCompiled
from headrace.offline.graph import Graph, Tensor, Tree, constant_tree

if TYPE_CHECKING:
    from collections.abc import Callable

FORESTS = (
    RandomForestClassifier, ExtraTreesClassifier, RandomForestRegressor, ExtraTreesRegressor,
)  # fmt: skip
SINGLE = (
    DecisionTreeClassifier, ExtraTreeClassifier, DecisionTreeRegressor, ExtraTreeRegressor,
)  # fmt: skip
BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
BINNED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)


def trees_of(estimator: Any) -> list[Tree]:
    """The trees of an estimator in the order of their sum; none of what has no trees.

    Raises:
        NotCompiled: It has trees of a kind that cannot be written.
    """
    kind = type(estimator)
    if kind in FORESTS:
        return [_plain(each, _share(each)) for each in estimator.estimators_]
    if kind in SINGLE:
        return [_plain(estimator, _share(estimator))]
    if kind in BOOSTED:
        return _boosted(estimator)
    return _binned(estimator) if kind in BINNED else []


def forest(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """Mean of the trees: a probability, or a prediction."""
    total = graph.trees(graph.rounded(x), trees_of(estimator))
    return graph.divide(total, float(len(estimator.estimators_)))


def single(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """One tree: a probability, or a prediction."""
    return graph.trees(graph.rounded(x), trees_of(estimator))


def boosted(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """The decision of gradient boosting: start value and trees, before any link."""
    return graph.trees(graph.rounded(x), trees_of(estimator))


def boosted_probability(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """The link of the classifier's loss over the decision."""
    decision = boosted(graph, estimator, x)
    if estimator.loss == "exponential":
        decision = graph.multiply(decision, 2.0)
    return graph.sigmoid(decision)


def binned(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """The decision of histogram gradient boosting: start value and trees, before any link."""
    return graph.trees(x, trees_of(estimator))


def binned_probability(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """The logistic function of the decision."""
    return graph.sigmoid(binned(graph, estimator, x))


def binned_prediction(graph: Graph, estimator: Any, x: Tensor) -> Tensor:
    """The decision through the loss's link: itself, or its exponential."""
    decision = binned(graph, estimator, x)
    return graph.exp(decision) if estimator.loss in {"poisson", "gamma"} else decision


def _share(tree: Any) -> Callable[[Any], Any]:
    """What a leaf gives: the share of class 1, or the value."""
    if not hasattr(tree, "classes_"):
        return lambda value: value[:, 0, 0]
    return lambda value: value[:, 0, 1]


def _plain(owner: Any, leaf_of: Callable[[Any], Any], scale: float = 1.0) -> Tree:
    tree = owner.tree_
    return Tree(
        feature=np.maximum(tree.feature, 0),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        missing_left=tree.missing_go_to_left,
        value=scale * leaf_of(tree.value),
    )


def _boosted(estimator: Any) -> list[Tree]:
    if estimator.init_ != "zero" and type(estimator.init_) not in {DummyClassifier, DummyRegressor}:
        name, init = type(estimator).__name__, type(estimator.init_).__name__
        msg = f"{name}: starts from a {init}; expected init=None or 'zero'"
        raise NotCompiled(msg)
    nowhere = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    start = float(estimator._raw_predict_init(nowhere)[0, 0])
    rate = float(estimator.learning_rate)
    stages = [
        _plain(each, lambda value: value[:, 0, 0], rate) for each in estimator.estimators_[:, 0]
    ]
    return [constant_tree(start), *stages]


def _binned(estimator: Any) -> list[Tree]:
    if estimator.is_categorical_ is not None:
        msg = f"{type(estimator).__name__}: has categorical features; expected numbers, or one-hot"
        raise NotCompiled(msg)
    stages = [predictors[0].nodes for predictors in estimator._predictors]
    start = float(estimator._baseline_prediction[0, 0])
    return [constant_tree(start), *map(_of_nodes, stages)]


def _of_nodes(nodes: Any) -> Tree:
    is_leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=np.where(is_leaf, 0, nodes["feature_idx"]),
        threshold=nodes["num_threshold"],
        left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
        right=nodes["right"].astype(np.int64),
        missing_left=nodes["missing_go_to_left"],
        value=nodes["value"],
    )
