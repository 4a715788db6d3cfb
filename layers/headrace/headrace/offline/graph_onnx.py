"""A graph as ONNX, for other runtimes. May import graph and program_twin.

Every operation here gives a row the same bits alone and in any batch of onnxruntime. That is why
there is no Sigmoid, Exp or Tanh: it computes those in packets of the processor's width and what is
left over by another formula, so that a value's last bits depend on its place in the batch. Pow is
computed one value at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from headrace.offline.graph import Constant
from headrace.program_twin import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from headrace.offline.graph import Array, Graph, Node, Operand, Tensor, Tree

INPUTS, SCORE = "inputs", "score"

_OPSET, _ML_OPSET, _IR = 18, 5, 9  # TreeEnsemble with doubles in and out: ai.onnx.ml 5
_ML = "ai.onnx.ml"
_LEQ = 0  # node mode: go to the true side where the value is at most the split
_SUM = 1  # aggregate: the sum of the trees, in their order
_SIMPLE = {
    Operation.ADD: "Add",
    Operation.SUBTRACT: "Sub",
    Operation.MULTIPLY: "Mul",
    Operation.DIVIDE: "Div",
    Operation.NEGATE: "Neg",
    Operation.RELU: "Relu",
    Operation.CLIP: "Clip",
    Operation.DOT: "MatMul",
}


def as_onnx(graph: Graph, score: Tensor, about: Mapping[str, str]) -> bytes:
    """The model: INPUTS of shape (rows, columns) in, SCORE of shape (rows, 1) out.

    Args:
        graph: Complete.
        score: Of one column.
        about: Goes into the model's metadata.
    """
    score = graph.guarded(score)
    made = _Made(graph.inputs)
    for node in graph.nodes:
        made.add(node)
    made.rename(made.names[score], SCORE)
    rows = helper.make_tensor_value_info(INPUTS, TensorProto.DOUBLE, ["rows", graph.inputs.width])
    found = helper.make_tensor_value_info(SCORE, TensorProto.DOUBLE, ["rows", 1])
    whole = helper.make_graph(made.nodes, "model", [rows], [found], made.constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_ML, _ML_OPSET)]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=_IR)
    helper.set_model_props(model, dict(about))
    return bytes(model.SerializeToString(deterministic=True))


class _Made:
    """Collects nodes and constants of ONNX; a tensor's name stands for it."""

    def __init__(self, inputs: Tensor) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[Operand, str] = {inputs: INPUTS}

    def add(self, node: Node) -> None:
        """What a node of the graph is in ONNX."""
        operands = [self._name(each) for each in node.operands]
        self.names[node.result] = self._result(node, operands)

    def rename(self, name: str, new: str) -> None:
        """Call a tensor otherwise: a node of its own for that would cost time."""
        for node in self.nodes:
            node.input[:] = [new if each == name else each for each in node.input]
            node.output[:] = [new if each == name else each for each in node.output]

    def node(
        self, operation: str, operands: Sequence[str], domain: str = "", **attributes: Any
    ) -> str:
        """The name of what an operation of ONNX gives."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operation, operands, [name], domain=domain, **attributes)
        )
        return name

    def _constant(self, values: Any, dtype: Any = np.float64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype=dtype), name))
        return name

    def _name(self, operand: Operand) -> str:
        if isinstance(operand, Constant) and operand not in self.names:
            one = operand.values.ravel()
            alone = operand.values.ndim == 1 and len(one) and (one == one[0]).all()
            self.names[operand] = self._constant(one[0] if alone else operand.values)
        return self.names[operand]

    def _cast(self, x: str, kind: int = TensorProto.DOUBLE) -> str:
        return self.node("Cast", [x], to=kind)

    def _result(self, node: Node, operands: Sequence[str]) -> str:
        if node.operation in _SIMPLE:
            return self.node(_SIMPLE[node.operation], operands)
        x = operands[0]
        match node.operation:
            case Operation.TAKE:
                parts = x if len(operands) == 1 else self.node("Concat", operands, axis=1)
                return self.node("Gather", [parts, self._constant(node.chosen, np.int64)], axis=1)
            case Operation.EQUAL:
                return self._cast(self.node("Equal", operands))
            case Operation.FILL:
                return self.node("Where", [self.node("IsNaN", [x]), operands[1], x])
            case Operation.IS_NAN:
                return self._cast(self.node("IsNaN", [x]))
            case Operation.SINGLE:
                return self._cast(self._cast(x, TensorProto.FLOAT))
            case Operation.LEAST:
                return self.node("ReduceMin", [x, self._constant([1], np.int64)], keepdims=1)
            case Operation.TREES:
                ensemble = _ensemble(node.trees, node.result.width)
                return self.node("TreeEnsemble", [x], domain=_ML, **ensemble)
        return self._curve(node.operation, x)

    def _curve(self, operation: Operation, x: str) -> str:
        """Exponential, logistic function and hyperbolic tangent as powers."""
        if operation == Operation.EXP:
            return self.node("Pow", [self._constant(e), x])
        if operation == Operation.TANH:  # 2 / (1 + exp(-2 x)) - 1
            x = self.node("Mul", [x, self._constant(2.0)])
        decay = self.node("Pow", [self._constant(1 / e), x])
        found = self.node("Reciprocal", [self.node("Add", [decay, self._constant(1.0)])])
        if operation == Operation.SIGMOID:
            return found
        doubled = self.node("Mul", [found, self._constant(2.0)])
        return self.node("Sub", [doubled, self._constant(1.0)])


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
