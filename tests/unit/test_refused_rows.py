"""A row that the model does not take: the ladder answers for it, and the others are scored."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from headrace.adapters.memory import MemoryStream
from headrace.adapters.telemetry import metrics, note_outcome
from headrace.definition import AsNan, Constant, TrainingMedian
from headrace.errors import BundleError
from headrace.events import us_to_time
from headrace.model import scores_of
from headrace.offline.bundle import write_bundle
from headrace.offline.splits import Split
from headrace.offline.train import Trained
from headrace.requests import RequestScorer
from headrace.scores import Passed, Reason, Rung
from headrace.sklearn_model import SklearnModel
from tests.fakes import (
    DAY,
    HOUR,
    NOON,
    PRIOR,
    DirectLookups,
    Lab,
    OpenModel,
    encoded,
    make_definition,
    payment,
    record,
    statistics_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEFINITION = make_definition(
    imputation={"amount": AsNan(), "shop_risk": Constant(0.25)},
    default_imputation=TrainingMedian(),
)
HOLE = payment(2, NOON + HOUR, amount=None)


class NoNan(OpenModel):
    """Takes no NaN, as many of scikit-learn's do not."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        if any(isnan(value) for row in rows for value in row):
            msg = "Input X contains NaN"
            raise ValueError(msg)
        return super().score(rows)


@pytest.fixture
def lab() -> Lab:
    """Card 1 has a real-time score."""
    found = Lab(DEFINITION)
    found.scorer.bundle = replace(found.bundle, model=NoNan())
    found.stream.score([record(payment(1), NOON)])
    found.clock.set(NOON + HOUR)
    return found


def test_stream_gives_the_last_score_and_scores_the_rest_of_the_batch(lab: Lab) -> None:
    batch = [record(HOLE, NOON + HOUR, 5), record(payment(3, NOON + HOUR), NOON + HOUR, 6)]
    outcome = lab.stream.score(batch)
    assert (outcome.failed, outcome.scored, outcome.folded) == (None, 2, 2)
    refused = lab.scores.get("2")
    assert (refused.rung, refused.reason, refused.given) == (Rung.LAST, Reason.ROW_REFUSED, "1")
    assert (refused.features["amount"], refused.imputed["amount"].policy) == (None, "as_nan")
    assert lab.scores.get("3").rung is Rung.REAL_TIME
    assert outcome.reasons == {Reason.ROW_REFUSED: 1}


def test_request_gives_the_same_as_the_stream(lab: Lab) -> None:
    lookups = DirectLookups(lab.states, lab.scores)
    asked = RequestScorer(lab.scorer, lookups, lab.scores, MemoryStream(), lab.clock)
    found = asked.score(encoded(HOLE))
    lab.stream.score([record(HOLE, NOON + HOUR, 5)])
    assert found == lab.scores.get("2")


def test_refused_row_of_an_unknown_entity_gets_the_prior(lab: Lab) -> None:
    lab.stream.score([record(HOLE | {"card_id": 9}, NOON + HOUR, 5)])
    found = lab.scores.get("2")
    assert (found.rung, found.score) == (Rung.PRIOR, PRIOR)
    assert found.causes == {Rung.LAST: Passed.NONE_STORED, Rung.BATCH: Passed.NONE_STORED}


def test_borrowed_score_never_becomes_the_entitys_last_one(lab: Lab) -> None:
    lab.stream.score([record(HOLE, NOON + HOUR, 5)])
    assert lab.scores.get_known(["card#1"])["card#1"].last.id == "1"


def test_reasons_of_the_stream_are_counted_among_fallbacks(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    note_outcome(lab.stream.score([record(HOLE, NOON + HOUR, 5)]))
    metrics.flush_metrics()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["Fallbacks"] for line in lines if line.get("reason") == "row_refused"] == [[1.0]]


def test_only_what_the_model_refuses_is_without_a_score() -> None:
    model = NoNan()
    rows = [[1.0], [float("nan")], [3.0]]
    assert scores_of(model, rows) == [*OpenModel().score([[1.0]]), None, *model.score([[3.0]])]
    assert scores_of(model, []) == []


def test_failure_that_is_no_refusal_is_not_taken_for_one() -> None:
    class Broken(OpenModel):
        def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
            msg = "out of memory"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="out of memory"):
        scores_of(Broken(), [[1.0]])


def test_scikit_learn_that_gives_nan_refuses_the_row() -> None:
    class Undecided:
        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.column_stack([1 - x[:, 0], x[:, 0]])

    with pytest.raises(ValueError, match="row 1: the model gives NaN"):
        SklearnModel(Undecided()).score([[0.5], [float("nan")]])


INPUTS_LEFT = ["amount", "discount"]


def bundled(folder: Path, estimator: object) -> None:
    """Train on rows that lack nothing; live events may."""
    definition = make_definition(inputs=INPUTS_LEFT, imputation={"amount": AsNan()})
    x = np.array([[n % 7, n % 3] for n in range(60)], dtype=np.float64)
    fitted = estimator.fit(x, x[:, 0] > 3)  # type: ignore[attr-defined]
    split = Split(*(us_to_time(NOON + n * DAY) for n in range(4)))
    write_bundle(
        folder, definition, Trained(fitted, statistics_of(definition), x.tolist(), split, 0.4, {})
    )


def test_model_that_takes_no_nan_is_not_bundled_where_the_definition_leaves_nan(
    tmp_path: Path,
) -> None:
    with pytest.raises(BundleError, match=r"AsNan\(\) leaves amount absent, where Logistic"):
        bundled(tmp_path, LogisticRegression())
    assert not (tmp_path / "bundle").exists()
    bundled(tmp_path, make_pipeline(SimpleImputer(), LogisticRegression()))
    assert (tmp_path / "bundle" / "manifest.json").is_file()
