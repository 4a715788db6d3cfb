"""What imputation is worth: the same history clean, with holes, and with holes filled by zeros.

May import replay, holes and imputation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from headrace.definition import Constant
from headrace.feature_row import Assembler
from headrace.imputation import Imputer, Statistic
from headrace.offline.holes import Holes
from headrace.offline.replay import replay
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.offline.feed import Feed
    from headrace.offline.replay import Conditions, Window


class Quality(NamedTuple):
    """How well scores rank the positives among the events that have a label.

    Attributes:
        events: Scored events with a label.
        positives: Of these, the positive ones.
        average_precision: Area under the curve of precision over recall.
        roc_auc: Area under the curve of true over false positive rate.
    """

    events: int
    positives: int
    average_precision: float
    roc_auc: float


def quality_of(scores: pl.DataFrame, labels: Feed, definition: Definition) -> Quality:
    """Hold scores against labels; of an event's labels, the last one counts.

    Args:
        scores: As of ``replay.ScoreColumns.frame``.
        labels: The feed of the label's source.
        definition: Says what the label is.
    """
    key = definition.scored.id
    truth = labels.frame.sort(labels.arrival).select(
        pl.col(labels.source.id).alias(key),
        label=pl.col(definition.label.field).cast(pl.Int8),
    )
    both = scores.select(key, "score").join(truth.unique(key, keep="last"), on=key, how="inner")
    found, label = both["score"].to_numpy(), both["label"].to_numpy()
    positives = int(label.sum())
    if not 0 < positives < len(label):
        return Quality(len(label), positives, float("nan"), float("nan"))
    precision = float(average_precision_score(label, found))
    return Quality(len(label), positives, precision, float(roc_auc_score(label, found)))


def zero_filling(scorer: Scorer) -> Scorer:
    """The same model behind the usual shortcut: whatever is absent is 0."""
    definition = scorer.definition
    zeros: Any = replace(definition, imputation={}, default_imputation=Constant(0.0))
    imputer = Imputer(zeros, {name: [Statistic(0.0)] for name in definition.columns})
    found = Scorer(scorer.bundle)
    found.assembler = Assembler(definition, found.codec, imputer)
    return found


def compared(
    scorer: Scorer, feeds: list[Feed], window: Window, how: Conditions, scores: pl.DataFrame
) -> dict[str, Quality]:
    """Three runs over one history: clean, with holes, and with zeros in the holes.

    Args:
        scorer: With the model.
        feeds: That of the scored source, then the labels'.
        window: Which part has scores.
        how: What the part with scores went through.
        scores: What came of that.
    """
    clean = replay(scorer, feeds, window, conditions=replace(how, holes=Holes())).scores
    zeros = replay(zero_filling(scorer), feeds, window, conditions=how).scores
    runs = {"clean": clean, "holes, imputed": scores, "holes, zeros": zeros}
    return {name: quality_of(each, feeds[1], scorer.definition) for name, each in runs.items()}
