"""One row through a compiled model and through scikit-learn, in CPU time. Prints one JSON object.

The reference model, a forest of 100 trees, gradient boosting of 100 trees, and a logistic
regression behind imputer and scaler, each fitted on rows as the reference model sees them. Beside
them the same graph in onnxruntime, the program in Python, and trees as arrays that numpy walks. All
take turns, over rows that differ; medians. Also batches, what a process pays before its first score
and the size of what it needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from importlib.metadata import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import joblib
import msgspec
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.model import GOLDEN, ORIGINAL, GoldenRow
from headrace.offline.compile import certify, compile_estimator, onnx_of
from headrace.offline.graph_trees import BINNED, trees_of
from headrace.onnx_model import OnnxModel
from headrace.program import program_of
from headrace.program_twin import Program
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.model import Model

BUNDLE = Path(__file__).parents[2] / "layers" / "model" / "bundle"
ROWS, TURNS, CALLS, ORIGINAL_CALLS = 20_000, 9, 1_000, 20
PYTHON_CALLS = 50
BATCHES = (500, 5_000)
NEEDED = {
    "onnxruntime": ["onnxruntime", "numpy", "flatbuffers", "protobuf", "packaging"],
    "scikit_learn": ["scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl", "narwhals"],
}
START = {
    "program": "import headrace.program",
    "onnxruntime": "import onnxruntime",
    "scikit_learn": "import joblib, sklearn.ensemble, sklearn.pipeline",
}


class Arrays:
    """Trees as arrays, level by level over all of them at once; gives their sum."""

    def __init__(self, estimator: Any) -> None:
        trees = trees_of(estimator)
        sizes = [len(tree.left) for tree in trees]
        self._roots = np.cumsum([0, *sizes[:-1]])
        starts = np.repeat(self._roots, sizes)
        own = np.arange(len(starts))
        leaf = np.concatenate([tree.left for tree in trees]) < 0
        sides = [np.concatenate([getattr(t, side) for t in trees]) for side in ("left", "right")]
        self._left, self._right = (np.where(leaf, own, side + starts) for side in sides)
        self._feature, self._threshold, self._missing, self._value = (
            np.concatenate([getattr(tree, name) for tree in trees])
            for name in ("feature", "threshold", "missing_left", "value")
        )
        self._feature = self._feature.astype(np.int64)
        self._single = type(estimator) not in BINNED

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        return [self._of_row(np.array(row)) for row in rows]

    def _of_row(self, x: Any) -> float:
        x = x.astype(np.float32).astype(np.float64) if self._single else x
        at = self._roots
        while True:
            found = x[self._feature[at]]
            left = (found <= self._threshold[at]) | (np.isnan(found) & (self._missing[at] != 0))
            after = np.where(left, self._left[at], self._right[at])
            if (after == at).all():
                return float(self._value[at].sum())
            at = after


def main() -> None:
    """Measure every model, then what a process needs."""
    warnings.simplefilter("ignore")
    rows, labels = data()
    reference = joblib.load(BUNDLE / ORIGINAL)
    found: dict[str, Any] = {"reference": compare(reference, rows)}
    for name, estimator in {
        "forest": RandomForestClassifier(100, random_state=0),
        "boosting": GradientBoostingClassifier(n_estimators=100),
        "linear": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    }.items():
        found[name] = compare(estimator.fit(rows, labels), rows)
    figures = {
        f"{name}_{key}": value for name, each in found.items() for key, value in each.items()
    }
    for name, packages in NEEDED.items():
        figures[f"{name}_mb_unpacked"] = round(sum(map(megabytes, packages)), 1)
    for name, statement in START.items():
        figures[f"{name}_import_cpu_ms"] = import_ms(statement)
    print(json.dumps(figures))


def data() -> tuple[Any, Any]:
    """Rows between the bundle's golden rows, so that they look like data; labels by their score."""
    golden = msgspec.json.decode((BUNDLE / GOLDEN).read_bytes(), type=list[GoldenRow])
    seen = np.asarray([row.row() for row in golden])
    random = np.random.default_rng(0)
    picked = random.integers(len(seen), size=(ROWS, seen.shape[1]))
    rows = np.round(
        np.take_along_axis(seen, picked, axis=0) * random.lognormal(0, 0.2, picked.shape), 2
    )
    scores = np.asarray(SklearnModel(joblib.load(BUNDLE / ORIGINAL)).score(rows.tolist()))
    return rows, (random.random(ROWS) < np.clip(5 * scores, 0.02, 0.9)).astype(int)


def compare(estimator: Any, rows: Any) -> dict[str, float]:
    """Microseconds of each for one row, how many times faster, and the certificate's difference."""
    compiled = compile_estimator(estimator, rows)
    model, original = program_of(compiled), SklearnModel(estimator)
    onnx = OnnxModel(onnx_of(estimator, rows))
    sides: dict[str, tuple[Model, int]] = {
        "": (model, CALLS),
        "onnxruntime_": (onnx, CALLS),
        "python_": (program_of(compiled, Program), PYTHON_CALLS),
        "scikit_learn_": (original, ORIGINAL_CALLS),
    }
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    if hasattr(last, "n_estimators") or type(last) in BINNED:
        sides["arrays_"] = (Arrays(last), PYTHON_CALLS)
    some = [[row] for row in rows[:CALLS].tolist()]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, (side, calls) in sides.items():
            times[name].append(one_by_one(side, some[:calls]))
    found = {f"{name}us": round(median(each), 2) for name, each in times.items()}
    fast = median(times[""])
    found["times_faster"] = round(median(times["scikit_learn_"]) / fast, 1)
    found["times_faster_than_onnxruntime"] = round(median(times["onnxruntime_"]) / fast, 1)
    for size in BATCHES:
        batch = rows[:size].tolist()
        for name in ("", "onnxruntime_", "scikit_learn_"):
            spent = median(at_once(sides[name][0], batch) for _ in range(TURNS))
            found[f"{name}us_per_row_of_{size}"] = round(spent, 2)
    proof = certify(estimator, model, {"training": rows}, (0.5,), list(map(str, range(99))))
    return {
        **found,
        "largest_difference": proof.largest_difference,
        "rows_over": proof.rows_over,
        "rows_apart": proof.rows_apart,
        "kb": round(len(compiled) / 1024, 1),
    }


def one_by_one(model: Model, rows: Sequence[list[list[float]]]) -> float:
    """Microseconds of CPU for a row, each in a call of its own."""
    started = time.process_time()
    for row in rows:
        model.score(row)
    return (time.process_time() - started) / len(rows) * 1e6


def at_once(model: Model, rows: Sequence[Sequence[float]]) -> float:
    """Microseconds of CPU for a row, all in one call."""
    started = time.process_time()
    model.score(rows)
    return (time.process_time() - started) / len(rows) * 1e6


def megabytes(package: str) -> float:
    """Of a distribution's files, without bytecode."""
    paths = [path for path in files(package) or () if path.suffix != ".pyc"]
    return sum(Path(str(path.locate())).stat().st_size for path in paths) / 2**20


def import_ms(statement: str) -> float:
    """CPU time of an import in a fresh process; median."""
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    runs = [
        float(
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout
        )
        for _ in range(5)
    ]
    return round(median(runs) * 1_000, 1)


if __name__ == "__main__":
    main()
