"""An ONNX graph in double precision, node by node. Imports onnx and numpy only.

Every operation here gives a row the same bits alone and in any batch. That is why there is no
Sigmoid, Exp or Tanh: onnxruntime computes those in packets of the processor's width and what is
left over by another formula, so that a value's last bits depend on its place in the batch. Pow is
computed one value at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

INPUTS, SCORE = "inputs", "score"
Array = np.ndarray[Any, np.dtype[Any]]

_OPSET, _ML_OPSET, _IR = 18, 5, 9  # TreeEnsemble with doubles in and out: ai.onnx.ml 5
_ML = "ai.onnx.ml"
_LEQ = 0  # node mode: go to the true side where the value is at most the split
_SUM = 1  # aggregate: the sum of the trees, in their order


@dataclass(frozen=True, slots=True)
class Tree:
    """One decision tree as arrays over its nodes; node 0 is the root.

    Attributes:
        feature: Column that a node looks at; any number in a leaf.
        threshold: Rows whose value is at most this go left.
        left: Node on the left, or -1 in a leaf.
        right: Node on the right.
        missing_left: Whether NaN goes left.
        value: What a leaf gives; any number elsewhere.
        target: Column of the ensemble's output that it adds to.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    value: Array
    target: int = 0


def constant_tree(value: float) -> Tree:
    """A tree of one leaf: a summand that stands at its own place in the sum."""
    one, none = np.zeros(1), np.full(1, -1)
    return Tree(one, one, none, none, one, np.array([value]))


