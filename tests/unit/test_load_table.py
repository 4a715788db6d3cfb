"""Loading a table: what is refused, what is written, and what a later or earlier load does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryStates, MemoryTable
from headrace.adapters.parquet import ALWAYS, ParquetLoad, read_file, single_load
from headrace.definition import Flag, Number, Table
from headrace.errors import LoadRejected, StoreUnavailable
from headrace.table_load import LoadEnd, TableLoad, TableLoader, store_load
from headrace.table_ports import Found, LoadNote
from tests.fakes import DAY, HOUR, NOON, card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from headrace.table_rows import TableRow

MAY = datetime(2025, 5, 1, tzinfo=UTC)
profile = Table(
    name="profile", entity=card, fields={"limit": Number(at_least=0, at_most=10), "vip": Flag()}
)


def write(folder: Path, **columns: Any) -> Path:
    path = folder / "rows.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LoadRejected) as refused:
        read_file(path, profile, NOON)
    return str(refused.value)


def test_rows_are_read_in_the_tables_order_whatever_the_files_columns(tmp_path: Path) -> None:
    nan = float("nan")
    path = write(tmp_path, vip=[True, None, False], other=[1, 2, 3], card_id=[7, 8, 9],
                 limit=[1.5, nan, None])  # fmt: skip
    found = {key: (row.table, row.loaded_at, row.values) for key, row in
             read_file(path, profile, NOON).rows()}  # fmt: skip
    assert found == {
        "7": ("profile", NOON, [1.5, 1.0]),
        "8": ("profile", NOON, [None, None]),
        "9": ("profile", NOON, [None, 0.0]),
    }


def test_column_with_load_times_goes_before_the_time_given(tmp_path: Path) -> None:
    times = [datetime(2025, 5, 1, tzinfo=UTC), datetime(2025, 5, 2, tzinfo=UTC)]
    path = write(tmp_path, card_id=["a", "a"], limit=[1, 2], vip=[0, 1], loaded_at=times)
    rows = [row for _, row in read_file(path, profile, ALWAYS).rows()]
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
        (
            {"card_id": [1], "limit": [1], "vip": [0], "loaded_at": ["2025-05-01"]},
            "column loaded_at is String; expected timestamps",
        ),
        (
            {"card_id": [1, 2], "limit": [1, 1], "vip": [0, 0], "loaded_at": [MAY, None]},
            "row 1: loaded_at is missing; expected a timestamp",
        ),
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
    store_load(read_file(path, profile, at), table, FixedClock(NOON))


def test_load_is_noted_when_it_is_complete_and_an_older_one_is_refused(tmp_path: Path) -> None:
    states = MemoryStates()
    table = MemoryTable(states, "card")
    loaded(tmp_path, NOON, 1, states, table)
    loaded(tmp_path, NOON, 1, states, table)
    assert table.noted("profile") == LoadNote(NOON, "", 2, complete=True)
    with pytest.raises(LoadRejected, match="one of 2025-05-01T12:00:00Z is there: expected a n"):
        loaded(tmp_path, NOON - HOUR, 2, states, table)
    assert {row.values[0] for row in states.rows["card#1"]} == {1.0}


def test_load_goes_no_faster_than_it_may(tmp_path: Path) -> None:
    table, clock = MemoryTable(MemoryStates(), "card"), FixedClock(NOON)
    path = write(tmp_path, card_id=range(1_200), limit=[1] * 1_200, vip=[0] * 1_200)
    done: list[int] = []
    store_load(read_file(path, profile, NOON), table, clock, rate=100, progress=done.append)
    assert done == [500, 500, 200]
    assert clock.now() - NOON == 12_000_000


def test_what_is_told_in_logs_of_a_faulty_file_has_no_value_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, card_id=["Erika", "Erika"], limit=[4711, 1], vip=[0, 0])
    with pytest.raises(LoadRejected) as refused:
        read_file(path, profile, NOON)
    assert "'Erika'" in str(refused.value)
    assert refused.value.summary.startswith("rows.parquet: faults (2) against table 'profile'; ")
    assert not {"Erika", "4711"} & set(refused.value.summary.replace("'", " ").split())


def test_rows_of_several_times_are_not_one_load(tmp_path: Path) -> None:
    times = [MAY, MAY.replace(day=2)]
    path = write(tmp_path, card_id=[1, 2], limit=[1, 2], vip=[0, 1], loaded_at=times)
    with pytest.raises(LoadRejected, match="loaded_at has 2 times; expected one"):
        single_load(read_file(path, profile, NOON))
    path = write(tmp_path, card_id=[1, 2], limit=[1, 2], vip=[0, 1], loaded_at=times[:1] * 2)
    assert single_load(read_file(path, profile, NOON)).loaded_at == NOON - DAY // 2


class Files:
    """A source that has files on disk, and notes what is read."""

    def __init__(self, folder: Path, rows: int = 1_200) -> None:
        self.path = write(folder, card_id=range(rows), limit=[1] * rows, vip=[0] * rows)
        self.found: Found | None = Found(NOON, "first", {"rows.parquet": 1})
        self.reads = 0
        self.fails = ""

    def newest(self, table: Table) -> Found | None:
        if self.fails:
            raise StoreUnavailable(self.fails)
        return self.found

    def read(self, table: Table, found: Found) -> ParquetLoad:
        self.reads += 1
        return single_load(read_file(self.path, table, found.loaded_at), found.mark)


class Puts(MemoryTable):
    """A table that notes which rows are put."""

    def __init__(self) -> None:
        super().__init__(MemoryStates(), "card")
        self.ids: list[str] = []

    def put_rows(self, rows: Mapping[str, TableRow], expires: int) -> None:
        super().put_rows(rows, expires)
        self.ids += rows


def asked(*answers: bool) -> Callable[[], bool]:
    remaining = iter(answers)
    return lambda: next(remaining)


def always() -> bool:
    return True


def test_load_that_was_cut_goes_on_with_the_first_row_that_is_not_stored(tmp_path: Path) -> None:
    files, table = Files(tmp_path), Puts()
    loader = TableLoader([profile], files, table, FixedClock(NOON))
    assert loader.run(asked(True, True, False)) == [
        TableLoad("profile", LoadEnd.UNFINISHED, 500, NOON)
    ]
    assert loader.run(always) == [TableLoad("profile", LoadEnd.LOADED, 700, NOON)]
    assert table.ids == [str(n) for n in range(1_200)]
    assert loader.run(always) == [TableLoad("profile", LoadEnd.UNCHANGED, 0, NOON)]
    assert (files.reads, len(table.ids)) == (2, 1_200)


def test_newer_file_is_loaded_from_its_first_row_though_the_former_was_cut(tmp_path: Path) -> None:
    files, table = Files(tmp_path), Puts()
    loader = TableLoader([profile], files, table, FixedClock(NOON))
    loader.run(asked(True, True, False))
    files.found = Found(NOON + HOUR, "second", {"rows.parquet": 1})
    assert loader.run(always) == [TableLoad("profile", LoadEnd.LOADED, 1_200, NOON + HOUR)]
    assert table.ids[500:] == [str(n) for n in range(1_200)]


def test_table_that_fails_keeps_no_other_from_being_loaded(tmp_path: Path) -> None:
    risk = Table(name="risk", entity=card, fields={"level": Number()})
    loader = TableLoader([risk, profile], Files(tmp_path), Puts(), FixedClock(NOON))
    failed, loaded = loader.run(always)
    assert (failed.table, failed.end, failed.overdue) == ("risk", LoadEnd.FAILED, True)
    assert failed.error == "rows.parquet: columns level are missing; table 'risk' has them"
    assert (loaded.table, loaded.end, loaded.overdue) == ("profile", LoadEnd.LOADED, False)


def test_files_that_cannot_be_listed_are_told(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.fails = "tables/profile/ cannot be listed: SlowDown"
    (failed,) = TableLoader([profile], files, Puts(), FixedClock(NOON)).run(always)
    assert (failed.end, failed.error) == (LoadEnd.FAILED, files.fails)


def test_table_is_overdue_from_when_its_rows_expire_or_without_any(tmp_path: Path) -> None:
    files, table, clock = Files(tmp_path), Puts(), FixedClock(NOON)
    loader = TableLoader([profile], files, table, clock)
    files.found, found = None, files.found
    assert loader.run(always) == [TableLoad("profile", LoadEnd.NO_FILE, overdue=True)]
    files.found = found
    assert loader.run(always)[0].overdue is False
    clock.sleep(2 * 86_400)
    assert loader.run(always)[0].overdue is False
    clock.sleep(1)
    assert loader.run(always)[0].overdue is True
