"""What a program is and what it gives, in Python. Imports nothing of the project.

``headrace._program`` is C (``layers/headrace/program``) and does the same, bit for bit, with the
same words for what is wrong. Where it was not built, this serves.

A program is a list of steps over numbers at places: its constants first, then a row's inputs, then
what each step gives, one step after another. A step reads places before its own only, and looks at
one row. All is in double precision; sums go from the first summand to the last, as in scikit-learn.
"""

from __future__ import annotations

import math
from enum import IntEnum
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_COLUMNS = 65_535
MOST_VALUES = 1 << 20
"""Inputs and results of all steps together."""

TAKES_NAN, TAKES_INFINITY = 1, 2
"""Flags of an input."""

STEP, NODE, TREE = Struct("<6I"), Struct("<dII"), Struct("<2I")
"""Of packed arrays: a step is (operation, size, a, b, c, d), see ``Operation``.

A node is (split, look, child): rows whose value in column ``look >> 1`` is at most the split, and
those where it is NaN if ``look & 1``, go to the node ``child``, others to the one after it. A leaf
has no child, 0, and its split is what it gives. A tree is (end, target): its root is where the tree
before it ends, and it adds to that column.
"""

_SINGLE = Struct("<f")


class Operation(IntEnum):
    """What a step does; it gives ``size`` numbers, from as many at ``a`` where nothing is said."""

    TAKE = 0  # those at the places in indices[a:]
    ADD = 1  # a + b
    SUBTRACT = 2  # a - b
    MULTIPLY = 3  # a * b
    DIVIDE = 4  # a / b
    EQUAL = 5  # 1 where a is b, else 0
    FILL = 6  # a, and b where a is NaN
    IS_NAN = 7  # 1 where a is NaN, else 0
    SINGLE = 8  # rounded to single precision
    NEGATE = 9
    RELU = 10  # a, and 0 where a is below
    EXP = 11
    SIGMOID = 12  # 1 / (1 + exp(-a))
    TANH = 13
    CLIP = 14  # moved into [number at b, number at c]
    DOT = 15  # c numbers at a times the matrix at b, of c rows and `size` columns
    LEAST = 16  # the smallest of c numbers at a
    TREES = 17  # sum of c trees from tree b on, which look at d columns from a on


_Step = tuple[int, int, int, int, int, int]


class _Tree(NamedTuple):
    root: int
    target: int


