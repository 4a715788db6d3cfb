"""Load tables: put the rows of a load where they are looked up, and go on where it was cut.

May import table_ports, table_rows, events and errors.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from headrace.errors import LoadRejected, StoreUnavailable, TooLarge
from headrace.events import microseconds, us_to_text
from headrace.table_ports import LoadNote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.ports import Clock
    from headrace.table_ports import Load, TableSource, TableStore
    from headrace.tables import Table

CHUNK = 500
_SPARE_US = 86_400_000_000  # rows go a day after they are valid: clocks and queues differ
_US_PER_SECOND = 1_000_000


class LoadEnd(StrEnum):
    """How it went with one table."""

    LOADED = "loaded"
    UNCHANGED = "unchanged"
    NO_FILE = "no_file"
    UNFINISHED = "unfinished"
    FAILED = "failed"


class TableLoad(NamedTuple):
    """What became of one table.

    Attributes:
        table: Its name.
        end: How it went.
        rows: Stored by this invocation.
        loaded_at: Of the newest load that was begun, microseconds UTC; 0 without one.
        overdue: Whether its rows have expired, or there is none.
        error: What is wrong, without any value of a file.
    """

    table: str
    end: LoadEnd
    rows: int = 0
    loaded_at: int = 0
    overdue: bool = False
    error: str = ""


class TableLoader:
    """Loads what is new of every table of a definition.

    Args:
        tables: Of the definition.
        source: Where the files are.
        store: Where the rows go.
        clock: Tells what is overdue.
    """

    def __init__(
        self, tables: Iterable[Table], source: TableSource, store: TableStore, clock: Clock
    ) -> None:
        self._tables, self._source, self._store, self._clock = tables, source, store, clock

    def run(self, goes_on: Callable[[], bool]) -> list[TableLoad]:
        """Load each table's newest files, unless they are loaded already.

        One table that fails keeps no other from being loaded.

        Args:
            goes_on: Whether there is time for more; asked between chunks.
        """
        return [self._with_age(table, self._load(table, goes_on)) for table in self._tables]

    def _load(self, table: Table, goes_on: Callable[[], bool]) -> TableLoad:
        stored: list[int] = []
        try:
            found = self._source.newest(table)
            if found is None:
                return TableLoad(table.name, LoadEnd.NO_FILE)
            noted = self._store.noted(table.name)
            if noted.complete and noted.mark == found.mark:
                return TableLoad(table.name, LoadEnd.UNCHANGED)
            if not goes_on():
                return TableLoad(table.name, LoadEnd.UNFINISHED)
            load = self._source.read(table, found)
            complete = store_load(
                load, self._store, self._clock, goes_on=goes_on, progress=stored.append
            )
        except LoadRejected as error:
            return TableLoad(table.name, LoadEnd.FAILED, error=error.summary)
        except (TooLarge, StoreUnavailable) as error:
            return TableLoad(table.name, LoadEnd.FAILED, sum(stored), error=str(error))
        end = LoadEnd.LOADED if complete else LoadEnd.UNFINISHED
        return TableLoad(table.name, end, sum(stored))

    def _with_age(self, table: Table, load: TableLoad) -> TableLoad:
        """The same, with the age of what is looked up."""
        try:
            noted = self._store.noted(table.name)
        except StoreUnavailable as error:
            return load._replace(end=LoadEnd.FAILED, error=load.error or str(error), overdue=True)
        valid_until = noted.loaded_at + microseconds(table.valid_for)
        overdue = valid_until < self._clock.now()
        return load._replace(loaded_at=noted.loaded_at, overdue=overdue)


def store_load(
    load: Load,
    store: TableStore,
    clock: Clock,
    *,
    rate: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Put the rows of a load in place of the former ones; repeating it ends the same.

    Args:
        load: What to store. One that was cut goes on from the row that is noted.
        store: Where the rows go.
        clock: Paces the load.
        rate: Rows per second at most.
        progress: Called with the number of rows done.
        goes_on: Whether there is time for more; asked between chunks.

    Returns:
        Whether all rows are stored now.

    Raises:
        LoadRejected: A newer load is there already.
        StoreUnavailable: The store did not take all; load again.
    """
    name, done = load.table.name, _start(load, store.noted(load.table.name))
    expires = load.loaded_at + microseconds(load.table.valid_for) + _SPARE_US
    store.note(name, LoadNote(load.loaded_at, load.mark, done, complete=False))
    rows = load.rows(done)
    while part := dict(islice(rows, CHUNK)):
        if not goes_on():
            store.note(name, LoadNote(load.loaded_at, load.mark, done, complete=False))
            return False
        began = clock.now()
        store.put_rows(part, expires)
        done += len(part)
        progress(len(part))
        if rate:
            took = (clock.now() - began) / _US_PER_SECOND
            clock.sleep(max(0.0, len(part) / rate - took))
    store.note(name, LoadNote(load.loaded_at, load.mark, done, complete=True))
    return True


def _start(load: Load, noted: LoadNote) -> int:
    """The row that a load begins at."""
    if load.loaded_at < noted.loaded_at:
        msg = (
            f"table {load.table.name!r}: this load is of {us_to_text(load.loaded_at)}; one of "
            f"{us_to_text(noted.loaded_at)} is there: expected a newer one"
        )
        raise LoadRejected(msg)
    same = (load.loaded_at, load.mark) == (noted.loaded_at, noted.mark)
    return noted.rows if same and load.mark and not noted.complete else 0
