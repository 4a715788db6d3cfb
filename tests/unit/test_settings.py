"""The environment becomes settings once; every fault in it is named."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from headrace.errors import SettingsError
from headrace.settings import Settings, read_settings, starts_on_lambda

WHOLE = {
    "HEADRACE_STATE_TABLE": "states",
    "HEADRACE_FEATURE_TABLE": "rows",
    "HEADRACE_SCORE_TABLE": "scores",
    "HEADRACE_QUARANTINE_BUCKET": "refused",
    "HEADRACE_STREAM": "events",
}


def test_settings_are_read_from_the_environment() -> None:
    extra = {
        "HEADRACE_MODEL_DIR": "/m",
        "HEADRACE_SCORE_RETENTION_DAYS": "30",
        "HEADRACE_STORE_BUDGET_MS": "80",
        "HEADRACE_TABLE_BUCKET": "lake",
        "HEADRACE_TABLE_PREFIX": "rows/",
        "HEADRACE_LEAN_READS": "off",
        "OTHER": "x",
    }
    assert read_settings(WHOLE | extra) == Settings(
        "states",
        "rows",
        "scores",
        "refused",
        "events",
        Path("/m"),
        30,
        80,
        "lake",
        "rows/",
        lean_reads=False,
    )


def test_model_dir_retention_and_budget_have_defaults() -> None:
    found = read_settings(WHOLE)
    assert (found.model_dir, found.score_retention_days) == (Path("/opt/model"), 365)
    assert found.store_budget_ms == 50
    assert (found.table_bucket, found.table_prefix) == ("", "tables/")
    assert found.lean_reads is True


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"HEADRACE_STREAM": "", "HEADRACE_SCORE_RETENTION_DAYS": "soon"})
    for name in WHOLE:
        assert name in str(caught.value)
    assert "HEADRACE_SCORE_RETENTION_DAYS (got 'soon'; expected days" in str(caught.value)
    assert "template.yaml" in str(caught.value)


@pytest.mark.parametrize("days", ["", "0", "-1", "1.5", "1e3", " 7", "²"])
def test_retention_is_a_whole_number_of_days(days: str) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_SCORE_RETENTION_DAYS"):
        read_settings(WHOLE | {"HEADRACE_SCORE_RETENTION_DAYS": days})


@pytest.mark.parametrize("budget", ["", "0", "-1", "0.5", "10001", "50 ", "⁵"])
def test_budget_is_a_whole_number_of_milliseconds_within_the_function_s_time(budget: str) -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_STORE_BUDGET_MS .*expected 1 to 10,000"):
        read_settings(WHOLE | {"HEADRACE_STORE_BUDGET_MS": budget})


def test_settings_are_read_from_the_process_when_nothing_is_handed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, f"{value}-2")
    assert read_settings().stream == "events-2"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        read_settings(WHOLE).stream = "other"  # type: ignore[misc]  # what must fail


@pytest.mark.parametrize("lean", ["", "yes", "On", "1"])
def test_lean_reads_are_on_or_off(lean: str) -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_LEAN_READS .*expected on or off"):
        read_settings(WHOLE | {"HEADRACE_LEAN_READS": lean})


def test_lambda_is_known_by_the_variable_that_only_it_sets() -> None:
    assert starts_on_lambda({"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
    assert not starts_on_lambda(WHOLE)
