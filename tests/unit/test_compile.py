"""Compiled models score as their originals, alone and in any batch; what does not is refused."""

from __future__ import annotations

import re
from itertools import pairwise
from math import inf, nan, nextafter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from headrace.errors import NotCompiled
from headrace.offline.compile import (
    TOLERANCE,
    certify,
    compile_estimator,
    require,
    rows_apart,
    scores_or_nan,
)
from headrace.offline.edge_rows import edge_rows, neighbours, splits
from headrace.offline.graph import Graph, Tree, constant_tree
from headrace.offline.graph_program import as_program
from headrace.offline.graph_trees import trees_of
from headrace.program import program_of
from headrace.sklearn_model import SklearnModel
from tests import families, strategies
from tests.families import COMPILES, REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.certificate import Certificate
    from headrace.offline.graph import Tensor

assert strategies  # property tests here are repeatable too
NAMES = [family.name for family in COMPILES]
HGB, FOREST = "HistGradientBoostingClassifier", "RandomForestClassifier"
TREES = "RandomForest|ExtraTrees|DecisionTree|^GradientBoosting|HistGradientBoosting"
values = st.one_of(
    st.floats(-50, 50),
    st.floats(-(2.0**90), 2.0**90, width=32),
    st.integers(0, 4).map(float),
    st.just(nan),
)
rows_of_values = st.lists(st.lists(values, min_size=5, max_size=5), min_size=1, max_size=30)


@pytest.mark.parametrize("name", NAMES)
def test_family_scores_as_its_original_on_data_and_on_edges(name: str) -> None:
    found = families.certificate(name)
    require(found, name)
    assert found.largest_difference <= TOLERANCE
    assert set(found.flips.values()) == {0}
    assert found.rows["training"] == found.rows["rounded"] == 600
    assert found.rows["jump"] >= 50
    assert found.refused + found.rows["missing"] + found.rows["extreme"] >= 241


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith((HGB, FOREST, "ExtraTrees"))])
def test_trees_are_compared_at_their_thresholds(name: str) -> None:
    assert families.certificate(name).rows["threshold"] >= 1_000


@pytest.mark.parametrize("name", [n for n in NAMES if re.search(TREES, n) and "poisson" not in n])
def test_trees_are_bit_for_bit_what_they_were(name: str) -> None:
    assert families.certificate(name).largest_difference == 0


@pytest.mark.parametrize("name", [family.name for family in REFUSED])
def test_what_has_no_converter_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(NotCompiled, match=r"\w+: .*(no converter for this|; expected )"):
        families.compiled(name)


def test_page_has_the_table_as_it_comes_out() -> None:
    """`python -m tests.families` writes it."""
    assert families.table_on_page() == families.table()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)  # of each family
@given(rows=rows_of_values, cuts=st.lists(st.integers(1, 30), max_size=4), seed=st.integers(0, 99))
def test_score_has_the_same_bits_however_a_batch_is_cut_and_ordered(
    name: str, rows: list[list[float]], cuts: list[int], seed: int
) -> None:
    model = program_of(families.compiled(name))
    taken = [row for row in rows if not np.isnan(scores_or_nan(model, np.array([row])))[0]]
    alone = [score for row in taken for score in model.score([row])]
    assert model.score(taken) == alone
    edges = sorted({0, *(cut for cut in cuts if cut < len(taken)), len(taken)})
    parts = [model.score(taken[a:b]) for a, b in pairwise(edges)]
    assert [score for part in parts for score in part] == alone
    order = np.random.default_rng(seed).permutation(len(taken)).tolist()
    assert model.score([taken[n] for n in order]) == [alone[n] for n in order]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [2, 7, 500])
def test_score_of_data_has_the_same_bits_alone_and_in_batches(name: str, size: int) -> None:
    family = next(each for each in COMPILES if each.name == name)
    rows = families.data(family.with_nan)[0][:500].tolist()
    model = program_of(families.compiled(name))
    batches = [model.score(rows[n : n + size]) for n in range(0, len(rows), size)]
    assert [score for batch in batches for score in batch] == [model.score([r])[0] for r in rows]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)  # of each family
