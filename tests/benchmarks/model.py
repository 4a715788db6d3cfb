"""One row through a compiled model and through scikit-learn, in CPU time. Prints one JSON object.

The reference model, a forest of 100 trees, gradient boosting of 100 trees, and a logistic
regression behind imputer and scaler, each fitted on rows as the reference model sees them. Both
sides take turns; medians. Also what a process pays before its first score, and the size of what it
needs.
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
from headrace.offline.compile import certify, compile_estimator
from headrace.onnx_model import OnnxModel
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from collections.abc import Callable

BUNDLE = Path(__file__).parents[2] / "layers" / "model" / "bundle"
ROWS, TURNS, COMPILED_CALLS, ORIGINAL_CALLS = 20_000, 9, 2_000, 20
NEEDED = {
    "compiled": ["onnxruntime", "flatbuffers", "protobuf", "packaging"],
    "scikit_learn": ["scikit-learn", "scipy", "joblib", "threadpoolctl", "narwhals"],
}
START = {
    "compiled": "import onnxruntime",
    "scikit_learn": "import joblib, sklearn.ensemble, sklearn.pipeline",
}


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
        figures[f"{name}_import_cpu_ms"] = import_ms(START[name])
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
    """Microseconds of both for one row, how many times faster, and the certificate's difference."""
    compiled = compile_estimator(estimator, rows)
    model, original, row = OnnxModel(compiled), SklearnModel(estimator), [rows[0].tolist()]
    fast, slow = [], []
    for _ in range(TURNS):
        fast.append(cpu_us(lambda: model.score(row), COMPILED_CALLS))
        slow.append(cpu_us(lambda: original.score(row), ORIGINAL_CALLS))
    proof = certify(estimator, compiled, {"training": rows}, (0.5,), list(map(str, range(99))))
    batch = rows[:500].tolist()
    return {
        "us": round(median(fast), 1),
        "scikit_learn_us": round(median(slow), 1),
        "times_faster": round(median(slow) / median(fast), 1),
        "us_per_row_of_500": round(cpu_us(lambda: model.score(batch), 20) / 500, 2),
        "scikit_learn_us_per_row_of_500": round(cpu_us(lambda: original.score(batch), 20) / 500, 2),
        "largest_difference": proof.largest_difference,
        "rows_over": proof.rows_over,
        "rows_apart": proof.rows_apart,
        "kb": round(len(compiled) / 1024, 1),
    }


def cpu_us(call: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times * 1e6


def megabytes(package: str) -> float:
    """Of a distribution's files, without bytecode."""
    paths = [path for path in files(package) or () if path.suffix != ".pyc"]
    return sum(Path(str(path.locate())).stat().st_size for path in paths) / 2**20


def import_ms(statement: str) -> float:
    """CPU time of an import in a fresh process that has numpy already; median."""
    code = (
        f"import numpy, time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    )
    runs = [
        float(
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout
        )
        for _ in range(5)
    ]
    return round(median(runs) * 1_000, 1)


if __name__ == "__main__":
    main()
