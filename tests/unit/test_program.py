"""Programs: C and Python give the same bits and the same refusals, whatever the bytes are."""

from __future__ import annotations

import re
from math import copysign, exp, inf, nan, tanh
from random import Random
from struct import pack
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace.offline.compile import onnx_of
from headrace.offline.graph import Graph, Tree
from headrace.offline.graph_program import as_program
from headrace.onnx_model import OnnxModel
from headrace.program import COMPILED, MOST_BYTES, PROGRAM, ProgramFile, program_of
from headrace.program_twin import MOST_VALUES, NODE, STEP, TREE, Operation
from headrace.program_twin import Program as Twin
from tests import families

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.offline.graph import Tensor
    from headrace.program import Runnable

NAMES = [family.name for family in families.COMPILES]
KINDS = [
    pytest.param(
        PROGRAM,
        id="C",
        marks=pytest.mark.skipif(
            not COMPILED,
            reason="the compiled program was not built: install a C compiler and Python's headers, "
            "then `make setup` again",
        ),
    ),
    pytest.param(Twin, id="Python"),
]
both = pytest.mark.skipif(not COMPILED, reason="as above: there is only Python here")
VALUES = (0.0, -0.0, 1.0, -1.5, 3.0, 0.1, 5e-324, 1e-30, 700.0, -750.0, 3.4e38, 1e308, -1e308,
          nan, inf, -inf)  # fmt: skip
COLUMNS = 4
STEPS = 12


def bits(model: Runnable, row: Sequence[float]) -> bytes | str:
    """A score's bytes, or why there is none."""
    try:
        (score,) = model.score([row])
    except ValueError as error:
        return str(error)
    return pack("<d", score)


def made(data: bytes, kind: Any) -> Runnable | str:
    try:
        return program_of(data, kind)
    except ValueError as error:
        return str(error)


def agree(data: bytes, rows: Sequence[Sequence[float]]) -> bool:
    """Whether it can run; both say so in the same words, or give the same bits."""
    compiled, twin = made(data, PROGRAM), made(data, Twin)
    if isinstance(compiled, str) or isinstance(twin, str):
        assert compiled == twin
        return False
    assert [bits(compiled, row) for row in rows] == [bits(twin, row) for row in rows]
    return True


@both
@pytest.mark.parametrize("name", NAMES)
def test_c_and_python_give_the_same_bits(name: str) -> None:
    random = Random(1)
    rows = families.data()[0][:60].tolist()
    rows += [
        [random.choice(VALUES) if random.random() < 0.3 else x for x in row] for row in rows[:40]
    ]
    assert agree(families.compiled(name), rows)


@both
@pytest.mark.parametrize("seed", range(60))
def test_c_and_python_give_the_same_bits_for_any_graph(seed: int) -> None:
    random = Random(seed)
    rows = [[random.choice(VALUES) for _ in range(COLUMNS)] for _ in range(30)]
    rows += [[random.gauss(0, 5) for _ in range(COLUMNS)] for _ in range(30)]
    assert agree(any_program(random), rows)


@both
@pytest.mark.parametrize("seed", range(40))
def test_altered_bytes_are_refused_or_run_alike(seed: int) -> None:
    """As often refused as not, and never read beyond their end: see decision 0026 for more."""
    random = Random(1_000 + seed)
    data = any_program(random)
    rows = [[random.gauss(0, 5) for _ in range(COLUMNS)] for _ in range(3)]
    found = [agree(altered(random, data), rows) for _ in range(25)]
    assert not all(found)


def any_program(random: Random) -> bytes:
    """A graph of random operations over random columns, sums of some of which are the score."""
    graph = Graph(COLUMNS)
    known = [graph.inputs]
    for _ in range(STEPS):
        known.append(random.choice(MAKERS)(graph, random.choice(known), random))
    total = graph.product(graph.concat(known), [[1.0]] * sum(each.width for each in known))
    return as_program(graph, graph.sigmoid(total), range(COLUMNS), range(0, COLUMNS, 2))


def values_for(x: Tensor, random: Random) -> list[float]:
    return [random.choice(VALUES[:9]) for _ in range(x.width)]


def some_columns(graph: Graph, x: Tensor, random: Random) -> Tensor:
    return graph.columns(x, [random.randrange(x.width) for _ in range(random.randint(1, 5))])


def some_trees(graph: Graph, x: Tensor, random: Random) -> Tensor:
    targets = random.randint(1, 3)
    grown = [any_tree(random, x.width, targets) for _ in range(random.randint(1, 20))]
    return graph.trees(x, grown, targets)