@given(rows=rows_of_values)
def test_any_row_scores_or_is_refused_as_by_the_original(
    name: str, rows: list[list[float]]
) -> None:
    wanted = scores_or_nan(SklearnModel(families.fitted(name)), np.array(rows))
    got = scores_or_nan(program_of(families.compiled(name)), np.array(rows))
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_nan_goes_where_the_imputer_puts_it() -> None:
    name = "SimpleImputer, StandardScaler, LogisticRegression"
    original, model = families.fitted(name), program_of(families.compiled(name))
    whole = [3.0, 1.0, 2.0, 1.0, 0.0]
    means = original[0].statistics_.tolist()
    for place in range(5):
        holed = [*whole[:place], nan, *whole[place + 1 :]]
        filled = [*whole[:place], means[place], *whole[place + 1 :]]
        assert model.score([holed]) == model.score([filled])


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_value_that_the_original_does_not_take_is_refused_by_place(value: float) -> None:
    model = program_of(families.compiled("LogisticRegression"))
    whole = [1.0] * 5
    with pytest.raises(ValueError, match=rf"row 1: input 2 is {value}, which the model does not"):
        model.score([whole, [1.0, 1.0, value, 1.0, 1.0]])
    with pytest.raises(ValueError, match=rf"row 0: input 4 is {value}"):
        model.score([[1.0, 1.0, 1.0, 1.0, value]])


def test_unknown_category_is_refused_where_the_original_refuses_it() -> None:
    name = "OneHotEncoder that refuses unknown categories, RandomForestClassifier"
    model = program_of(families.compiled(name))
    known, unknown = [1.0, 1.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 9.0, 0.0]
    with pytest.raises(ValueError, match="unknown categories"):
        families.fitted(name).predict_proba([unknown])
    with pytest.raises(ValueError, match="row 1: the model gives NaN"):
        model.score([known, unknown])


def test_large_finite_values_are_scored_though_their_sum_is_not_finite() -> None:
    model = program_of(families.compiled(HGB))
    row = [1e308] * 5
    assert model.score([row]) == pytest.approx(SklearnModel(families.fitted(HGB)).score([row]))
    strict = program_of(families.compiled("DecisionTreeRegressor"))
    assert len(strict.score([row])) == 1


def test_no_rows_give_no_scores() -> None:
    assert program_of(families.compiled(HGB)).score([]) == []


def test_compiling_again_gives_the_same_bytes() -> None:
    rows = families.data()[0]
    assert compile_estimator(families.fitted(FOREST), rows) == families.compiled(FOREST)


def test_model_of_three_classes_is_refused() -> None:
    rows, labels = families.data()
    three = LogisticRegression(max_iter=2_000).fit(rows, labels + (rows[:, 2] > 4))
    with pytest.raises(NotCompiled, match="LogisticRegression: has 3 classes; expected two"):
        compile_estimator(three, rows)


