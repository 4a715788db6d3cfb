"""Compile a scikit-learn model to a program and prove that it scores alike.

May import edge_rows, graphs and what scores. `compile_estimator` and `certify` stand for
themselves; `compiled_for` is what a bundle gets under its definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.certificate import Certificate
from headrace.errors import NotCompiled
from headrace.model import SCIKIT_LEARN
from headrace.offline.edge_rows import edge_rows
from headrace.offline.graph import Graph
from headrace.offline.graph_estimators import output
from headrace.offline.graph_onnx import as_onnx
from headrace.offline.graph_program import as_program
from headrace.onnx_model import TAKES_INFINITY, TAKES_NAN
from headrace.program import program_of
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Definition
    from headrace.model import Model
    from headrace.offline.edge_rows import Matrix

# What the golden rows of a bundle are held to as well; trees without a link differ by 0.
TOLERANCE = 1e-9
_MOST_APART = 300
_CUTS = (1, 2, 7)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What serves a model.

    Attributes:
        data: The compiled model; None where scikit-learn serves.
        certificate: What was compared; None where there was nothing to compare.
        why_not: Why scikit-learn serves; empty where it does not.
    """

    data: bytes | None
    certificate: Certificate | None
    why_not: str = ""


def compiled_for(
    definition: Definition,
    estimator: Any,
    rows: Mapping[str, Matrix],
    thresholds: Sequence[float],
) -> Compiled:
    """Compile and prove on rows of data and on edge rows made of them.

    Args:
        definition: Says what becomes of a model that is not proven.
        estimator: The fitted original.
        rows: Kind -> rows of data, shape (n, inputs); at least one row in all.
        thresholds: Decision thresholds at which flips are counted.

    Raises:
        NotCompiled: It has no compiled form that scores alike, and the definition refuses that.
    """
    certificate = None
    try:
        data = compile_estimator(estimator, np.vstack(list(rows.values())))
        certificate = certify(
            estimator, _loaded(estimator, data), rows, thresholds, definition.inputs
        )
        require(certificate, type(estimator).__name__)
    except NotCompiled as error:
        if definition.if_not_compiled != SCIKIT_LEARN:
            hint = f"if_not_compiled={SCIKIT_LEARN!r} in the definition lets scikit-learn serve it"
            msg = f"{error}; {hint}"
            raise NotCompiled(msg) from error
        return Compiled(None, certificate, str(error))
    return Compiled(data, certificate)


def compile_estimator(estimator: Any, rows: Matrix) -> bytes:
    """The program of a fitted classifier of two classes, a regressor, or a pipeline.

    Args:
        estimator: The original.
        rows: Some rows that it takes, shape (n, inputs).

    Returns:
        A model that takes NaN and infinity in the inputs in which the original takes them.

    Raises:
        NotCompiled: There is no converter for it, or for a part of it.
    """
    graph = Graph(rows.shape[1])
    score = output(graph, estimator, graph.inputs)
    return as_program(graph, score, *taken(estimator, rows[0]))


def onnx_of(estimator: Any, rows: Matrix) -> bytes:
    """The same model as ONNX, for other runtimes; ``onnx_model`` runs it.

    Args:
        estimator: The original.
        rows: Some rows that it takes, shape (n, inputs).

    Raises:
        NotCompiled: As of ``compile_estimator``.
    """
    graph = Graph(rows.shape[1])
    score = output(graph, estimator, graph.inputs)
    nan, infinity = (",".join(map(str, each)) for each in taken(estimator, rows[0]))
    return as_onnx(graph, score, {TAKES_NAN: nan, TAKES_INFINITY: infinity})


def taken(estimator: Any, row: Matrix) -> tuple[list[int], list[int]]:
    """Numbers of the inputs in which an estimator takes NaN, and those in which infinity.

    Args:
        estimator: Fitted.
        row: It takes this one; values are tried out in it.
    """
    original = SklearnModel(estimator)
    return _taken(original, row, (np.nan,)), _taken(original, row, (np.inf, -np.inf))


def _loaded(estimator: Any, data: bytes) -> Model:
    try:
        return program_of(data)
    except ValueError as error:
        msg = f"{type(estimator).__name__}: {error}; expected a program that loads"
        raise NotCompiled(msg) from error


