"""The features of card events, against those that somebody else computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.cli import app

if TYPE_CHECKING:
    from pathlib import Path

SEED_BEFORE = "2018-05-25T00:00:00Z"
UNTIL = "2018-06-01T00:00:00Z"
MEANS = [f"customer_amount_mean_{days}d" for days in (1, 7, 30)]
EXACT = [
    "is_weekend",
    "is_night",
    *(f"customer_count_{days}d" for days in (1, 7, 30)),
    *(f"terminal_count_{days}d" for days in (1, 7, 30)),
    *(f"terminal_is_fraud_mean_{days}d" for days in (1, 7, 30)),
]


def replayed(data: Path, name: str, folder: Path, *options: str) -> pl.DataFrame:
    out = folder / "scores.parquet"
    files = ["--events", str(data / f"{name}_events.parquet")]
    files += ["--labels", str(data / f"{name}_labels.parquet"), "--out", str(out)]
    result = CliRunner().invoke(app, ["replay", *files, *options])
    assert result.exit_code == 0, result.output
    return pl.read_parquet(out)


def backfilled(data: Path, name: str, folder: Path, *options: str) -> pl.DataFrame:
    out = folder / "features.parquet"
    files = ["--events", str(data / f"{name}_events.parquet")]
    files += ["--labels", str(data / f"{name}_labels.parquet"), "--out", str(out)]
    result = CliRunner().invoke(app, ["backfill", *files, *options])
    assert result.exit_code == 0, result.output
    no_label = pl.col("^terminal_is_fraud_mean_.*$")
    return pl.read_parquet(out).with_columns(no_label.fill_null(0.0))  # as the oracle has it


def differences(found: pl.DataFrame, expected: pl.DataFrame) -> dict[str, int]:
    """Feature -> rows that differ, beyond the pairs of one customer in one second."""
    both = expected.join(found, on="transaction_id", suffix="_found")
    wrong = {}
    for name in EXACT:
        wrong[name] = both.filter(pl.col(name) != pl.col(f"{name}_found")).height
    for name in MEANS:
        apart = (pl.col(name) - pl.col(f"{name}_found")).abs()
        wrong[name] = both.filter(apart > 1e-9 * pl.col(name).abs()).height
    return {name: rows for name, rows in wrong.items() if rows}


def without_ties(data: Path, name: str) -> pl.DataFrame:
    """Expected features but for customers with several events in one second."""
    events = pl.read_parquet(data / f"{name}_events.parquet")
    ties = events.filter(pl.struct("customer_id", "event_time").is_duplicated())
    features = pl.read_parquet(data / f"{name}_features.parquet")
    return features.join(ties.select("transaction_id"), on="transaction_id", how="anti")


def test_replay_in_memory_gives_every_expected_feature(oracle_data: Path, tmp_path: Path) -> None:
    found = replayed(oracle_data, "card_small", tmp_path)
    expected = pl.read_parquet(oracle_data / "card_small_features.parquet")

    assert expected.height == 12_281
    assert found.height == 25_424
    assert expected.join(found, on="transaction_id").height == expected.height
    assert differences(found, expected) == {}


@pytest.mark.slow
def test_replay_of_the_whole_card_data_gives_every_expected_feature(
    oracle_data: Path, tmp_path: Path
) -> None:
    found = replayed(oracle_data, "card", tmp_path)
    expected = without_ties(oracle_data, "card")

    assert found.height == 585_177
    assert expected.height > 441_000
    assert expected.join(found, on="transaction_id").height == expected.height
    assert differences(found, expected) == {}


@pytest.mark.slow
def test_replay_through_kinesis_gives_every_expected_feature(
    oracle_data: Path, tmp_path: Path
) -> None:
    window = ["--seed-before", SEED_BEFORE, "--until", UNTIL]
    found = replayed(oracle_data, "card_small", tmp_path, "--via", "kinesis", *window)
    expected = pl.read_parquet(oracle_data / "card_small_features.parquet")
    compared = expected.join(found.select("transaction_id"), on="transaction_id")

    assert found.height >= 3_000
    assert compared.height > 1_000
    assert differences(found, compared) == {}


@pytest.mark.slow
def test_memory_and_kinesis_give_the_same_rows(oracle_data: Path, tmp_path: Path) -> None:
    window = ["--seed-before", SEED_BEFORE, "--until", "2018-05-26T00:00:00Z"]
    memory = replayed(oracle_data, "card_small", tmp_path, *window)
    kinesis = replayed(oracle_data, "card_small", tmp_path, "--via", "kinesis", *window)

    assert memory.height > 400
    assert memory.equals(kinesis)


@pytest.mark.parametrize("knowledge", ["--as-known", "--as-happened"])
def test_backfill_of_the_whole_card_data_gives_every_expected_feature(
    oracle_data: Path, tmp_path: Path, knowledge: str
) -> None:
    found = backfilled(oracle_data, "card", tmp_path, knowledge)
    expected = without_ties(oracle_data, "card")

    assert found.height == 585_177
    assert expected.height > 441_000
    assert expected.join(found, on="transaction_id").height == expected.height
    assert differences(found, expected) == {}


def test_backfill_and_replay_give_the_same_rows_to_the_last_bit(
    oracle_data: Path, tmp_path: Path
) -> None:
    found = backfilled(oracle_data, "card_small", tmp_path)
    streamed = replayed(oracle_data, "card_small", tmp_path)
    names = [*EXACT, *MEANS, "amount_to_mean_7d", "amount"]

    assert found.height == 25_424
    assert found.select(names).equals(streamed.select(names))
