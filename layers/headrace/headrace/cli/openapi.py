"""`headrace openapi`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headrace.cli.terminal import ModelDir, errors_told, model_dir_of
from headrace.loading import load_definition
from headrace.offline.openapi import openapi


def write_openapi(
    model_dir: ModelDir = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output by default.")
    ] = None,
) -> None:
    """Print the endpoint of a definition as an OpenAPI document, for clients and for tools.

    Events are described as the definition has them, answers as the code gives them. Write it again
    after a change of the definition: infra/openapi.json is the reference definition's.
    """
    with errors_told():
        document = openapi(load_definition(model_dir_of(model_dir) / "definition.py"))
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
    if to is None:
        typer.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")
