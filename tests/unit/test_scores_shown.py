"""What `headrace scores` shows of a score."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from headrace.cli.scores import score_table


def shown(body: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(score_table("event 1", body))
    return captured.get()


def test_absent_values_are_shown_with_cause_and_policy() -> None:
    text = shown(
        {
            "score": 0.25,
            "rung": "real_time",
            "reason": None,
            "ages": {"customer": 60.0, "terminal": None},
            "late": False,
            "features": {"amount": None, "count": 2.0, "mean": 3.5},
            "imputed": {
                "amount": {"cause": "invalid", "value": None, "policy": "as_nan"},
                "mean": {"cause": "window_empty", "value": 3.5, "policy": "training_mean"},
            },
        }
    )
    assert "NaN  (absent: invalid, as_nan)" in text
    assert "3.5  (imputed: window_empty, training_mean)" in text
    assert "customer: 60.0, terminal: None" in text
    assert "reason" not in text


def test_borrowed_score_says_why_and_from_where() -> None:
    record = {"score": 0.5, "rung": "prior", "reason": "store_slow", "features": {},
              "causes": {"last": "too_old", "batch": "none_stored"}, "imputed": {}}  # fmt: skip
    text = shown(record)
    assert "store_slow" in text
    assert "last: too_old, batch: none_stored" in text


def test_entity_of_which_nothing_is_known_is_shown() -> None:
    assert "prior" in shown({"score": 0.01, "rung": "prior", "age": None, "record": None})
