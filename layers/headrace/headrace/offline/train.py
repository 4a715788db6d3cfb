"""Fit imputation and a model on features as they were known. May import fitting and replay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.definition import Field, Number
from headrace.errors import Misconfigured
from headrace.field_checks import LARGEST_NUMBER
from headrace.imputation import Imputer, Statistics, fit_statistics, grouping_fields, unfitted
from headrace.model import Bundle
from headrace.offline.bundle import manifest_of
from headrace.offline.fitting import Labelled, fit
from headrace.offline.imputed_rows import BY, group_columns, imputed_rows, scorable_rows
from headrace.offline.metrics import Judged, Measured, measure
from headrace.offline.replay import Conditions, replay
from headrace.offline.training import NOT_CAUGHT, Training
from headrace.reference import Reference, fit_reference
from headrace.scoring import Scorer
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from headrace.definition import Definition, Source
    from headrace.offline.feed import Feed
    from headrace.offline.splits import Split

Matrix = np.ndarray[Any, np.dtype[np.float64]]

ENTITY, CAUGHT = "batch entity", "caught"
"""Columns of training rows: the batch entity's id; when a positive label of it was first known,
of an event since training began."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model with its data, ready to be bundled.

    Attributes:
        estimator: Fitted.
        statistics: Of imputation.
        inputs: Training rows as the model saw them, shape (n, inputs).
        split: The intervals.
        prior: Positive rate of the training rows.
        metrics: On the test interval, with their intervals.
        reference: What the fields looked like in the training interval.
        threshold: Decision threshold; None for no decision.
        training: How it was trained.
        chosen: Parameters that the search chose.
    """

    estimator: Any
    statistics: Statistics
    inputs: list[list[float]]
    split: Split
    prior: float
    metrics: dict[str, Measured]
    reference: Reference = field(default_factory=dict)
    threshold: float | None = None
    training: Training = field(default_factory=Training)
    chosen: dict[str, Any] = field(default_factory=dict)


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
    """Features as of ``training_features``, each event with its last label: see ``labelled``."""
    features = training_features(definition, events, labels, progress, conditions)
    return labelled(definition, features, labels)


def training_features(
    definition: Definition,
    events: Feed,
    labels: Feed,
    progress: Callable[[int], None] = lambda _: None,
    conditions: Conditions | None = None,
) -> pl.DataFrame:
    """Features as they were known when each event arrived, absent ones null.

    The one place where training gets its features from: here a replay through the stream scorer.

    Returns:
        The id of the events, ``event_time``, every column of the definition, the entity that
        metrics count by (``ENTITY``), and the fields that policies group by, as of
        ``imputed_rows.group_columns``.
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
    return with_entity(definition, frame.with_columns(absent), events)


def with_entity(definition: Definition, rows: pl.DataFrame, events: Feed) -> pl.DataFrame:
    """Give rows of events the entity that metrics count by, and what policies group by."""
    key = events.source.id
    entity = entity_field(definition.scored, definition)
    known = events.frame.select(key, pl.col(entity).cast(pl.String).alias(ENTITY)).unique(
        key, keep="first"
    )
    groups = group_columns(definition, events)
    for more in (known, groups):
        rows = rows.join(more, on=key, how="left", maintain_order="left")
    return rows


def labelled(
    definition: Definition, rows: pl.DataFrame, labels: Feed, split: Split | None = None
) -> pl.DataFrame:
    """Give rows their labels; those without one are left out.

    Of an event's labels the last one counts, or the one with the highest revision. Rows before the
    test get what had arrived when it began: a model cannot learn from what was not known yet.

    Args:
        definition: Says what the label is.
        rows: As of ``training_features``.
        labels: The feed of the label's source.
        split: The intervals; None for the last label of every row.

    Returns:
        The rows with ``label`` and, where there is a split, ``CAUGHT``.
    """
    if split is None:
        return _joined(definition, rows, labels)
    arrival = pl.col(labels.arrival)
    rows = _with_caught(definition, rows, labels, split.start)
    before = pl.col("event_time") < split.test_start
    known = replace(labels, frame=labels.frame.filter(arrival < split.test_start))
    parts = (rows.filter(before), known), (rows.filter(~before), labels)
    return pl.concat([_joined(definition, part, seen) for part, seen in parts])


def _joined(definition: Definition, rows: pl.DataFrame, labels: Feed) -> pl.DataFrame:
    key, source = definition.scored.id, labels.source
    ranked = labels.frame.sort(source.revised_by or labels.arrival, maintain_order=True)
    label = ranked.select(
        pl.col(source.id).alias(key), label=pl.col(definition.label.field).cast(pl.Int8)
    ).unique(key, keep="last")
    return rows.join(label, on=key, how="inner", maintain_order="left")


