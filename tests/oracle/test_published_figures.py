"""The published protocol on features that somebody else computed: metrics come out as published.

The handbook's days are not in these files, so the figures are near, not equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from headrace.offline.train import train
from tests.published import METRICS, PROTOCOL, PUBLISHED, History, card_history

if TYPE_CHECKING:
    from pathlib import Path

ESTIMATORS = {
    "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "tree_of_depth_2": DecisionTreeClassifier(max_depth=2),
    "forest": RandomForestClassifier(n_estimators=25, max_depth=8),
}


@pytest.fixture(scope="module")
def history(root: Path, oracle_data: Path) -> History:
    if not (oracle_data / "card_features.parquet").is_file():
        pytest.skip(f"card_features.parquet is not in {oracle_data}; put the whole card data there")
    return card_history(root / "layers" / "model", oracle_data)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_metrics_are_near_the_published_ones(name: str, history: History) -> None:
    estimator: Any = ESTIMATORS[name]
    found = train(history.definition, history.rows, history.split, estimator, PROTOCOL).metrics
    for metric, value in zip(METRICS, PUBLISHED[name], strict=True):
        assert found[metric].value == pytest.approx(value, abs=0.1), metric