class Program:
    """Scores rows, each by itself.

    Args:
        takes: One byte for each input: what it takes beside finite numbers.
        constants: Doubles.
        indices: Unsigned integers of 32 bits.
        nodes: Of all trees, see ``NODE``.
        trees: See ``TREE``; each step uses the next ones.
        steps: See ``STEP``; the last gives one number, the score.

    All arrays are little-endian.

    Attributes:
        columns: How many inputs it takes.

    Raises:
        ValueError: It is none that could run; nothing has been run.
    """

    def __init__(
        self,
        takes: bytes,
        constants: bytes,
        indices: bytes,
        nodes: bytes,
        trees: bytes,
        steps: bytes,
    ) -> None:
        self.columns = len(takes)
        self._takes = takes
        parts = ("constants", constants, 8), ("indices", indices, 4), ("nodes", nodes, NODE.size)
        for name, data, size in (*parts, ("trees", trees, TREE.size), ("steps", steps, STEP.size)):
            if len(data) % size:
                msg = f"{name}: {len(data)} bytes; expected a multiple of {size}"
                raise ValueError(msg)
        if not 1 <= self.columns <= MOST_COLUMNS:
            msg = f"inputs: {self.columns}; expected 1 to {MOST_COLUMNS}"
            raise ValueError(msg)
        self._constants = [value for (value,) in iter_unpack("<d", constants)]
        self._indices = [value for (value,) in iter_unpack("<I", indices)]
        self._nodes = list(NODE.iter_unpack(nodes))
        self._trees: list[_Tree] = []  # those that are checked
        self._next_node = 0  # where the next tree begins
        self._ends = list(TREE.iter_unpack(trees))
        self._steps: list[_Step] = list(STEP.iter_unpack(steps))
        self._check()

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """One score per row.

        Args:
            rows: Shape (n, inputs).

        Raises:
            ValueError: A value that the model does not take, as scikit-learn would not.
        """
        scores = []
        for number, row in enumerate(rows):
            score = self._run(self._checked(number, row))
            if score != score:
                msg = f"row {number}: the model gives NaN; expected values that it was trained for"
                raise ValueError(msg)
            scores.append(score)
        return scores

    def _checked(self, number: int, row: Sequence[float]) -> list[float]:
        if len(row) != self.columns:
            msg = f"row {number}: {len(row)} values; expected {self.columns}"
            raise ValueError(msg)
        values = [float(value) for value in row]
        for column, value in enumerate(values):
            if math.isfinite(value):
                continue
            if not self._takes[column] & (TAKES_NAN if value != value else TAKES_INFINITY):
                msg = f"row {number}: input {column} is {value}, which the model does not take"
                raise ValueError(msg)
        return values

    def _run(self, row: list[float]) -> float:
        values: list[float] = self._constants + row
        for step in self._steps:
            values += self._results(values, *step)
        return values[-1]

    def _results(
        self, v: list[float], operation: int, size: int, a: int, b: int, c: int, d: int
    ) -> list[float]:
        if operation in _BY_TWO:
            of_two = _BY_TWO[operation]
            return [of_two(x, y) for x, y in zip(v[a : a + size], v[b : b + size], strict=True)]
        if operation in _BY_ONE:
            return list(map(_BY_ONE[operation], v[a : a + size]))
        match operation:
            case Operation.TAKE:
                return [v[place] for place in self._indices[a : a + size]]
            case Operation.CLIP:
                low, high = v[b], v[c]
                return [low if x < low else high if x > high else x for x in v[a : a + size]]
            case Operation.DOT:
                return _dot(v[a : a + c], v[b : b + c * size], size)
            case Operation.LEAST:
                return [_least(v[a : a + c])]
        return self._leaves(v[a : a + d], self._trees[b : b + c], size)

    def _leaves(self, x: list[float], trees: list[_Tree], size: int) -> list[float]:
        totals, nodes = [0.0] * size, self._nodes
        for root, target in trees:
            split, look, child = nodes[root]
            while child:
                value = x[look >> 1]
                left = value <= split or (look & 1 and value != value)
                split, look, child = nodes[child if left else child + 1]
            totals[target] += split
        return totals

    def _check(self) -> None:
        """Every place that a step reads is there before it, and every tree ends."""
        out = len(self._constants) + self.columns
        most = len(self._constants) + MOST_VALUES
        for number, step in enumerate(self._steps):
            size = step[1]
            if not 1 <= size <= most - out:
                msg = f"step {number}: gives {size} numbers; expected 1 to {most - out}"
                raise ValueError(msg)
            self._check_step(number, step, out)
            out += size
        if not self._steps or self._steps[-1][1] != 1:
            msg = "steps: the last gives no score; expected one number"
            raise ValueError(msg)
        if len(self._trees) != len(self._ends) or self._next_node != len(self._nodes):
            msg = f"trees: {len(self._trees)} are used; expected all, with all nodes"
            raise ValueError(msg)

    def _check_step(self, number: int, step: _Step, out: int) -> None:
        operation, size, a, b, c, d = step
        reads: tuple[tuple[int, int], ...]
        match operation:
            case Operation.TAKE:
                self._check_indices(number, a, size, out)
                return
            case Operation.DOT:
                reads = ((a, c), (b, c * size))
            case Operation.CLIP:
                reads = ((a, size), (b, 1), (c, 1))
            case Operation.LEAST:
                reads = ((a, c if size == 1 else 0),)
            case Operation.TREES:
                reads = ((a, d),)
            case _ if operation in _BY_TWO:
                reads = ((a, size), (b, size))
            case _ if operation in _BY_ONE:
                reads = ((a, size),)
            case _:
                msg = f"step {number}: operation is {operation}; expected 0 to {max(Operation)}"
                raise ValueError(msg)
        for first, count in reads:
            self._check_read(number, first, count, out)
        if operation == Operation.TREES:
            self._check_trees(number, step)

    def _check_read(self, number: int, first: int, count: int, out: int) -> None:
        """It lies among the constants, or among what is there of a row."""
        constants = len(self._constants)
        end = constants if first < constants else out
        if count < 1 or first + count > end:
            msg = f"step {number}: reads {count} numbers at {first}; expected some before {end}"
            raise ValueError(msg)

    def _check_indices(self, number: int, first: int, count: int, out: int) -> None:
        if first + count > len(self._indices):
            msg = (
                f"step {number}: reads {count} indices at {first}; "
                f"expected some before {len(self._indices)}"
            )
            raise ValueError(msg)
        for place in self._indices[first : first + count]:
            self._check_read(number, place, 1, out)

    def _check_trees(self, number: int, step: _Step) -> None:
        _, size, _, first, count, columns = step
        used = len(self._trees)
        if first != used or not 1 <= count <= len(self._ends) - used:
            msg = f"step {number}: {count} trees from {first}; expected the next ones, {used}"
            raise ValueError(msg)
        for tree in range(used, used + count):
            root, (end, target) = self._next_node, self._ends[tree]
            if not root < end <= len(self._nodes) or target >= size:
                msg = f"tree {tree}: ends at node {end}, adds to {target}; expected others"
                raise ValueError(msg)
            self._check_nodes(tree, root, end, columns)
            self._trees.append(_Tree(root, target))
            self._next_node = end

    def _check_nodes(self, tree: int, root: int, end: int, columns: int) -> None:
        """Children have larger numbers than their parents: no path is endless."""
        for node in range(root, end):
            _, look, child = self._nodes[node]
            if look >> 1 >= columns or (child and not node < child < end - 1):
                msg = (
                    f"tree {tree}: node {node} looks at {look >> 1} and leads to {child}; "
                    f"expected a column below {columns}, and nodes after it below {end}"
                )
                raise ValueError(msg)