def _with_caught(
    definition: Definition, rows: pl.DataFrame, labels: Feed, since: datetime
) -> pl.DataFrame:
    if ENTITY not in rows.columns or definition.batch_entity not in labels.source.entities.values():
        return rows
    recent = pl.col(labels.source.time) >= since
    positive = recent & (pl.col(definition.label.field).cast(pl.Int8) == 1)
    entity = pl.col(entity_field(labels.source, definition)).cast(pl.String)
    first = labels.frame.filter(positive).group_by(entity.alias(ENTITY)).agg(
        pl.col(labels.arrival).min().alias(CAUGHT)
    )  # fmt: skip
    return rows.join(first, on=ENTITY, how="left", maintain_order="left")


def entity_field(source: Source, definition: Definition) -> str:
    """The source's field with the id of the batch entity."""
    entity = definition.batch_entity
    return next(name for name, each in source.entities.items() if each == entity)


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


def train(
    definition: Definition,
    rows: pl.DataFrame,
    split: Split,
    estimator: Any,
    training: Training | None = None,
) -> Trained:
    """Fit imputation and estimator on the training interval, measure on the test interval.

    Args:
        definition: What turns events into inputs.
        rows: As of ``labelled``.
        split: The intervals.
        estimator: Unfitted; it is not changed.
        training: How it is trained and judged.

    Raises:
        Misconfigured: As of ``fitting.fit``; or who was caught is wanted and not known.
        BundleError: An imputation statistic cannot be fitted.
    """
    how = training or Training()
    time = pl.col("event_time")
    rows = scorable_rows(definition, rows)
    train_rows = rows.filter(time.is_between(split.start, split.end, closed="left"))
    test_rows = rows.filter(time.is_between(split.test_start, split.test_end, closed="left"))
    statistics = fitted_statistics(definition, train_rows)
    imputer = Imputer(definition, statistics)
    of_training = labelled_matrix(definition, train_rows, imputer)
    found = fit(estimator, of_training, split, how)
    scores = SklearnModel(found.estimator).score(
        input_matrix(definition, test_rows, imputer).tolist()
    )
    judged = Judged(judged_rows(test_rows, scores, how, split), found.threshold, how.top)
    return Trained(
        estimator=found.estimator,
        statistics=statistics,
        inputs=of_training.x.tolist(),
        split=split,
        prior=float(of_training.y.mean()),
        metrics=_counts(judged.frame) | measure(judged, how.resamples, how.seed),
        threshold=found.threshold,
        training=how,
        chosen=found.chosen,
    )


def fitted_statistics(definition: Definition, rows: pl.DataFrame) -> Statistics:
    """Imputation statistics of training rows."""
    return fit_statistics(
        definition,
        {name: rows[name].to_list() for name in definition.columns},
        {
            name: rows[BY + name].to_list()
            for name in grouping_fields(definition)
            if BY + name in rows.columns
        },
    )


def labelled_matrix(definition: Definition, rows: pl.DataFrame, imputer: Imputer) -> Labelled:
    """Rows of ``labelled`` as an estimator takes them."""
    times = rows["event_time"].dt.epoch("us").to_numpy()
    return Labelled(input_matrix(definition, rows, imputer), rows["label"].to_numpy(), times)


def input_matrix(definition: Definition, rows: pl.DataFrame, imputer: Imputer) -> Matrix:
    """The model's inputs, shape (rows, inputs)."""
    return imputed_rows(definition, rows, imputer).select(definition.inputs).to_numpy()


def judged_rows(
    rows: pl.DataFrame, scores: Sequence[float], training: Training, split: Split
) -> pl.DataFrame:
    """Test rows as ``metrics`` judges them; days are counted from when the test begins."""
    since = pl.col("event_time") - split.test_start
    scored = rows.with_columns(score=pl.Series(scores, dtype=pl.Float64), day=since.dt.total_days())
    if training.tested == NOT_CAUGHT:
        if CAUGHT not in rows.columns:
            msg = f"training: tested is {NOT_CAUGHT!r}; expected labels that name the batch entity"
            raise Misconfigured(msg)
        caught = pl.col(CAUGHT)
        scored = scored.filter(caught.is_null() | (caught > pl.col("event_time")))
    return scored.select("label", "score", "day", entity=ENTITY)


def _counts(scored: pl.DataFrame) -> dict[str, Measured]:
    return {
        "rows": Measured(float(len(scored))),
        "positives": Measured(float(scored["label"].sum())),
    }
