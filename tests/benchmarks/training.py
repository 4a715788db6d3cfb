"""Metrics of the published protocol on the card data, over three weeks; and what intervals cost.

Features are somebody else's, so no replay is in it. CPU of the fit of the reference estimator on a
week, and of 500 draws for intervals, side by side. Prints one JSON object; needs the card data.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from headrace.offline.train import train
from headrace.offline.training import load_recipe

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.published import METRICS, PROTOCOL, PUBLISHED, History, card_history  # noqa: E402

MODEL = ROOT / "layers" / "model"
DRAWS = 500
ESTIMATORS: dict[str, Any] = {
    "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "tree_of_depth_2": DecisionTreeClassifier(max_depth=2),
}


def main() -> None:
    """Train and measure."""
    data = Path(os.environ.get("HEADRACE_ORACLE_DATA", ROOT.parent / "shared" / "data"))
    weeks = [card_history(MODEL, data, back) for back in (2, 1, 0)]
    found: dict[str, Any] = {
        name: {
            "published": dict(zip(METRICS, PUBLISHED[name], strict=True)),
            **{f"{w.split.test_start:%Y-%m-%d}": measured(w, estimator) for w in weeks},
        }
        for name, estimator in ESTIMATORS.items()
    }
    print(json.dumps(found | cost(weeks[-1])))


def measured(history: History, estimator: Any) -> dict[str, float]:
    """Of one week."""
    found = train(history.definition, history.rows, history.split, estimator, PROTOCOL).metrics
    return {name: round(found[name].value, 3) for name in METRICS}


def cost(history: History) -> dict[str, float]:
    """CPU seconds of training and measuring a week without and with intervals."""
    estimator = load_recipe(MODEL / "estimator.py").estimator
    seconds = []
    for draws in (0, DRAWS):
        how = replace(PROTOCOL, resamples=draws)
        began = time.process_time()
        found = train(history.definition, history.rows, history.split, estimator, how)
        seconds.append(time.process_time() - began)
    return {
        "test_rows": found.metrics["rows"].value,
        "fit_and_measure_cpu_s": round(seconds[0], 2),
        f"intervals_of_{DRAWS}_draws_cpu_s": round(seconds[1] - seconds[0], 2),
    }


if __name__ == "__main__":
    main()
