"""The handbook's protocol on features that somebody else computed: 7 days, 7 of delay, 7 days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from headrace.loading import load_definition
from headrace.offline.feed import read_feed
from headrace.offline.splits import split_by_time
from headrace.offline.train import ENTITY, labelled
from headrace.offline.training import NOT_CAUGHT, Training

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.definition import Definition
    from headrace.offline.splits import Split

WEEK = timedelta(days=7)
PROTOCOL = Training(train=WEEK, gap=WEEK, test=WEEK, tested=NOT_CAUGHT, top=100, resamples=0)
METRICS = ("roc_auc", "average_precision", "precision_at_100_per_day")
PUBLISHED = {
    "logistic_regression": (0.871, 0.606, 0.291),
    "tree_of_depth_2": (0.763, 0.496, 0.241),
    "forest": (0.867, 0.658, 0.287),
}


class History(NamedTuple):
    """Rows as of ``train.labelled``, and the intervals."""

    definition: Definition
    rows: pl.DataFrame
    split: Split


def card_history(model_dir: Path, data: Path, weeks_back: int = 0) -> History:
    """The card data's features, with labels as they were known.

    Args:
        model_dir: Of the reference definition.
        data: Folder of the card data.
        weeks_back: How long before the last feature the test ends.
    """
    definition = load_definition(model_dir / "definition.py")
    labels = read_feed(data / "card_labels.parquet", definition.label.source)
    events = read_feed(data / "card_events.parquet", definition.scored).frame
    known = events.select("transaction_id", "event_time", "amount", "customer_id")
    rows = pl.read_parquet(data / "card_features.parquet").join(known, on="transaction_id")
    rows = rows.with_columns(
        pl.col("customer_id").cast(pl.String).alias(ENTITY),
        amount_to_mean_7d=pl.col("amount") / pl.col("customer_amount_mean_7d"),
    )
    last = split_by_time(rows, definition, PROTOCOL).test_end
    split = split_by_time(rows, definition, PROTOCOL, last - weeks_back * WEEK)
    return History(definition, labelled(definition, rows, labels, split), split)