class Graph:
    """Collects nodes; tensors are named by what the methods return. Columns are axis 1."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._guards: list[str] = []

    def constant(self, values: Any, dtype: Any = np.float64) -> str:
        """A constant tensor."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(
        self,
        operation: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
    ) -> str:
        """The tensor that an operation makes of others."""
        name = f"t{len(self._nodes)}"
        made = helper.make_node(operation, inputs, [name], domain=domain, **(attributes or {}))
        self._nodes.append(made)
        return name

    def guard(self, zeros: str) -> None:
        """Refuse rows: where the tensor of shape (rows, 1) is NaN instead of 0, so is the score."""
        self._guards.append(zeros)

    def columns(self, x: str, indices: Any) -> str:
        """Some columns, in the order of the indices."""
        return self.node("Gather", [x, self.constant(indices, np.int64)], {"axis": 1})

    def concat(self, parts: Sequence[str]) -> str:
        """Columns side by side."""
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, {"axis": 1})

    def add(self, x: str, values: Any) -> str:
        """X + values, by column."""
        return self.node("Add", [x, self.constant(values)])

    def subtract(self, x: str, values: Any) -> str:
        """X - values, by column."""
        return self.node("Sub", [x, self.constant(values)])

    def multiply(self, x: str, values: Any) -> str:
        """X * values, by column."""
        return self.node("Mul", [x, self.constant(values)])

    def divide(self, x: str, values: Any) -> str:
        """X / values, by column."""
        return self.node("Div", [x, self.constant(values)])

    def affine(self, x: str, weights: Any, offset: Any) -> str:
        """X @ weights + offset, with weights of shape (columns, targets)."""
        return self.add(self.node("MatMul", [x, self.constant(weights)]), offset)

    def is_nan(self, x: str) -> str:
        """1 where a value is NaN, else 0."""
        return self.as_double(self.node("IsNaN", [x]))

    def as_double(self, x: str) -> str:
        """The same values in double precision."""
        return self.node("Cast", [x], {"to": TensorProto.DOUBLE})

    def rounded(self, x: str) -> str:
        """Each value rounded to single precision, as scikit-learn's trees see it."""
        return self.as_double(self.node("Cast", [x], {"to": TensorProto.FLOAT}))

    def clip(self, x: str, low: float, high: float) -> str:
        """Values moved into [low, high]; NaN stays."""
        return self.node("Clip", [x, self.constant(low), self.constant(high)])

    def exp(self, x: str) -> str:
        """E to the power of x."""
        return self.node("Pow", [self.constant(e), x])

    def sigmoid(self, x: str) -> str:
        """1 / (1 + exp(-x)), the logistic function, with exp(-x) as a power of 1 / e."""
        decay = self.node("Pow", [self.constant(1 / e), x])
        return self.node("Reciprocal", [self.add(decay, 1.0)])

    def tanh(self, x: str) -> str:
        """2 / (1 + exp(-2 x)) - 1: the hyperbolic tangent."""
        return self.subtract(self.multiply(self.sigmoid(self.multiply(x, 2.0)), 2.0), 1.0)

    def mean(self, parts: Sequence[str], weights: Any = None) -> str:
        """Mean of tensors of one shape, summed up in their order."""
        used = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=np.float64)
        total = parts[0] if weights is None else self.multiply(parts[0], used[0])
        for part, weight in zip(parts[1:], used[1:].tolist(), strict=True):
            summand = part if weights is None else self.multiply(part, weight)
            total = self.node("Add", [total, summand])
        return self.divide(total, used.sum())

    def trees(self, x: str, trees: Sequence[Tree], targets: int = 1) -> str:
        """Sum of the leaves that a row falls into, shape (rows, targets), tree after tree."""
        return self.node("TreeEnsemble", [x], _ensemble(trees, targets), _ML)

    def serialized(self, score: str, columns: int, about: Mapping[str, str]) -> bytes:
        """The model: INPUTS of shape (rows, columns) in, SCORE of shape (rows, 1) out.

        Args:
            score: Tensor that becomes the output.
            columns: Number of inputs.
            about: Goes into the model's metadata.
        """
        for zeros in self._guards:
            score = self.node("Add", [score, zeros])
        self._rename(score)
        rows = helper.make_tensor_value_info(INPUTS, TensorProto.DOUBLE, ["rows", columns])
        found = helper.make_tensor_value_info(SCORE, TensorProto.DOUBLE, ["rows", 1])
        graph = helper.make_graph(self._nodes, "model", [rows], [found], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_ML, _ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        helper.set_model_props(model, dict(about))
        return bytes(model.SerializeToString(deterministic=True))

    def _rename(self, score: str) -> None:
        """Let the node that makes the score name it so: a node of its own would cost time."""
        (maker,) = (node for node in self._nodes if score in node.output)
        maker.output[:] = [SCORE]
        for node in self._nodes:
            node.input[:] = [SCORE if each == score else each for each in node.input]


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A tree whose nodes and leaves have their numbers in the ensemble."""

    inner: Array
    left: Array
    right: Array
    left_is_leaf: Array
    right_is_leaf: Array
    values: Array


def _ensemble(trees: Sequence[Tree], targets: int) -> dict[str, Any]:
    """Attributes of TreeEnsemble: inner nodes and leaves are numbered apart."""
    nodes = leaves = 0
    roots, parts = [], []
    for tree in trees:
        part = _numbered(tree, nodes, leaves)
        roots.append(nodes)
        parts.append(part)
        nodes, leaves = nodes + len(part.inner), leaves + len(part.values)

    def joined(arrays: list[Array]) -> list[int]:
        found: list[int] = np.concatenate(arrays).astype(np.int64).tolist()
        return found

    both = list(zip(trees, parts, strict=True))
    splits = np.concatenate([tree.threshold[part.inner] for tree, part in both])
    weights = np.concatenate([part.values for part in parts])
    return {
        "tree_roots": roots,
        "nodes_featureids": joined([tree.feature[part.inner] for tree, part in both]),
        "nodes_splits": _tensor("splits", splits, np.float64),
        "nodes_modes": _tensor("modes", np.full(nodes, _LEQ), np.uint8),
        "nodes_truenodeids": joined([part.left for part in parts]),
        "nodes_falsenodeids": joined([part.right for part in parts]),
        "nodes_trueleafs": joined([part.left_is_leaf for part in parts]),
        "nodes_falseleafs": joined([part.right_is_leaf for part in parts]),
        "nodes_missing_value_tracks_true": joined(
            [tree.missing_left[part.inner] for tree, part in both]
        ),
        "leaf_targetids": joined([np.full(len(p.values), t.target) for t, p in both]),
        "leaf_weights": _tensor("weights", weights, np.float64),
        "n_targets": targets,
        "aggregate_function": _SUM,
    }


def _numbered(tree: Tree, first_node: int, first_leaf: int) -> _Numbered:
    if tree.left[0] < 0:  # a leaf alone: a node both of whose sides are that leaf
        leaf, yes = np.array([first_leaf]), np.ones(1)
        return _Numbered(np.zeros(1, np.int64), leaf, leaf, yes, yes, tree.value[:1])
    is_leaf = tree.left < 0
    inner, ends = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    number = np.empty(len(is_leaf), dtype=np.int64)
    number[inner] = first_node + np.arange(len(inner))
    number[ends] = first_leaf + np.arange(len(ends))
    left, right = tree.left[inner], tree.right[inner]
    return _Numbered(
        inner, number[left], number[right], is_leaf[left], is_leaf[right], tree.value[ends]
    )


def _tensor(name: str, values: Array, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(values.astype(dtype), name)
