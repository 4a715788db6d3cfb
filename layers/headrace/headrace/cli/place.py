"""Where a command does its work: the running `headrace up`, an endpoint, or a stack on AWS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.adapters import aws
from headrace.adapters.cloudformation import stack_environment
from headrace.cli.terminal import find_project
from headrace.local.deploy import endpoint_url, local_client
from headrace.local.runtime import function_environment
from headrace.local.session import read_session
from headrace.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Stack = Annotated[
    str | None, typer.Option(help="Name of a stack on AWS, with your own credentials.")
]


def place_of(stack: str | None, endpoint: str | None) -> tuple[Settings, Callable[[str], Any]]:
    """Names of tables and bucket, and what makes clients for where they are.

    Raises:
        typer.BadParameter: Both are given.
        Unavailable: Neither is given and no `headrace up` runs, or AWS did not tell.
    """
    if stack is not None and endpoint is not None:
        msg = "--stack is on AWS and --endpoint is not: give one of them"
        raise typer.BadParameter(msg)
    if stack is not None:
        return read_settings(stack_environment(aws.client, stack)), aws.client
    project = find_project()
    url = endpoint_url(endpoint) if endpoint else read_session(project).endpoint_url
    return _template_settings(project), partial(local_client, endpoint=url)


def _template_settings(project: Path) -> Settings:
    from headrace.local.template import read_stack  # a second, and a stack on AWS needs none of it

    functions = read_stack(project / "template.yaml").functions
    return read_settings(function_environment(functions))
