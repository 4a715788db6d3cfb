"""A model as a graph of a few operations, each row by itself, all in double precision.

It is written as a program (`graph_program`), which serves, or as ONNX (`graph_onnx`), for others.
May import program_twin, whose operations these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.program_twin import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]


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


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Columns that a node gives, or the inputs.

    Attributes:
        width: How many.
    """

    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """Numbers that are the same for every row.

    Attributes:
        values: Shape (columns,), or of a matrix (rows, columns).
    """

    values: Array

    @property
    def width(self) -> int:
        """How many numbers."""
        return int(self.values.size)


Operand = Tensor | Constant


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation on columns.

    Attributes:
        operation: Which.
        operands: What it reads; TAKE reads all of them, side by side.
        result: What it gives.
        chosen: Which columns of its operands, side by side, TAKE gives.
        trees: Of TREES.
    """

    operation: Operation
    operands: tuple[Operand, ...]
    result: Tensor
    chosen: Array | None = None
    trees: tuple[Tree, ...] = ()


class Graph:
    """Collects nodes. Where a method takes values, they are by column, or one for all.

    Args:
        columns: Number of inputs.

    Attributes:
        inputs: What the model is given.
        nodes: In the order in which they are computed.
    """

    def __init__(self, columns: int) -> None:
        self.inputs = Tensor(columns)
        self.nodes: list[Node] = []
        self._guards: list[Tensor] = []

    def guard(self, zeros: Tensor) -> None:
        """Refuse rows: where the tensor of one column is NaN instead of 0, so is the score."""
        self._guards.append(zeros)

    def guarded(self, score: Tensor) -> Tensor:
        """The score, NaN in rows that a guard refuses."""
        for zeros in self._guards:
            score = self.add(score, zeros)
        return score

    def columns(self, x: Tensor, indices: Any) -> Tensor:
        """Some columns, in the order of the indices."""
        return self._taken((x,), np.asarray(indices, dtype=np.int64))

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        """Columns side by side."""
        if len(parts) == 1:
            return parts[0]
        return self._taken(tuple(parts), np.arange(sum(part.width for part in parts)))

    def add(self, x: Tensor, y: Any) -> Tensor:
        """X + y, by column."""
        return self._of_two(Operation.ADD, x, y)

    def subtract(self, x: Tensor, y: Any) -> Tensor:
        """X - y, by column."""
        return self._of_two(Operation.SUBTRACT, x, y)

    def multiply(self, x: Tensor, y: Any) -> Tensor:
        """X * y, by column."""
        return self._of_two(Operation.MULTIPLY, x, y)

    def divide(self, x: Any, y: Any) -> Tensor:
        """X / y, by column; one of the two is a tensor."""
        if isinstance(x, Tensor):
            return self._of_two(Operation.DIVIDE, x, y)
        return self._node(Operation.DIVIDE, (_constant(x, y.width), y), y.width)

    def equal(self, x: Tensor, y: Any) -> Tensor:
        """1 where x is y, else 0; by column."""
        return self._of_two(Operation.EQUAL, x, y)

    def filled(self, x: Tensor, y: Any) -> Tensor:
        """X, and y where x is NaN; by column."""
        return self._of_two(Operation.FILL, x, y)

    def affine(self, x: Tensor, weights: Any, offset: Any) -> Tensor:
        """X @ weights + offset, with weights of shape (columns, targets)."""
        return self.add(self.product(x, weights), offset)

    def product(self, x: Tensor, weights: Any) -> Tensor:
        """X @ weights, of shape (columns, targets)."""
        matrix = np.asarray(weights, dtype=np.float64)
        return self._node(Operation.DOT, (x, Constant(matrix)), matrix.shape[1])

    def is_nan(self, x: Tensor) -> Tensor:
        """1 where a value is NaN, else 0."""
        return self._of_one(Operation.IS_NAN, x)

    def rounded(self, x: Tensor) -> Tensor:
        """Each value rounded to single precision, as scikit-learn's trees see it."""
        return self._of_one(Operation.SINGLE, x)

    def negative(self, x: Tensor) -> Tensor:
        """Each value with the other sign."""
        return self._of_one(Operation.NEGATE, x)

    def relu(self, x: Tensor) -> Tensor:
        """Each value, and 0 where it is below."""
        return self._of_one(Operation.RELU, x)

    def exp(self, x: Tensor) -> Tensor:
        """E to the power of x."""
        return self._of_one(Operation.EXP, x)

    def sigmoid(self, x: Tensor) -> Tensor:
        """1 / (1 + exp(-x)), the logistic function."""
        return self._of_one(Operation.SIGMOID, x)

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        return self._of_one(Operation.TANH, x)

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        """Values moved into [low, high]; NaN stays."""
        bounds = _constant(low, 1), _constant(high, 1)
        return self._node(Operation.CLIP, (x, *bounds), x.width)

    def least(self, x: Tensor) -> Tensor:
        """The smallest value of a row, none of them NaN."""
        return self._node(Operation.LEAST, (x,), 1)

    def mean(self, parts: Sequence[Tensor], weights: Any = None) -> Tensor:
        """Mean of tensors of one shape, summed up in their order."""
        used = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=np.float64)
        total = parts[0] if weights is None else self.multiply(parts[0], used[0])
        for part, weight in zip(parts[1:], used[1:].tolist(), strict=True):
            total = self.add(total, part if weights is None else self.multiply(part, weight))
        return self.divide(total, used.sum())

    def trees(self, x: Tensor, trees: Sequence[Tree], targets: int = 1) -> Tensor:
        """Sum of the leaves that a row falls into, by target, tree after tree."""
        found = Tensor(targets)
        self.nodes.append(Node(Operation.TREES, (x,), found, trees=tuple(trees)))
        return found

    def _taken(self, operands: tuple[Operand, ...], chosen: Array) -> Tensor:
        found = Tensor(len(chosen))
        self.nodes.append(Node(Operation.TAKE, operands, found, chosen))
        return found

    def _of_one(self, operation: Operation, x: Tensor) -> Tensor:
        return self._node(operation, (x,), x.width)

    def _of_two(self, operation: Operation, x: Tensor, y: Any) -> Tensor:
        other = y if isinstance(y, Tensor) else _constant(y, x.width)
        return self._node(operation, (x, other), x.width)

    def _node(self, operation: Operation, operands: tuple[Operand, ...], width: int) -> Tensor:
        found = Tensor(width)
        self.nodes.append(Node(operation, operands, found))
        return found


def _constant(values: Any, width: int) -> Constant:
    """Numbers by column; one number stands for every column."""
    found = np.ravel(np.asarray(values, dtype=np.float64))
    return Constant(np.broadcast_to(found, (width,)))
