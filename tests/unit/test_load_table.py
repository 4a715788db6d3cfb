"""Loading a table: what is refused, what is written, and what a later or earlier load does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryStates, MemoryTable
from headrace.definition import Flag, Number, Table
from headrace.errors import Misconfigured
from headrace.offline.load_table import ALWAYS, load, read_rows
from tests.fakes import DAY, HOUR, NOON, card

if TYPE_CHECKING:
    from pathlib import Path

profile = Table(
    name="profile", entity=card, fields={"limit": Number(at_least=0, at_most=10), "vip": Flag()}
)


def write(folder: Path, **columns: Any) -> Path:
    path = folder / "rows.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(Misconfigured) as refused:
        read_rows(path, profile, NOON)
    return str(refused.value)


def test_rows_are_read_in_the_tables_order_whatever_the_files_columns(tmp_path: Path) -> None:
    nan = float("nan")
    path = write(tmp_path, vip=[True, None, False], other=[1, 2, 3], card_id=[7, 8, 9],
                 limit=[1.5, nan, None])  # fmt: skip
    found = {key: (row.table, row.loaded_at, row.values) for key, row in
             read_rows(path, profile, NOON)}  # fmt: skip
    assert found == {
        "7": ("profile", NOON, [1.5, 1.0]),
        "8": ("profile", NOON, [None, None]),
        "9": ("profile", NOON, [None, 0.0]),
    }


def test_column_with_load_times_goes_before_the_time_given(tmp_path: Path) -> None:
    times = [datetime(2025, 5, 1, tzinfo=UTC), datetime(2025, 5, 2, tzinfo=UTC)]
    path = write(tmp_path, card_id=["a", "a"], limit=[1, 2], vip=[0, 1], loaded_at=times)
    rows = [row for _, row in read_rows(path, profile, ALWAYS)]
    assert [row.loaded_at for row in rows] == [NOON - DAY // 2, NOON + DAY // 2]
    assert not any(row.newest for row in rows)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"limit": [1], "vip": [0]}, "columns card_id are missing; table 'profile' has them"),
        ({"card_id": [1]}, "columns limit, vip are missing"),
        ({"card_id": [1.5], "limit": [1], "vip": [0]}, "card_id is Float64; expected integers"),
        ({"card_id": [1, None], "limit": [1, 1], "vip": [0, 0]}, "row 1: card_id is None; exp"),
        ({"card_id": ["", "b"], "limit": [1, 1], "vip": [0, 0]}, "row 0: card_id is ''; expected"),
        (
            {"card_id": [1, 2, 1], "limit": [1] * 3, "vip": [0] * 3},
            "row 2: card_id '1' is there before; expected it once",
        ),
        (
            {"card_id": [1, 2], "limit": [1, 11], "vip": [0, 0]},
            "row 1: limit is 11; expected a number from 0 to 10",
        ),
        ({"card_id": [1], "limit": [float("inf")], "vip": [0]}, "row 0: limit is inf; expected"),
        ({"card_id": [1], "limit": ["1"], "vip": [0]}, "column limit is String; expected numbers"),
        ({"card_id": [1], "limit": [1], "vip": [2]}, "row 0: vip is 2; expected true or false"),
        ({"card_id": list(range(20)), "limit": [-1] * 20, "vip": [0] * 20}, " and 15 more"),
    ],
)
def test_file_that_breaks_the_table_is_refused_by_row_and_column(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    assert message in refusal(write(tmp_path, **columns))


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("a,b")
    assert "expected a Parquet file of table 'profile'" in refusal(path)


def loaded(folder: Path, at: int, limit: float, states: MemoryStates, table: MemoryTable) -> None:
    path = write(folder, card_id=[1, 2], limit=[limit, limit], vip=[0, 1])
    load(read_rows(path, profile, at), profile, table, FixedClock(NOON))


def test_load_is_noted_when_it_is_complete_and_an_older_one_is_refused(tmp_path: Path) -> None:
    states = MemoryStates()
    table = MemoryTable(states, "card")
    loaded(tmp_path, NOON, 1, states, table)
    loaded(tmp_path, NOON, 1, states, table)
    assert table.newest_load("profile") == NOON
    with pytest.raises(Misconfigured, match="one of 2025-05-01T12:00:00Z is there: expected a n"):
        loaded(tmp_path, NOON - HOUR, 2, states, table)
    assert {row.values[0] for row in states.rows["card#1"]} == {1.0}


def test_load_goes_no_faster_than_it_may(tmp_path: Path) -> None:
    table, clock = MemoryTable(MemoryStates(), "card"), FixedClock(NOON)
    path = write(tmp_path, card_id=range(1_200), limit=[1] * 1_200, vip=[0] * 1_200)
    done: list[int] = []
    load(read_rows(path, profile, NOON), profile, table, clock, 100, done.append)
    assert done == [500, 500, 200]
    assert clock.now() - NOON == 12_000_000
