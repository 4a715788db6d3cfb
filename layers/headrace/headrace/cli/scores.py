"""`headrace scores`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.table import Table

from headrace.cli.terminal import AsJson, errors_told, fail, find_project, out, print_json
from headrace.local.http import call
from headrace.local.session import read_session


def scores(
    entity: Annotated[str, typer.Argument(help="Entity, such as customer; or `event`.")],
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the event's.")],
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
    if json:
        print_json(body)
        return
    record = body.get("record") or body
    table = Table(title=f"{entity} {entity_id}", show_header=False)
    for field in ("score", "rung", "age", "event_time", "as_of", "model_version", "late"):
        if field in body or field in record:
            table.add_row(field, _shown(field, body.get(field, record.get(field))))
    for column, value in record.get("features", {}).items():
        imputed = record["imputed"].get(column)
        table.add_row(
            column, f"{value:g}" + (f"  (imputed: {imputed['cause']})" if imputed else "")
        )
    out.print(table)


def _shown(field: str, value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} s" if field == "age" else str(value)
