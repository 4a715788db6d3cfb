"""Files of tables in S3, as a job leaves them under ``<prefix><table>/``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS, error_code, in_parallel
from headrace.adapters.parquet import read_bytes, single_load
from headrace.errors import StoreUnavailable, TooLarge
from headrace.events import time_to_us
from headrace.table_ports import Found

if TYPE_CHECKING:
    from headrace.adapters.parquet import ParquetLoad
    from headrace.tables import Table

MOST_BYTES = 256 * 2**20
MOST_CELLS = 50_000_000
"""Rows times columns of one load; with them the function stays below its memory."""

_SUFFIX = ".parquet"
_HIDDEN = ("_", ".")  # what Spark and others write beside the data, or have not finished


class S3TableFiles:
    """Fulfils ``table_ports.TableSource``.

    Args:
        client: Of S3, patient enough for whole files.
        bucket: Where the job writes.
        prefix: Of all tables, such as ``tables/``.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def newest(self, table: Table) -> Found | None:
        """See the port.

        An object right under ``<prefix><table>/`` is a load of its own; objects in one folder
        below it are the parts of one load, however deep the folder.
        """
        loads: dict[str, list[dict[str, Any]]] = {}
        place = f"{self._prefix}{table.name}/"
        for each in self._objects(place):
            folder, _, name = each["Key"].removeprefix(place).rpartition("/")
            if name.endswith(_SUFFIX) and not name.startswith(_HIDDEN):
                loads.setdefault(folder or name, []).append(each)
        newest = max(loads.values(), key=_when, default=None)
        if newest is None:
            return None
        mark = hashlib.sha256("".join(sorted(map(_identity, newest))).encode()).hexdigest()
        return Found(_when(newest)[0], mark, {each["Key"]: each["Size"] for each in newest})

    def read(self, table: Table, found: Found) -> ParquetLoad:
        """See the port."""
        size = sum(found.files.values())
        name = min(found.files)
        if size > MOST_BYTES:
            msg = f"{name}: bytes of a load of table {table.name!r}"
            raise TooLarge(msg, size, MOST_BYTES)
        files = in_parallel(self._read, sorted(found.files))
        load = read_bytes(name, files, table, found.loaded_at, MOST_CELLS)
        return single_load(load, found.mark)

    def _objects(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        try:
            found = pages.paginate(Bucket=self._bucket, Prefix=prefix)
            return [each for page in found for each in page.get("Contents", [])]
        except AWS_ERRORS as error:
            msg = f"{prefix} cannot be listed: {error_code(error)}"
            raise StoreUnavailable(msg) from error

    def _read(self, key: str) -> bytes:
        try:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            return bytes(body.read(MOST_BYTES + 1))
        except AWS_ERRORS as error:
            msg = f"{key} cannot be read: {error_code(error)}"
            raise StoreUnavailable(msg) from error


def _when(objects: list[dict[str, Any]]) -> tuple[int, str]:
    """When the last of a load's objects was written, microseconds UTC; then their names."""
    return max((time_to_us(each["LastModified"]), each["Key"]) for each in objects)


def _identity(each: dict[str, Any]) -> str:
    return f"{each['Key']} {each['ETag']} {each['LastModified'].isoformat()}\n"
