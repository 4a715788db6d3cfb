"""A model's card: what it is, what it came from, how good it is and for what. Plain Markdown.

May import model, metrics and definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.offline.training import NOT_CAUGHT
from headrace.policies import steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from headrace.definition import Definition
    from headrace.imputation import Statistic
    from headrace.manifest import Manifest
    from headrace.offline.metrics import Measured
    from headrace.offline.train import Trained

CARD = "model-card.md"
_TO_BE_WRITTEN = "Nobody has said so yet: write it as `{}` of `training` in `estimator.py`."


def how_trained(trained: Trained) -> dict[str, str]:
    """How a model was trained, as short texts for the manifest."""
    split, training = trained.split, trained.training
    return {
        "gap": str(split.gap),
        "tested": f"{_day(split.test_start)} to {_day(split.test_end)}",
        "tested_on": training.tested,
        "search": repr(trained.chosen) if training.search else "none",
        "calibration": training.calibration,
        "threshold": repr(training.threshold) if training.threshold else "none",
        "resamples": str(training.resamples),
        "seed": str(training.seed),
    }


def model_card(definition: Definition, manifest: Manifest, trained: Trained) -> str:
    """The card of a bundle.

    Args:
        definition: Says the policies of imputation.
        manifest: Sealed.
        trained: What it was made of.
    """
    parts = [
        (f"Model {manifest.model_version}", [manifest.estimator]),
        ("What it is for", [trained.training.meant_for or _TO_BE_WRITTEN.format("meant_for")]),
        ("What it must not be used for", [
            trained.training.not_for or _TO_BE_WRITTEN.format("not_for")
        ]),
        ("Data", _table(("", ""), _data(manifest, trained))),
        ("Metrics", [*_tested(trained), "", *_metrics(trained)]),
        ("Decisions", [_decision(manifest, trained)]),
        ("Imputation", _table(("column", "policies", "of the training data"),
                              _imputation(definition, trained))),
        ("Where it comes from", _table(("", ""), _origin(manifest))),
    ]  # fmt: skip
    return "\n\n".join(
        f"{'#' if not place else '##'} {title}\n\n" + "\n".join(lines)
        for place, (title, lines) in enumerate(parts)
    ) + "\n"  # fmt: skip


def _data(manifest: Manifest, trained: Trained) -> list[Sequence[str]]:
    split, training = trained.split, trained.training
    return [
        ("trained on events of", f"{_time(split.start)} to {_time(split.end)}"),
        ("rows", f"{manifest.rows:,}"),
        ("positive rate", f"{manifest.prior:.4%}"),
        ("gap for labels", str(split.gap)),
        ("tested on events of", f"{_time(split.test_start)} to {_time(split.test_end)}"),
        ("search", repr(trained.chosen) if training.search else "none"),
        ("calibration", training.calibration),
        ("seed", str(training.seed)),
    ]


def _tested(trained: Trained) -> list[str]:
    training = trained.training
    lines = ["On the test interval, which nothing was fitted on."]
    if training.tested == NOT_CAUGHT:
        lines.append("Events of entities of whom a positive label was known by then are left out.")
    if training.resamples:
        lines.append(
            f"Intervals hold the middle 95 % of {training.resamples:,} draws of the entities in it,"
            " each with all of its events."
        )
    return lines


def _metrics(trained: Trained) -> list[str]:
    rows = [(name.replace("_", " "), *_numbers(each)) for name, each in trained.metrics.items()]
    return _table(("metric", "value", "from", "to"), rows)


def _numbers(measured: Measured) -> tuple[str, str, str]:
    if measured.low is None or measured.high is None:
        return shown(measured.value), "", ""
    return shown(measured.value), shown(measured.low), shown(measured.high)


def shown(value: float) -> str:
    """A metric for people: counts whole, the rest to four digits.

    >>> shown(14087.0), shown(0.874417)
    ('14,087', '0.8744')
    """
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"


def _decision(manifest: Manifest, trained: Trained) -> str:
    if manifest.threshold is None:
        return "No threshold was chosen: the score is a probability, and what follows is yours."
    rule = trained.training.threshold
    return (
        f"Scores of {manifest.threshold:.6g} and above are alerts, chosen by `{rule!r}` on the last"
        " part of the training interval."
    )


def _imputation(definition: Definition, trained: Trained) -> list[Sequence[str]]:
    return [
        (name, _policies(definition, name), ", ".join(map(_statistic, statistics)))
        for name, statistics in trained.statistics.items()
    ]


def _policies(definition: Definition, column: str) -> str:
    return ", then ".join(type(each).__name__ for each in steps(definition.policy(column)))


def _statistic(statistic: Statistic) -> str:
    value = "from the entity" if statistic.value is None else f"{statistic.value:.6g}"
    groups = f" and {len(statistic.groups):,} groups" if statistic.groups else ""
    return f"{value}{groups}"


def _origin(manifest: Manifest) -> list[Sequence[str]]:
    libraries = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    return [
        ("definition hash", f"`{manifest.definition_hash}`"),
        ("served by", manifest.serving),
        ("libraries", libraries),
        *((name, f"`{sha}`") for name, sha in manifest.files.items()),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _day(time: datetime) -> str:
    return time.isoformat()
