"""Fit imputation and a model on replayed features. May import bundle, replay and model."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from headrace.definition import Field, Number
from headrace.errors import Misconfigured
from headrace.field_checks import LARGEST_NUMBER
from headrace.imputation import Imputer, Statistics, fit_statistics, grouping_fields, unfitted
from headrace.model import Bundle
from headrace.offline.bundle import manifest_of
from headrace.offline.imputed_rows import BY, group_columns, imputed_rows, scorable_rows
from headrace.offline.replay import Conditions, replay
from headrace.reference import Reference, fit_reference
from headrace.scoring import Scorer
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from headrace.definition import Definition
    from headrace.offline.feed import Feed

_LEAST_POSITIVES = 10

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Split:
    """Intervals of event time: train in [start, end), test in [test_start, test_end).

    Between ``end`` and ``test_start`` lie the days whose labels would not have been known yet.
    """

    start: datetime
    end: datetime
    test_start: datetime
    test_end: datetime


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model with its data, ready to be bundled."""

    estimator: Any
    statistics: Statistics
    inputs: list[list[float]]
    split: Split
    prior: float
    metrics: dict[str, float]
    reference: Reference = field(default_factory=dict)


class _NoModel:
    """Stands in while features are computed for training."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        return [nan] * len(rows)


def feature_scorer(definition: Definition) -> Scorer:
    """A scorer that only computes features: before there is a model, scores are NaN.

    Imputes what needs no training data, and NaN elsewhere.
    """
    imputer = Imputer(definition, unfitted(definition))
    manifest = manifest_of(definition, "none")
    return Scorer(Bundle(definition, manifest, _NoModel(), imputer))


def training_rows(
    definition: Definition,
    events: Feed,
    labels: Feed,
    progress: Callable[[int], None] = lambda _: None,
    conditions: Conditions | None = None,
) -> pl.DataFrame:
    """Features as the stream saw them, absent ones null, with the label of each event.

    Events without a label are left out. Labels that arrive twice: the last one counts. Fields
    that policies group by are there too: see ``imputed_rows.group_columns``.
    """
    frame = replay(
        feature_scorer(definition), [events, labels], progress=progress, conditions=conditions
    ).scores
    absent = [
        pl.when(pl.col("imputed").list.contains(name))
        .then(None)
        .otherwise(pl.col(name))
        .alias(name)
        for name in definition.columns
    ]
    label = labels.frame.sort(labels.arrival).select(
        pl.col(labels.source.id).alias(events.source.id),
        label=pl.col(definition.label.field).cast(pl.Int8),
    )
    label = label.unique(events.source.id, keep="last")
    rows = frame.with_columns(absent).join(
        label, on=events.source.id, how="inner", maintain_order="left"
    )
    groups = group_columns(definition, events)
    return rows.join(groups, on=events.source.id, how="left", maintain_order="left")


def split_by_time(rows: pl.DataFrame, definition: Definition, test_days: int = 7) -> Split:
    """The last days for the test, before them a gap of the labels' lateness, the rest to train.

    Raises:
        Misconfigured: The rows do not span that long.
    """
    first, last = rows["event_time"].min(), rows["event_time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        msg = "training: got no labelled event; expected labels with ids of the events"
        raise Misconfigured(msg)
    test_end = last + timedelta(microseconds=1)
    test_start = test_end - timedelta(days=test_days)
    end = test_start - definition.label.source.lateness
    if end <= first:
        need = timedelta(days=test_days) + definition.label.source.lateness
        msg = f"training: got events from {first} to {last}; expected more than {need}"
        raise Misconfigured(msg)
    return Split(first, end, test_start, test_end)


def reference_of(definition: Definition, events: Feed, split: Split) -> Reference:
    """What the scored source's fields looked like in the training interval."""
    time = pl.col(events.source.time)
    frame = events.frame.filter(time.is_between(split.start, split.end, closed="left"))
    columns = {
        name: _valid(frame[name], kind).to_list()
        for name, kind in definition.scored.fields.items()
        if name in frame.columns
    }
    invalid = {
        name: found.count(None) - frame[name].null_count() for name, found in columns.items()
    }
    return fit_reference(definition, columns, invalid)


def _valid(values: pl.Series, kind: Field) -> pl.Series:
    """A field's values, null where they break its bounds."""
    if not isinstance(kind, Number):
        return values
    low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
    high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
    return values.cast(pl.Float64).set(~values.is_between(low, high), None)


def train(definition: Definition, rows: pl.DataFrame, split: Split, estimator: Any) -> Trained:
    """Fit imputation and estimator on the training interval, measure on the test interval.

    Raises:
        Misconfigured: Too few positives to learn from, or an estimator that gives no probability.
        BundleError: An imputation statistic cannot be fitted.
    """
    if not hasattr(estimator, "predict_proba"):
        msg = f"estimator: {type(estimator).__name__} has no predict_proba; expected a classifier"
        raise Misconfigured(msg)
    time = pl.col("event_time")
    rows = scorable_rows(definition, rows)
    train_rows = rows.filter(time.is_between(split.start, split.end, closed="left"))
    test_rows = rows.filter(time.is_between(split.test_start, split.test_end, closed="left"))
    statistics = fit_statistics(
        definition,
        {name: train_rows[name].to_list() for name in definition.columns},
        {
            name: train_rows[BY + name].to_list()
            for name in grouping_fields(definition)
            if BY + name in rows.columns
        },
    )
    imputer = Imputer(definition, statistics)
    x, y = _matrix(definition, train_rows, imputer), train_rows["label"].to_numpy()
    if y.sum() < _LEAST_POSITIVES:
        msg = f"training: {int(y.sum())} positive labels; expected at least {_LEAST_POSITIVES}"
        raise Misconfigured(msg)
    _fit_estimator(estimator, x, y)
    held_out = _matrix(definition, test_rows, imputer)
    metrics = _metrics(test_rows, SklearnModel(estimator).score(held_out.tolist()))
    return Trained(estimator, statistics, x.tolist(), split, float(y.mean()), metrics)


def load_estimator(path: Path) -> Any:
    """The unfitted estimator that a file's function ``build()`` returns.

    Raises:
        Misconfigured: There is no such file or function.
    """
    spec = importlib.util.spec_from_file_location("headrace_estimator", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"{path.name}: no such file; expected a Python file with a function build()"
        raise Misconfigured(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "build", None)):
        msg = f"{path.name}: no function build(); expected one that returns an unfitted estimator"
        raise Misconfigured(msg)
    return module.build()


def _matrix(definition: Definition, rows: pl.DataFrame, imputer: Imputer) -> Matrix:
    return imputed_rows(definition, rows, imputer).select(definition.inputs).to_numpy()


def _fit_estimator(estimator: Any, x: Matrix, y: Any) -> None:
    try:
        estimator.fit(x, y)
    except ValueError as error:
        name = type(estimator).__name__
        msg = f"estimator: {name} cannot be fitted on these rows: {error}"
        raise Misconfigured(msg) from error


def _metrics(rows: pl.DataFrame, scores: Sequence[float]) -> dict[str, float]:
    labels = rows["label"].to_numpy()
    metrics = {"rows": float(len(labels)), "positives": float(labels.sum())}
    if 0 < labels.sum() < len(labels):
        metrics["roc_auc"] = round(float(roc_auc_score(labels, scores)), 6)
        metrics["average_precision"] = round(float(average_precision_score(labels, scores)), 6)
    return metrics
