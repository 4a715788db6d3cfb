"""A graph as a program, which serves. May import graph, program and program_twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace.offline.graph import Constant, Tensor
from headrace.program import FORMAT, ProgramFile
from headrace.program_twin import NODE, STEP, TAKES_INFINITY, TAKES_NAN, TREE, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.offline.graph import Array, Graph, Node, Operand, Tree

_NODE = np.dtype([("split", "<f8"), ("look", "<u4"), ("child", "<u4")])


def as_program(
    graph: Graph, score: Tensor, takes_nan: Sequence[int], takes_infinity: Sequence[int]
) -> bytes:
    """The program that gives a graph's score.

    Args:
        graph: Complete.
        score: Of one column.
        takes_nan: Numbers of the inputs in which the model takes NaN.
        takes_infinity: Likewise, infinity.
    """
    score = graph.guarded(score)
    if graph.nodes[-1].result is not score:
        score = graph.columns(score, [0])  # what a program gives is what its last step gives
    takes = np.zeros(graph.inputs.width, dtype=np.uint8)
    takes[list(takes_nan)] |= TAKES_NAN
    takes[list(takes_infinity)] |= TAKES_INFINITY
    parts = _Parts(graph)
    for node in graph.nodes:
        if node.result.width:  # an indicator of nothing missing has no column
            parts.add(node)
    return msgspec.msgpack.encode(
        ProgramFile(
            format=FORMAT,
            takes=takes.tobytes(),
            constants=parts.constants.tobytes(),
            indices=np.array(parts.indices, dtype="<u4").tobytes(),
            nodes=b"".join(parts.nodes),
            trees=b"".join(parts.trees),
            steps=b"".join(parts.steps),
        )
    )


class _Parts:
    """Collects packed arrays; every number has its place, the constants first."""

    def __init__(self, graph: Graph) -> None:
        constants: dict[Constant, None] = dict.fromkeys(
            operand for node in graph.nodes for operand in node.operands
            if isinstance(operand, Constant)
        )  # fmt: skip
        self.constants = np.concatenate(
            [np.empty(0), *(each.values.ravel() for each in constants)]
        ).astype("<f8")
        self._places: dict[Operand, int] = {}
        self._next = 0
        for each in constants:
            self._set(each)
        self._set(graph.inputs)
        self.indices: list[int] = []
        self.nodes: list[bytes] = []
        self.trees: list[bytes] = []
        self.steps: list[bytes] = []
        self._last_node = 0

    def add(self, node: Node) -> None:
        """The step of a node, with what it reads."""
        self.steps.append(STEP.pack(node.operation, node.result.width, *self._read(node)))
        self._set(node.result)

    def _set(self, operand: Operand) -> None:
        self._places[operand] = self._next
        self._next += operand.width

    def _read(self, node: Node) -> tuple[int, int, int, int]:
        """The numbers a, b, c and d of ``Operation``."""
        if node.operation == Operation.TAKE:
            return self._indices(node), 0, 0, 0
        first = node.operands[0]
        places = [self._places[operand] for operand in node.operands]
        match node.operation:
            case Operation.DOT:
                return places[0], places[1], first.width, 0
            case Operation.LEAST:
                return places[0], 0, first.width, 0
            case Operation.TREES:
                before = len(self.trees)
                for tree in node.trees:
                    self._add_tree(tree)
                return places[0], before, len(node.trees), first.width
        a, b, c = [*places, 0, 0][:3]
        return a, b, c, 0

    def _indices(self, node: Node) -> int:
        first = len(self.indices)
        parts = [np.arange(each.width) + self._places[each] for each in node.operands if each.width]
        self.indices.extend(np.concatenate(parts)[node.chosen].tolist())
        return first

    def _add_tree(self, tree: Tree) -> None:
        packed = _packed(tree, self._last_node)
        self.nodes.append(packed.tobytes())
        self._last_node += len(packed)
        self.trees.append(TREE.pack(self._last_node, tree.target))


def _packed(tree: Tree, first: int) -> Any:
    """Nodes level by level, the children of a node side by side."""
    order, at = [0], 0
    while at < len(order):
        node = order[at]
        if tree.left[node] >= 0:
            order += [int(tree.left[node]), int(tree.right[node])]
        at += 1
    old: Array = np.array(order)
    is_leaf = tree.left[old] < 0
    children = first + 1 + 2 * (np.cumsum(~is_leaf) - 1)
    found = np.zeros(len(old), dtype=_NODE)
    found["split"] = np.where(is_leaf, tree.value[old], tree.threshold[old])
    look = 2 * tree.feature[old].astype(np.int64) + (tree.missing_left[old] != 0)
    found["look"] = np.where(is_leaf, 0, look)
    found["child"] = np.where(is_leaf, 0, children)
    return found


assert _NODE.itemsize == NODE.size
