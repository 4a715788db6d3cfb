"""What several of the integration tests start from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sklearn.linear_model import LogisticRegression

from headrace.imputation import Statistic
from headrace.loading import load_definition
from headrace.offline.bundle import write_bundle
from headrace.offline.splits import Split
from headrace.offline.train import Trained
from headrace.policies import steps
from tests.conftest import obtained
from tests.layers import SCORING, scoring_layers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LONG_AGO = datetime(2024, 5, 1, tzinfo=UTC)
TABLE = """
    tables=[
        Table(name="profile", entity=customer, fields={"limit": Number(at_least=0)}),
    ],
    batch_entity=customer,
"""
WITH_TABLE = (
    ("    batch_entity=customer,\n", TABLE),
    ("    Source,\n", "    Source,\n    Table,\n"),
    ('        "amount",\n', '        "amount",\n        "profile_limit",\n'),
)


@pytest.fixture(scope="session")
def layers() -> dict[str, Path]:
    """Folders of the layers that score, by logical id; built as the project is now."""
    folder = obtained("layers", scoring_layers)
    return {name: folder / name for name in SCORING}


@pytest.fixture(scope="session")
def model_dir(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference definition with a table, and a small model of its own."""
    return changed_model(root, tmp_path_factory.mktemp("model"), WITH_TABLE)


def changed_model(root: Path, folder: Path, changes: Iterable[tuple[str, str]]) -> Path:
    """The reference definition with passages replaced, and a small model for it."""
    text = (root / "layers" / "model" / "definition.py").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "definition.py").write_text(text, encoding="utf-8")
    definition = load_definition(folder / "definition.py")
    rows = [[float(n % 7)] * len(definition.inputs) for n in range(20)]
    estimator = LogisticRegression().fit(rows, [int(row[0] > 3) for row in rows])
    statistics = {
        name: [Statistic(3.0) for _ in steps(definition.policy(name))]
        for name in definition.columns
    }
    split = Split(LONG_AGO, LONG_AGO, LONG_AGO, LONG_AGO)
    write_bundle(folder, definition, Trained(estimator, statistics, rows, split, 0.1, {}))
    return folder