def any_tree(random: Random, columns: int, targets: int) -> Tree:
    """Grown at leaves that are drawn, so that it is as uneven as they come."""
    left, right = [-1], [-1]
    for _ in range(random.randint(0, 12)):
        leaf = random.choice([n for n, child in enumerate(left) if child < 0])
        left[leaf], right[leaf] = len(left), len(left) + 1
        left += [-1, -1]
        right += [-1, -1]
    size = len(left)
    return Tree(
        feature=np.array([random.randrange(columns) for _ in range(size)]),
        threshold=np.array([random.choice([0.0, -0.0, random.gauss(0, 5)]) for _ in range(size)]),
        left=np.array(left),
        right=np.array(right),
        missing_left=np.array([random.randint(0, 1) for _ in range(size)]),
        value=np.array([random.gauss(0, 1) for _ in range(size)]),
        target=random.randrange(targets),
    )


MAKERS: list[Callable[[Graph, Tensor, Random], Tensor]] = [
    some_columns,
    some_trees,
    some_trees,
    lambda g, x, r: g.add(x, values_for(x, r)),
    lambda g, x, _: g.subtract(x, g.columns(x, range(x.width)[::-1])),
    lambda g, x, r: g.multiply(x, values_for(x, r)),
    lambda g, x, r: g.divide(x, values_for(x, r)),
    lambda g, x, _: g.divide(0.0, x),
    lambda g, x, r: g.equal(x, values_for(x, r)),
    lambda g, x, r: g.filled(x, values_for(x, r)),
    lambda g, x, r: g.affine(x, [values_for(x, r)[:1] * 3] * x.width, 0.5),
    lambda g, x, _: g.is_nan(x),
    lambda g, x, _: g.rounded(x),
    lambda g, x, _: g.negative(x),
    lambda g, x, _: g.relu(x),
    lambda g, x, _: g.exp(x),
    lambda g, x, _: g.sigmoid(x),
    lambda g, x, _: g.tanh(x),
    lambda g, x, _: g.clip(x, -2.0, 3.0),
    lambda g, x, _: g.least(x),
]


def altered(random: Random, data: bytes) -> bytes:
    """A program some of whose parts were cut or changed in places."""
    parts = msgspec.structs.asdict(msgspec.msgpack.decode(data, type=ProgramFile))
    name = random.choice([each for each in parts if each != "format" and parts[each]])
    part = bytearray(parts[name])
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(part))
        part[place] = random.choice([0, 1, 2, 255, part[place] ^ (1 << random.randrange(8))])
    if random.random() < 0.1:
        del part[random.randrange(len(part)) :]
    parts[name] = bytes(part)
    return msgspec.msgpack.encode(ProgramFile(**parts))


def packed(
    steps: Sequence[tuple[int, ...]],
    takes: bytes = b"\0\0",
    constants: Sequence[float] = (1.0,),
    nodes: Sequence[tuple[float, int, int]] = (),
    trees: Sequence[tuple[int, int]] = (),
    indices: Sequence[int] = (),
) -> bytes:
    """A program written by hand, of two inputs after one constant."""
    return msgspec.msgpack.encode(
        ProgramFile(
            format=1,
            takes=takes,
            constants=pack(f"<{len(constants)}d", *constants),
            indices=pack(f"<{len(indices)}I", *indices),
            nodes=b"".join(NODE.pack(*node) for node in nodes),
            trees=b"".join(TREE.pack(*tree) for tree in trees),
            steps=b"".join(STEP.pack(*(*step, *([0] * (6 - len(step))))) for step in steps),
        )
    )