def _divided(x: float, y: float) -> float:
    if y:
        return x / y
    return math.nan if not x or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)


def _single(x: float) -> float:
    try:
        (rounded,) = _SINGLE.unpack(_SINGLE.pack(x))
    except OverflowError:
        return math.copysign(math.inf, x)
    return float(rounded)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _dot(x: list[float], weights: list[float], size: int) -> list[float]:
    totals = [0.0] * size
    for place, value in enumerate(x):
        row = weights[place * size : (place + 1) * size]
        totals = [total + value * weight for total, weight in zip(totals, row, strict=True)]
    return totals


def _least(x: list[float]) -> float:
    least = x[0]
    for value in x[1:]:
        least = value if value < least else least
    return least


_BY_TWO: dict[int, Callable[[float, float], float]] = {
    Operation.ADD: lambda x, y: x + y,
    Operation.SUBTRACT: lambda x, y: x - y,
    Operation.MULTIPLY: lambda x, y: x * y,
    Operation.DIVIDE: _divided,
    Operation.EQUAL: lambda x, y: 1.0 if x == y else 0.0,
    Operation.FILL: lambda x, y: y if x != x else x,
}
_BY_ONE: dict[int, Callable[[float], float]] = {
    Operation.IS_NAN: lambda x: 1.0 if x != x else 0.0,
    Operation.SINGLE: _single,
    Operation.NEGATE: lambda x: -x,
    Operation.RELU: lambda x: 0.0 if x < 0 else x,
    Operation.EXP: _exp,
    Operation.SIGMOID: lambda x: 1.0 / (1.0 + _exp(-x)),
    Operation.TANH: math.tanh,
}
