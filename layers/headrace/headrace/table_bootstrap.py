"""Chooses the adapters of the function that loads tables: it has Polars, and no model to load."""

from __future__ import annotations

from functools import cache

from headrace.adapters import aws
from headrace.adapters.clock import SystemClock
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import LeanClient
from headrace.adapters.table_files import S3TableFiles
from headrace.adapters.tables import DynamoTable
from headrace.loading import load_definition
from headrace.settings import read_settings
from headrace.table_load import TableLoader


@cache
def table_loader() -> TableLoader:
    """Loads the definition's tables from the bucket that the environment names."""
    settings, clock = read_settings(), SystemClock()
    definition = load_definition(settings.model_dir / "definition.py")
    files = S3TableFiles(aws.client("s3"), settings.table_bucket, settings.table_prefix)
    client = aws.client("dynamodb")
    client = lean(client, LeanClient) if settings.lean_reads else client
    store = DynamoTable(client, settings.feature_table, clock)
    return TableLoader(definition.tables, files, store, clock)


def forget() -> None:
    """Drop what was built; the environment is read again at the next use."""
    table_loader.cache_clear()
