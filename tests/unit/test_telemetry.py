"""What a batch says in metrics: the embedded metric format on standard output."""

from __future__ import annotations

import json
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import MetricUnit

from headrace.adapters.telemetry import _spread, metrics, note_in_python, note_outcome
from headrace.definition import hours
from headrace.outcome import Outcome
from tests.fakes import HOUR, NOON, Lab, card, make_definition, payment, record, shop

if TYPE_CHECKING:
    from collections.abc import Mapping


def emitted(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of the embedded metric format that an outcome gives."""
    note_outcome(outcome)
    metrics.flush_metrics()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if "_aws" in line]


def by(lines: list[dict[str, Any]], metric: str, dimension: str) -> Mapping[str, Any]:
    """Dimension -> value of a metric that has one."""
    return {line[dimension]: line[metric] for line in lines if metric in line and dimension in line}


@pytest.mark.parametrize(
    ("metric", "dimension", "attribute"),
    [
        ("Quarantined", "reason", "quarantined"),
        ("Imputed", "cause", "imputed"),
        ("Invalid", "field", "invalid"),
        ("Accepted", "field", "accepted"),
        ("Stale", "entity", "stale"),
    ],
)
def test_counts_are_given_by_kind_and_as_a_sum(
    metric: str, dimension: str, attribute: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome(records=9)
    setattr(outcome, attribute, Counter(a=3, b=4))
    lines = emitted(outcome, capsys)
    assert by(lines, metric, dimension) == {"a": [3.0], "b": [4.0]}
    (total,) = [line for line in lines if metric in line and dimension not in line]
    assert total[metric] == [7.0]
    assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in lines} == {"Headrace"}


def test_freshness_is_given_by_entity_with_its_spread(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(ages={"card": [float(n) for n in range(1_000)], "shop": [5.0]})
    found = by(emitted(outcome, capsys), "Freshness", "entity")
    assert found["shop"] == [5.0]
    assert 90 <= len(found["card"]) < 100
    assert max(found["card"]) == 999.0
    assert median(found["card"]) == pytest.approx(500, abs=15)


def test_ages_of_scores_are_noted_and_held_against_the_objective() -> None:
    lab = Lab(make_definition(freshness={card: hours(2), shop: hours(20)}))
    lab.stream.score([record(payment(1), NOON)])
    outcome = lab.stream.score(
        [
            record(payment(2, NOON + HOUR), NOON + HOUR, 1),
            record(payment(3, NOON + 6 * HOUR), NOON + 6 * HOUR, 2),
        ]
    )
    assert {name: sorted(ages) for name, ages in outcome.ages.items()} == {
        "card": [3_600.0, 18_000.0], "shop": [3_600.0, 18_000.0],
    }  # fmt: skip
    assert outcome.stale == {"card": 1}


def test_score_of_an_unknown_entity_has_no_age_and_is_not_stale() -> None:
    lab = Lab(make_definition(freshness={card: hours(2)}))
    outcome = lab.stream.score([record(payment(1), NOON)])
    assert (outcome.ages, outcome.stale) == ({}, {})


@pytest.mark.parametrize("count", [0, 1, 2, 60, 99, 1_000])
@pytest.mark.parametrize("before", [0, 1, 60])
def test_values_of_a_metric_are_all_told_as_powertools_tells_them(
    count: int, before: int, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [float(n) for n in range(count)]
    for _ in range(before):
        metrics.add_metric("ScoreLag", MetricUnit.Seconds, 7)
    lines = emitted(Outcome(lags=values), capsys)
    told = [value for line in lines for value in line.get("ScoreLag", [])]
    assert told == [7.0] * before + _spread(values)
    assert max((len(line.get("ScoreLag", [])) for line in lines), default=0) <= 100


def test_parts_that_are_not_compiled_are_counted_and_named(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    note_in_python(["fold", "model"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["InPython"] for line in found if "InPython" in line] == [[2.0]]
    assert [each.__dict__["parts"] for each in caplog.records] == [["fold", "model"]]
