"""Rows of tables in DynamoDB: looked up together with states, and loaded.

Items of ``row``, ``loaded_at``, ``values`` (packed), ``expires``; only the newest load is kept, and
``load#<table>`` says how far it has come.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.adapters.aws import AWS_ERRORS, error_code, in_parallel
from headrace.adapters.batches import READ_LIMIT, ROUNDS, WRITE_LIMIT, Read, put_items
from headrace.adapters.dynamodb import DynamoStates
from headrace.adapters.items import Item, stored_state
from headrace.errors import StoreUnavailable
from headrace.ports import ScanPage, StoredState
from headrace.table_ports import NO_LOAD, LoadNote
from headrace.table_rows import TableRow, row_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.ports import Clock, ScannedState, Segment

_US_PER_SECOND = 1_000_000
_LOAD = "load#"
_UNREAD: Item = {}  # in place of a row that could not be looked up
_decode = msgspec.msgpack.Decoder(list[float | None]).decode


class TableNames(NamedTuple):
    """Names of DynamoDB tables: of states, and of the rows of tables."""

    states: str
    rows: str


class DynamoStatesWithRows(DynamoStates):
    """States together with the rows of their entities' tables, in the same BatchGetItem.

    Args:
        client: Of DynamoDB.
        names: Of both DynamoDB tables.
        tables: Entity -> names of its tables.
        clock: To wait with.
        rounds: How often keys are asked for that were left unprocessed. Who asks once, as a request
            does, has no time to wait for rows: those that are left are failed look-ups.
    """

    def __init__(
        self,
        client: Any,
        names: TableNames,
        tables: Mapping[str, Sequence[str]],
        clock: Clock,
        rounds: int = ROUNDS,
    ) -> None:
        optional = (names.rows,) if rounds == 1 else ()
        super().__init__(client, names.states, clock, rounds, optional)
        self._names, self._tables = names, tables

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port; the rows of a page are looked up after it."""
        page = super().scan(entity, segment, cursor)
        if not self._tables.get(entity):
            return page
        rows = self._read_rows([item.key for item in page.items])
        return ScanPage([self._with_rows(item, rows) for item in page.items], page.cursor)

    def _with_rows(self, item: ScannedState, rows: Mapping[str, Item]) -> ScannedState:
        return item._replace(rows=self._rows_of(item.key, rows))

    def _groups(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Keys that fit one request together with their rows."""
        group: list[str] = []
        size = 0
        for key in keys:
            more = 1 + len(self._row_keys(key))
            if size + more > READ_LIMIT:
                yield group
                group, size = [], 0
            group.append(key)
            size += more
        if group:
            yield group

    def _row_keys(self, key: str) -> list[str]:
        entity, _, entity_id = key.partition("#")
        return [row_key(table, entity_id) for table in self._tables.get(entity, ())]

    def _request(self, keys: list[str]) -> Item:
        request = super()._request(keys)
        rows = [row for key in keys for row in self._row_keys(key)]
        if rows:
            request[self._names.rows] = {"Keys": [{"row": {"S": row}} for row in rows]}
        return request

    def _found(self, keys: list[str], read: Read) -> dict[str, StoredState]:
        states = {each["entity"]["S"]: each for each in read.items if "entity" in each}
        rows = {each["row"]["S"]: each for each in read.items if "row" in each}
        rows |= {key["row"]["S"]: _UNREAD for key in _keys_left(read, self._names.rows)}
        found = {key: _stored(states.get(key), self._rows_of(key, rows)) for key in keys}
        return {key: stored for key, stored in found.items() if stored is not None}

    def _read_rows(self, keys: Sequence[str]) -> dict[str, Item]:
        wanted = iter([row for key in keys for row in self._row_keys(key)])
        chunks = list(iter(lambda: list(islice(wanted, READ_LIMIT)), []))
        answers = in_parallel(self._read_chunk_of_rows, chunks)
        return {item["row"]["S"]: item for items in answers for item in items}

    def _read_chunk_of_rows(self, rows: list[str]) -> list[Item]:
        request = {self._names.rows: {"Keys": [{"row": {"S": row}} for row in rows]}}
        return self._batch.get(request, "rows of tables")

    def _rows_of(self, key: str, rows: Mapping[str, Item]) -> tuple[TableRow, ...]:
        found = ((row, rows.get(row)) for row in self._row_keys(key))
        return tuple(_row(row.partition("#")[0], item) for row, item in found if item is not None)


class DynamoTable:
    """Where loads of tables go; fulfils ``table_ports.TableStore``."""

    def __init__(self, client: Any, rows_table: str, clock: Clock) -> None:
        self._client, self._table, self._clock = client, rows_table, clock

    def noted(self, table: str) -> LoadNote:
        """See the port."""
        try:
            answer = self._client.get_item(
                TableName=self._table, Key=_key(_LOAD + table), ConsistentRead=True
            )
        except AWS_ERRORS as error:
            msg = f"loads cannot be read: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        item = answer.get("Item")
        if item is None:
            return NO_LOAD
        return LoadNote(
            int(item["loaded_at"]["N"]), item["mark"]["S"], int(item["rows"]["N"]),
            item["complete"]["BOOL"],
        )  # fmt: skip

    def note(self, table: str, note: LoadNote) -> None:
        """See the port."""
        item = {
            **_key(_LOAD + table),
            "loaded_at": {"N": str(note.loaded_at)},
            "mark": {"S": note.mark},
            "rows": {"N": str(note.rows)},
            "complete": {"BOOL": note.complete},
        }
        try:
            self._client.put_item(TableName=self._table, Item=item)
        except AWS_ERRORS as error:
            msg = f"load cannot be noted: {error_code(error)}"
            raise StoreUnavailable(msg) from error

    def put_rows(self, rows: Mapping[str, TableRow], expires: int) -> None:
        """See the port: BatchWriteItem, unprocessed items sent again."""
        items = [
            {
                **_key(row_key(row.table, entity_id)),
                "loaded_at": {"N": str(row.loaded_at)},
                "values": {"B": msgspec.msgpack.encode(row.values)},
                "expires": {"N": str(expires // _US_PER_SECOND)},
            }
            for entity_id, row in rows.items()
        ]
        remaining = iter(items)
        chunks = list(iter(lambda: list(islice(remaining, WRITE_LIMIT)), []))
        in_parallel(self._put_chunk, chunks)

    def _put_chunk(self, items: list[Item]) -> None:
        put_items(self._client, self._clock, self._table, items, "rows")


def _keys_left(read: Read, table: str) -> list[Item]:
    left: list[Item] = read.left.get(table, {}).get("Keys", [])
    return left


def _key(row: str) -> Item:
    return {"row": {"S": row}}


def _row(table: str, item: Item) -> TableRow:
    """A stored row; one that cannot be read has no values, and is told from one that is absent."""
    try:
        return TableRow(table, int(item["loaded_at"]["N"]), _decode(item["values"]["B"]), True)
    except (KeyError, ValueError, msgspec.DecodeError):
        return TableRow(table, 2**62, [], True)


def _stored(item: Item | None, rows: tuple[TableRow, ...]) -> StoredState | None:
    if item is None:
        return StoredState(0, b"", rows) if rows else None
    return stored_state(item)._replace(rows=rows)
