"""What each way to fill holes is worth, in average precision on days that were held out.

History is replayed once clean and once with holes; every way then fits imputation and model on the
same rows of the first weeks and is measured on those of the last, with the same holes in both. So
this tells policies apart; what a model trained on clean history loses tells ``headrace replay
--compare``. Prints one JSON object, a table to standard error. Data: ``HEADRACE_ORACLE_DATA``, of
which every third customer, or else made up.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

from headrace.definition import AsNan, Constant, Definition, FirstOf, TrainingMean, TrainingMedian
from headrace.imputation import Imputer
from headrace.loading import load_definition
from headrace.offline.feed import Feed, feed_of, read_feed
from headrace.offline.holes import Holes
from headrace.offline.imputed_rows import imputed_rows
from headrace.offline.replay import Conditions
from headrace.offline.simulator import Plan, simulate
from headrace.offline.splits import split_by_time
from headrace.offline.train import labelled, train, training_features
from headrace.offline.training import load_recipe
from headrace.sklearn_model import SklearnModel

if TYPE_CHECKING:
    from headrace.definition import Policy

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "layers" / "model"
HOLES = "absent=0.1,negative=0.01,text=0.01,unseen=0.05"
ONE_IN, DRAWS = 3, 200


def main() -> None:
    """Replay twice, then fit and measure every way."""
    definition = load_definition(MODEL / "definition.py")
    name, events, labels = feeds(definition)
    clean = training_features(definition, events, labels)
    how = Conditions(holes=Holes.parse(HOLES, seed=1))
    holed = training_features(definition, events, labels, conditions=how)
    found = {"clean": measured(definition, clean, labels)}
    for way, changed in ways(definition).items():
        found[way] = measured(changed, holed, labels)
    tell(found)
    print(json.dumps({"data": name, "holes": HOLES, "ways": found}))


def feeds(definition: Definition) -> tuple[str, Feed, Feed]:
    """Events and labels of a third of the customers, or simulated ones."""
    source, label_source = definition.scored, definition.label.source
    folder = Path(os.environ.get("HEADRACE_ORACLE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "card_events.parquet").is_file():
        traffic = simulate(Plan(customers=1_500, terminals=3_000, days=60))
        return "simulated", feed_of(traffic.events, source), feed_of(traffic.labels, label_source)
    events = read_feed(folder / "card_events.parquet", source)
    labels = read_feed(folder / "card_labels.parquet", label_source)
    some = pl.col("customer_id") % ONE_IN == 0
    return (
        f"cards of one customer in {ONE_IN}",
        replace(events, frame=events.frame.filter(some)),
        replace(labels, frame=labels.frame.filter(some)),
    )


def ways(definition: Definition) -> dict[str, Definition]:
    """Name of a way -> the definition that fills holes so."""

    def with_amount(policy: Policy, **changes: Any) -> Definition:
        return replace(
            definition, imputation={**definition.imputation, "amount": policy}, **changes
        )

    chain = definition.imputation["amount"]
    indicators = [*definition.inputs, "amount_is_missing"]
    return {
        "zeros everywhere": replace(definition, imputation={}, default_imputation=Constant(0.0)),
        "training mean": with_amount(TrainingMean()),
        "training median": with_amount(TrainingMedian()),
        "the project's: running mean, else median": definition,
        "the same, with amount_is_missing": with_amount(chain, inputs=indicators),
        "the amount as NaN": with_amount(AsNan()),
        "NaN everywhere": replace(definition, imputation={}, default_imputation=AsNan()),
        "running mean, else NaN": with_amount(FirstOf([*_steps(chain)[:-1], AsNan()])),
    }


def _steps(policy: Policy) -> list[Any]:
    return list(policy.policies) if isinstance(policy, FirstOf) else [policy]


def measured(definition: Definition, features: pl.DataFrame, label_feed: Feed) -> dict[str, float]:
    """Average precision on the days held out, with the spread that drawing them again gives."""
    recipe = load_recipe(MODEL / "estimator.py")
    split = split_by_time(labelled(definition, features, label_feed), definition, recipe.training)
    rows = labelled(definition, features, label_feed, split)
    found = train(definition, rows, split, recipe.estimator, recipe.training)
    time = pl.col("event_time")
    held_out = rows.filter(time.is_between(split.test_start, split.test_end, closed="left"))
    imputer = Imputer(definition, found.statistics)
    inputs = imputed_rows(definition, held_out, imputer).select(definition.inputs).to_numpy()
    scores = np.asarray(SklearnModel(found.estimator).score(inputs.tolist()))
    labels = held_out["label"].to_numpy()
    random, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        some = random.integers(0, len(labels), len(labels))
        drawn.append(average_precision_score(labels[some], scores[some]))
    return {
        "average_precision": round(float(average_precision_score(labels, scores)), 4),
        "standard_error": round(float(np.std(drawn)), 4),
        "rows": len(labels),
        "positives": int(labels.sum()),
    }


def tell(found: dict[str, dict[str, float]]) -> None:
    """The table."""
    print("holes filled by | average precision | standard error", file=sys.stderr)
    for way, each in found.items():
        line = f"{way} | {each['average_precision']:.4f} | {each['standard_error']:.4f}"
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