def test_subclass_of_what_compiles_is_refused() -> None:
    class Inverted(LogisticRegression):  # type: ignore[misc]
        def predict_proba(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
            return super().predict_proba(X)[:, ::-1]

    rows, labels = families.data()
    with pytest.raises(NotCompiled, match="Inverted: no converter for this model"):
        compile_estimator(Inverted().fit(rows, labels), rows)


# What a careless converter would do is found out, each time by rows made for it.


def proof(name: str, score: Any, with_nan: bool = False) -> Certificate:
    """The certificate of a graph that somebody else wrote for a family's estimator."""
    graph, estimator = Graph(5), families.fitted(name)
    model = program_of(as_program(graph, score(graph, estimator), range(5), ()))
    rows = {"training": families.data(with_nan)[0]}
    return certify(estimator, model, rows, (0.5,), families.INPUTS)


def changed(trees: Sequence[Tree], **arrays: Any) -> list[Tree]:
    return [
        Tree(**{name: getattr(tree, name) for name in Tree.__slots__} | {
            name: change(tree) for name, change in arrays.items()
        })
        for tree in trees
    ]  # fmt: skip


def refusal(found: Certificate, name: str) -> str:
    with pytest.raises(NotCompiled) as caught:
        require(found, name)
    return str(caught.value)


def test_inputs_rounded_to_singles_are_found_out_in_trees_that_compare_doubles() -> None:
    found = proof(HGB, lambda g, e: g.sigmoid(g.trees(g.rounded(g.inputs), trees_of(e))), True)
    assert found.rows_over > 0
    message = refusal(found, HGB)
    assert re.match(rf"{HGB}: compiled, [\d,]+ of [\d,]+ rows differ by more than 1e-09", message)
    assert f"on a row of kind {found.worst!r}" in message


def test_inputs_left_as_doubles_are_found_out_in_trees_that_compare_singles() -> None:
    found = proof(FOREST, lambda g, e: g.divide(g.trees(g.inputs, trees_of(e)), 20.0))
    assert found.worst in {"threshold", "jump"}  # data alone would have shown nothing
    assert f"on a row of kind {found.worst!r}" in refusal(found, FOREST)


def test_thresholds_rounded_to_singles_are_found_out() -> None:
    single = {"threshold": lambda tree: tree.threshold.astype(np.float32).astype(np.float64)}
    found = proof(
        HGB, lambda g, e: g.sigmoid(g.trees(g.inputs, changed(trees_of(e), **single))), True
    )
    assert found.rows_over > 0


def test_split_that_is_off_by_one_double_is_found_out() -> None:
    below = {"threshold": lambda tree: np.nextafter(tree.threshold, -np.inf)}
    found = proof(
        HGB, lambda g, e: g.sigmoid(g.trees(g.inputs, changed(trees_of(e), **below))), True
    )
    assert found.rows_over > 0


def test_nan_that_goes_to_the_other_side_is_found_out() -> None:
    other = {"missing_left": lambda tree: 1 - tree.missing_left}
    found = proof(
        HGB, lambda g, e: g.sigmoid(g.trees(g.inputs, changed(trees_of(e), **other))), True
    )
    assert found.rows_over > 0


def test_probability_in_single_precision_is_found_out_and_flips_are_counted() -> None:
    def single(graph: Graph, estimator: Any) -> Tensor:
        weights, offset = estimator.coef_.T, estimator.intercept_
        line = graph.affine(graph.inputs, weights.astype(np.float32), offset.astype(np.float32))
        return graph.rounded(graph.sigmoid(line))

    name = "LogisticRegression"
    assert TOLERANCE < proof(name, single).largest_difference < 1e-5
    always = proof(name, lambda g, _: g.trees(g.inputs, [constant_tree(0.6)]))
    assert (
        always.flips["0.5"]
        >= (
            SklearnModel(families.fitted(name)).score(families.data()[0].tolist()) < np.float64(0.5)
        ).sum()
    )


class _Packets:
    """Scores whose last bit depends on the row's place, as of arithmetic in packets."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        whole = len(rows) - len(rows) % 2
        return [0.25] * whole + [nextafter(0.25, 1)] * (len(rows) - whole)


def test_row_whose_bits_depend_on_its_place_is_found_out() -> None:
    found = rows_apart(_Packets(), np.zeros((9, 5)))
    assert found > 0
    spoilt = msgspec.structs.replace(families.certificate(HGB), rows_apart=found)
    assert "rows score otherwise in a batch than alone" in refusal(spoilt, HGB)


# Edge rows.


@given(st.floats(-1e6, 1e6))
def test_neighbours_hold_the_doubles_next_to_a_threshold_and_where_rounding_turns(
    threshold: float,
) -> None:
    found = neighbours(threshold)
    assert {threshold, nextafter(threshold, inf), nextafter(threshold, -inf)} <= set(found)
    assert len({float(np.float32(value)) for value in found}) >= 3


def test_splits_are_those_of_the_trees_through_imputers_and_calibration() -> None:
    rows, labels = families.data()
    stump = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2).fit(rows, labels)
    (split,) = splits(stump)
    nodes = stump._predictors[0][0].nodes
    assert split == (int(nodes["feature_idx"][0]), float(nodes["num_threshold"][0]))
    calibrated = families.fitted("RandomForestClassifier, calibrated by isotonic regression")
    assert len(list(splits(calibrated))) > 100


def test_jumps_are_neighbouring_doubles_on_both_sides_of_a_threshold() -> None:
    rows, labels = families.data()
    stump = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2).fit(rows, labels)
    ((column, threshold),) = splits(stump)
    score = lambda some: scores_or_nan(SklearnModel(stump), some)  # noqa: E731
    jumps = edge_rows(stump, rows, score)["jump"][:, column].tolist()
    assert threshold in jumps
    assert nextafter(threshold, inf) in jumps


def test_edge_rows_of_the_same_seed_are_the_same() -> None:
    rows, labels = families.data()
    forest = RandomForestClassifier(3, random_state=0).fit(rows, labels)
    score = lambda some: scores_or_nan(SklearnModel(forest), some)  # noqa: E731
    first, again = edge_rows(forest, rows, score, 3), edge_rows(forest, rows, score, 3)
    for kind, made in first.items():
        np.testing.assert_array_equal(made, again[kind])
