"""`headrace scores`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.table import Table

from headrace.answers import recompute
from headrace.cli.terminal import (
    AsJson,
    err,
    errors_told,
    fail,
    find_project,
    model_dir_of,
    out,
    print_json,
)
from headrace.local.http import call
from headrace.local.session import read_session
from headrace.model import load_bundle
from headrace.scores import BatchScore, ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = (
    "score", "rung", "reason", "causes", "given", "age", "ages", "table_ages", "event_time",
    "as_of", "model_version", "late",
)  # fmt: skip


def scores(
    entity: Annotated[str, typer.Argument(help="Entity, such as customer; or `event`.")],
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the event's.")],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compute it again from its record and the project's bundle."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Ask the running `headrace up` for an entity's best score, or with `event` for an event's.

    An entity's answer names its rung: the last real-time score, the batch score, or the prior.
    """
    if not entity or not entity_id:
        fail("ENTITY and ID: got an empty one; expected such as `customer 42` or `event e-17`")
    name = quote(entity_id, safe="")
    path = f"/scores/{name}" if entity == "event" else f"/entities/{quote(entity)}/{name}/score"
    with errors_told():
        reply = call(read_session(find_project()).api_url, "GET", path)
    body = reply.json()
    if reply.status != 200:
        fail(str(body.get("detail") or body.get("message") or body))
    if verify:
        with errors_told():
            _verify(body)
    if json:
        print_json(body)
        return
    out.print(score_table(f"{entity} {entity_id}", body))


def _verify(body: Mapping[str, Any]) -> None:
    """Hold a score against what its record and the bundle give; leave where they differ."""
    record = body.get("record") or body
    if "features" not in record:
        fail(f"rung is {body['rung']}, without a record of features; nothing to compute again")
    kind: type[BatchScore | ScoreRecord] = BatchScore if "as_of" in record else ScoreRecord
    again = recompute(msgspec.convert(record, kind), load_bundle(model_dir_of(None)))
    if again != record["score"]:
        fail(f"computed again, the score is {again!r}; the record says {record['score']!r}")
    err.print("Computed again from its record: the same to the last bit.")


def score_table(title: str, body: Mapping[str, Any]) -> Table:
    """A score with where it comes from, and each column with what stood in for it."""
    record = body.get("record") or body
    table = Table(title=title, show_header=False)
    for field in _SHOWN:
        value = body.get(field, record.get(field))
        if value not in (None, "", {}):
            table.add_row(field, f"{value:,.0f} s" if field == "age" else _text(value))
    for column, value in record.get("features", {}).items():
        seen = "NaN" if value is None else f"{value:g}"
        imputed = record["imputed"].get(column)
        table.add_row(column, f"{seen}  ({_imputed(imputed)})" if imputed else seen)
    return table


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    return str(value)


def _imputed(imputed: Mapping[str, Any]) -> str:
    if imputed["value"] is None:
        return f"absent: {imputed['cause']}, {imputed['policy']}"
    return f"imputed: {imputed['cause']}, {imputed['policy']}"