def certify(
    estimator: Any,
    model: Model,
    rows: Mapping[str, Matrix],
    thresholds: Sequence[float],
    inputs: Sequence[str],
) -> Certificate:
    """Compare a compiled model with its original on rows of data and on edge rows.

    Args:
        estimator: The original.
        model: What became of it.
        rows: Kind -> rows of data, shape (n, inputs).
        thresholds: At which flips are counted.
        inputs: Names of the inputs.
    """
    original = SklearnModel(estimator)
    data = np.vstack(list(rows.values()))
    edges = edge_rows(estimator, data, lambda some: scores_or_nan(original, some))
    every = {**rows, **edges}
    kinds = np.repeat(list(every), [len(each) for each in every.values()])
    whole = np.vstack(list(every.values()))
    wanted, got = (
        np.concatenate([scores_or_nan(each, part) for part in every.values()])
        for each in (original, model)
    )
    refused = np.isnan(wanted) & np.isnan(got)
    differences = np.where(refused, 0.0, _differences(wanted, got))
    worst = int(differences.argmax())
    return Certificate(
        tolerance=TOLERANCE,
        rows={kind: int(((kinds == kind) & ~refused).sum()) for kind in every},
        refused=int(refused.sum()),
        largest_difference=float(differences[worst]),
        worst=str(kinds[worst]) if differences[worst] else "",
        rows_over=int((differences > TOLERANCE).sum()),
        flips={f"{t:.6g}": int(((wanted >= t) != (got >= t)).sum()) for t in thresholds},
        rows_apart=rows_apart(model, whole[~np.isnan(got)]),
        takes_nan=nan_taken(estimator, data[0], inputs),
    )


def nan_taken(estimator: Any, row: Matrix, inputs: Sequence[str]) -> list[str]:
    """Names of the inputs in which an estimator takes NaN, tried in a row that it takes."""
    return [inputs[place] for place in _taken(SklearnModel(estimator), row, (np.nan,))]


def require(certificate: Certificate, name: str) -> None:
    """Refuse what is not within tolerance.

    Raises:
        NotCompiled: A row is over it, or scores otherwise in a batch than alone.
    """
    if certificate.rows_over:
        msg = (
            f"{name}: compiled, {certificate.rows_over:,} of {sum(certificate.rows.values()):,} "
            f"rows differ by more than {certificate.tolerance:g}, by up to "
            f"{certificate.largest_difference:.3g} on a row of kind {certificate.worst!r}"
        )
        raise NotCompiled(msg)
    if certificate.rows_apart:
        msg = (
            f"{name}: compiled, {certificate.rows_apart} rows score otherwise in a batch than alone"
        )
        raise NotCompiled(msg)


def scores_or_nan(model: Model, rows: Matrix) -> Matrix:
    """Scores, NaN for each row that the model refuses with a ValueError; found by halving."""
    if not len(rows):
        return np.empty(0)
    try:
        with np.errstate(all="ignore"):  # edge rows are beyond what scikit-learn is used to
            return np.asarray(model.score(rows.tolist()))
    except ValueError:
        if len(rows) == 1:
            return np.array([np.nan])
        half = len(rows) // 2
        return np.concatenate(
            [scores_or_nan(model, rows[:half]), scores_or_nan(model, rows[half:])]
        )


def _taken(original: Model, row: Matrix, values: Sequence[float]) -> list[int]:
    """Numbers of the inputs in which the original takes every one of the values."""
    taken = []
    for column in range(len(row)):
        rows = np.tile(row, (len(values), 1))
        rows[:, column] = values
        if not np.isnan(scores_or_nan(original, rows)).any():
            taken.append(column)
    return taken


def _differences(wanted: Matrix, got: Matrix) -> Matrix:
    """Absolute up to 1, relative above; 1 where only one of the two refuses a row."""
    found = np.abs(wanted - got) / np.maximum(1.0, np.abs(wanted))
    return np.where(np.isnan(found), 1.0, found)


def rows_apart(model: Model, rows: Matrix) -> int:
    """How many of some rows have other bits when cut into other batches, or in another order."""
    some = rows[:: -(-len(rows) // _MOST_APART) or 1]
    whole = np.asarray(model.score(some.tolist()))
    apart = np.asarray(model.score(some[::-1].tolist()))[::-1] != whole
    for size in _CUTS:
        parts = [model.score(some[n : n + size].tolist()) for n in range(0, len(some), size)]
        apart |= np.concatenate(parts) != whole
    return int(apart.sum())
