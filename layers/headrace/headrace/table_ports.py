"""What a load of a table needs of the world: files to read, and a store to write to.

May import table_rows and tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.table_rows import TableRow
    from headrace.tables import Table


class LoadNote(NamedTuple):
    """How far the newest load of a table has come.

    Attributes:
        loaded_at: When its rows were computed, microseconds UTC; 0 without a load.
        mark: Tells it from every other load; empty where it cannot be resumed.
        rows: How many of its rows are stored, from the first on.
        complete: Whether these are all.
    """

    loaded_at: int
    mark: str
    rows: int
    complete: bool


NO_LOAD = LoadNote(0, "", 0, complete=True)


class TableStore(Protocol):
    """Where loads of a table go."""

    def noted(self, table: str) -> LoadNote:
        """What is noted of the newest load of a table; ``NO_LOAD`` without one.

        Raises:
            StoreUnavailable: It cannot be read.
        """

    def note(self, table: str, note: LoadNote) -> None:
        """Note how far a load has come.

        Raises:
            StoreUnavailable: It cannot be noted.
        """

    def put_rows(self, rows: Mapping[str, TableRow], expires: int) -> None:
        """Store rows by entity id, which may go after an instant, microseconds UTC.

        Raises:
            StoreUnavailable: Not all could be stored; repeating it is harmless.
        """


class Load(Protocol):
    """The rows of one load, checked."""

    @property
    def table(self) -> Table:
        """Whose rows they are."""

    @property
    def loaded_at(self) -> int:
        """When they were computed, microseconds UTC."""

    @property
    def mark(self) -> str:
        """Tells the load from every other; empty where it cannot be resumed."""

    def __len__(self) -> int:
        """How many rows."""

    def rows(self, start: int = 0) -> Iterator[tuple[str, TableRow]]:
        """Entity id and row, always in the same order, from row ``start`` on."""


class Found(NamedTuple):
    """A load that was found, but not read.

    Attributes:
        loaded_at: When its newest file was written, microseconds UTC.
        mark: Tells it from every other load.
        files: Names of its files, and of each its size in bytes.
    """

    loaded_at: int
    mark: str
    files: Mapping[str, int]


class TableSource(Protocol):
    """Where a job leaves the files of tables."""

    def newest(self, table: Table) -> Found | None:
        """The newest load of a table; None where there is none.

        Raises:
            StoreUnavailable: Files cannot be listed.
        """

    def read(self, table: Table, found: Found) -> Load:
        """The rows of a load.

        Raises:
            LoadRejected: The files break the table's types or bounds.
            TooLarge: They are more than the source reads.
            StoreUnavailable: They cannot be read.
        """
