"""`headrace send`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from headrace.adapters.clock import SystemClock
from headrace.cli.terminal import (
    AsJson,
    ModelDir,
    errors_told,
    find_project,
    model_dir_of,
    out,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.errors import Misconfigured
from headrace.loading import load_definition
from headrace.local.deploy import local_client
from headrace.local.producer import put_records
from headrace.local.session import read_session
from headrace.offline.feed import arrivals, partition_keys, read_feed, records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.definition import Definition

CHUNK = 500

_LONGEST_KEY = 256


def send(
    file: Annotated[Path, typer.Argument(help="JSON lines (one event a line), or Parquet.")],
    source: Annotated[
        str | None, typer.Option(help="Source of a Parquet file's rows; default: the scored one.")
    ] = None,
    model_dir: ModelDir = None,
    json: AsJson = False,
) -> None:
    """Put a file's events on the stream of the running `headrace up`.

    JSON lines go as they are, faults included; rows of a Parquet file in order of arrival.
    """
    with errors_told():
        session = read_session(find_project())
        definition = load_definition(model_dir_of(model_dir) / "definition.py")
        kinesis = local_client("kinesis", session.endpoint_url)
        sent = 0
        with progress_bar("Sending", None) as advance:
            for chunk in _chunks(file, definition, source):
                put_records(kinesis, session.stream, chunk, SystemClock())
                sent += len(chunk)
                advance(len(chunk))
    if json:
        print_json({"sent": sent})
    else:
        out.print(f"{sent:,} events on {session.stream}")


def _chunks(
    file: Path, definition: Definition, source: str | None
) -> Iterator[list[tuple[bytes, str]]]:
    if file.suffix == ".parquet":
        yield from _parquet(file, definition, source or definition.scored.name)
        return
    try:
        lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror}); expected JSON lines or Parquet"
        raise Misconfigured(msg) from error
    for start in range(0, len(lines), CHUNK):
        yield [(line, _key(line, definition)) for line in lines[start : start + CHUNK]]


def _parquet(file: Path, definition: Definition, source: str) -> Iterator[list[tuple[bytes, str]]]:
    found = {each.name: each for each in definition.sources}.get(source)
    if found is None:
        known = ", ".join(each.name for each in definition.sources)
        msg = f"--source: got {source!r}; expected one of {known}"
        raise Misconfigured(msg)
    feeds = [read_feed(file, found)]
    order = arrivals(feeds)
    keys = iter(partition_keys(definition, feeds, order))
    for chunk in records(feeds, order, CHUNK):
        yield [(record.data, next(keys)) for record in chunk]


def _key(line: bytes, definition: Definition) -> str:
    """The batch entity's id, as the endpoint puts it; what has none goes by itself."""
    field = next(
        name for name, each in definition.scored.entities.items() if each == definition.batch_entity
    )
    try:
        key = str(msgspec.json.decode(line)[field])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "unknown"
    return key if 1 <= len(key) <= _LONGEST_KEY else "unknown"  # Kinesis takes no others