LEAF = (0.5, 0, 0)
TREE_STEP = (Operation.TREES, 1, 1, 0, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (packed([]), "steps: the last gives no score"),
        (packed([(Operation.NEGATE, 2, 1)]), "steps: the last gives no score"),
        (packed([(Operation.NEGATE, 0, 1)]), f"step 0: gives 0 numbers; expected 1 to {1048576-2}"),
        (packed([(Operation.NEGATE, MOST_VALUES, 1)]), "step 0: gives 1048576 numbers"),
        (packed([(99, 1, 1)]), "step 0: operation is 99; expected 0 to 17"),
        (packed([(Operation.NEGATE, 1, 3)]), "step 0: reads 1 numbers at 3; expected some before"),
        (packed([(Operation.ADD, 2, 0, 1)]), "step 0: reads 2 numbers at 0; expected some befor"),
        (packed([(Operation.ADD, 1, 1, 3)]), "step 0: reads 1 numbers at 3"),
        (packed([(Operation.ADD, 1, 2**32 - 1, 1)]), "step 0: reads 1 numbers at 4294967295"),
        (packed([(Operation.CLIP, 1, 1, 0, 3)]), "step 0: reads 1 numbers at 3"),
        (packed([(Operation.DOT, 2, 1, 0, 2**31)]), "step 0: reads 2147483648 numbers at 1"),
        (packed([(Operation.DOT, 2, 1, 1, 2)]), "step 0: reads 4 numbers at 1"),
        (packed([(Operation.LEAST, 1, 1, 0, 0)]), "step 0: reads 0 numbers at 1"),
        (packed([(Operation.TAKE, 1, 1)], indices=[0]), "step 0: reads 1 indices at 1; expected"),
        (packed([(Operation.TAKE, 1, 0)], indices=[3]), "step 0: reads 1 numbers at 3"),
        (packed([TREE_STEP]), "step 0: 1 trees from 0; expected the next ones, 0"),
        (packed([TREE_STEP], nodes=[LEAF], trees=[(2, 0)]), "tree 0: ends at node 2, adds to 0"),
        (packed([TREE_STEP], nodes=[LEAF], trees=[(0, 0)]), "tree 0: ends at node 0, adds to 0"),
        (packed([TREE_STEP], nodes=[LEAF], trees=[(1, 1)]), "tree 0: ends at node 1, adds to 1"),
        (packed([TREE_STEP], nodes=[(0.5, 4, 0)], trees=[(1, 0)]), "node 0 looks at 2 and leads"),
        (packed([TREE_STEP], nodes=[(0.5, 0, 1), LEAF], trees=[(2, 0)]), "node 0 looks at 0 and l"),
        (
            packed([TREE_STEP], nodes=[(0.5, 0, 1), LEAF, (0.5, 0, 1)], trees=[(3, 0)]),
            "tree 0: node 2 looks at 0 and leads to 1; expected a column below 2, and nodes after",
        ),
        (packed([TREE_STEP], nodes=[LEAF, LEAF], trees=[(1, 0)]), "trees: 1 are used; expected"),
        (
            packed([TREE_STEP], nodes=[LEAF, LEAF], trees=[(1, 0), (2, 0)]),
            "trees: 1 are used; expected all, with all nodes",
        ),
        (packed([(Operation.NEGATE, 1, 1)], takes=b""), "inputs: 0; expected 1 to 65535"),
    ],
)  # fmt: skip
def test_program_that_could_not_run_is_refused_in_words(kind: Any, data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        program_of(data, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["constants", "indices", "nodes", "trees", "steps"])
def test_array_that_is_cut_within_a_number_is_refused(kind: Any, name: str) -> None:
    whole = packed([TREE_STEP], nodes=[LEAF], trees=[(1, 0)], indices=[1])
    parts = msgspec.structs.asdict(msgspec.msgpack.decode(whole, type=ProgramFile))
    parts[name] = parts[name][:-1]
    size = len(parts[name])
    with pytest.raises(
        ValueError, match=rf"{name}: {size} bytes; expected a multiple of {size + 1}"
    ):
        program_of(msgspec.msgpack.encode(ProgramFile(**parts)), kind)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no program ("),
        (b"nothing", "no program ("),
        (packed([TREE_STEP])[:-3], "no program ("),
        (packed([]).replace(b"format\x01", b"format\x02"), "format is 2; this version runs 1"),
        (bytes(MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes; expected at most {MOST_BYTES}"),
    ],
    ids=["empty", "text", "cut", "format", "size"],
)
def test_bytes_that_are_no_program_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        program_of(data)


@pytest.mark.parametrize("kind", KINDS)
def test_operations_compute_what_they_say(kind: Any) -> None:
    graph = Graph(2)
    x, y = graph.columns(graph.inputs, [0]), graph.columns(graph.inputs, [1])
    wanted = {
        graph.subtract(x, y): 1.5,
        graph.divide(x, y): -2.0,
        graph.equal(x, 1.0): 1.0,
        graph.relu(y): 0.0,
        graph.rounded(graph.multiply(x, 0.1)): float(np.float32(0.1)),
        graph.exp(y): exp(-0.5),
        graph.sigmoid(y): 1 / (1 + exp(0.5)),
        graph.tanh(y): tanh(-0.5),
        graph.clip(y, 0.25, 3.0): 0.25,
        graph.least(graph.inputs): -0.5,
        graph.product(graph.inputs, [[2.0], [4.0]]): 0.0,
        graph.filled(x, 7.0): 1.0,
        graph.is_nan(x): 0.0,
        graph.negative(x): -1.0,
    }
    for score, value in wanted.items():
        data = as_program(graph, graph.columns(score, [0]), (), ())
        assert program_of(data, kind).score([[1.0, -0.5]]) == [value]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("value", "left"), [(0.5, True), (nan, False), (inf, False), (-inf, True)])
@pytest.mark.parametrize("missing_left", [0, 1])
def test_split_sends_at_most_left_and_nan_where_it_says(
    kind: Any, value: float, left: bool, missing_left: int
) -> None:
    nodes = [(0.5, 2 * 1 + missing_left, 1), (10.0, 0, 0), (20.0, 0, 0)]
    data = packed([TREE_STEP], takes=b"\3\3", nodes=nodes, trees=[(3, 0)])
    goes_left = bool(missing_left) if value != value else left
    assert program_of(data, kind).score([[9.0, value]]) == [10.0 if goes_left else 20.0]


@pytest.mark.parametrize("kind", KINDS)
def test_first_row_that_is_wrong_is_told_whatever_is_wrong_with_it(kind: Any) -> None:
    """0 / x is NaN where x is 0, and infinity is not taken."""
    data = packed([(Operation.DIVIDE, 1, 0, 2)], takes=b"\1\1", constants=[0.0])
    model, rows = program_of(data, kind), [[1.0, 1.0]] * 40_000
    assert model.score(rows) == [0.0] * 40_000
    for first, second in ((700, 30_000), (701, 703)):
        zero, infinite = list(rows), list(rows)
        zero[first], zero[second] = [1.0, 0.0], [inf, 1.0]
        infinite[first], infinite[second] = [1.0, -inf], [1.0, 0.0]
        with pytest.raises(ValueError, match=f"^row {first}: the model gives NaN; expected values"):
            model.score(zero)
        with pytest.raises(ValueError, match=f"^row {first}: input 1 is -inf, which the model doe"):
            model.score(infinite)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_another_width_or_of_no_numbers_are_refused(kind: Any) -> None:
    model = program_of(packed([(Operation.ADD, 1, 1, 2)]), kind)
    assert model.columns == 2
    assert model.score([]) == []
    assert model.score(((1, 2.5), [True, -1.0])) == [3.5, 0.0]
    with pytest.raises(ValueError, match="row 1: 3 values; expected 2"):
        model.score([[1.0, 2.0], [1.0, 2.0, 3.0]])
    with pytest.raises(TypeError):
        model.score([[1.0, None]])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        model.score([1.0])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", KINDS)
def test_value_that_calls_the_model_or_empties_its_row_does_no_harm(kind: Any) -> None:
    model = program_of(packed([(Operation.ADD, 1, 1, 2)]), kind)
    rows: list[Any] = []

    class Calling:
        def __float__(self) -> float:
            return float(model.score([[20.0, 30.0]])[0])

    class Emptying:
        def __float__(self) -> float:
            rows[0].clear()
            rows.clear()
            return 1.0

    assert model.score([[1.0, Calling()]]) == [51.0]  # type: ignore[list-item]
    rows.extend([[Emptying(), 2.0], [1.0, 2.0]])
    try:
        assert model.score(rows) in ([3.0], [3.0, 3.0])
    except (IndexError, ValueError):
        assert rows == []


@pytest.mark.parametrize("name", NAMES)
def test_family_as_onnx_scores_as_its_program(name: str) -> None:
    """A second opinion: onnxruntime, from the same graph."""
    rows = families.data()[0]
    other = OnnxModel(onnx_of(families.fitted(name), rows))
    wanted = other.score(rows.tolist())
    np.testing.assert_allclose(
        program_of(families.compiled(name)).score(rows.tolist()), wanted, rtol=1e-9, atol=1e-9
    )


def test_sign_of_zero_and_the_smallest_numbers_survive() -> None:
    model = program_of(packed([(Operation.NEGATE, 1, 1)]))
    (score,) = model.score([[0.0, 0.0]])
    assert copysign(1.0, score) == -1.0
    assert model.score([[5e-324, 0.0]]) == [-5e-324]


def test_c_serves_where_it_was_built() -> None:
    assert (PROGRAM is Twin) != COMPILED
