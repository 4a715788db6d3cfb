"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.errors import HeadraceError
from headrace.events import time_to_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ModelDir = Annotated[
    Path | None,
    typer.Option(help="Folder with definition.py and bundle/; by default the project's."),
]
Endpoint = Annotated[
    str | None,
    typer.Option(help="`localstack`, or the URL of an AWS-like endpoint, instead of moto."),
]


def fail(message: str) -> NoReturn:
    """Say what went wrong and leave with exit code 1."""
    err.print("[bold red]Error:[/]", escape(message), highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell Headrace's own errors in a sentence instead of a traceback."""
    try:
        yield
    except HeadraceError as error:
        fail(str(error))


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; call what it gives with the number of things done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)


def print_json(result: object) -> None:
    """Print a result as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    out.print(text, highlight=False, soft_wrap=True, markup=False)


def parse_time(text: str, option: str) -> int:
    """An ISO 8601 time as microseconds UTC; without a zone it means UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: got {text!r}; expected ISO 8601, such as 2024-05-01T12:00:00Z")
    return time_to_us(time if time.tzinfo else time.replace(tzinfo=UTC))


def parse_duration(text: str, option: str) -> timedelta:
    """A duration such as ``2h``, ``90s``, ``15m`` or ``1d``."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        return timedelta(**{units[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError, OverflowError):
        fail(f"{option}: got {text!r}; expected a number and a unit, such as 90s, 15m, 2h or 1d")


def check_folder(path: Path | None, option: str) -> None:
    """Leave before any work is done for a file that could not be written."""
    if path is not None and not os.access(path.absolute().parent, os.W_OK):
        fail(f"{option}: {path.absolute().parent} is no folder that can be written to")
    if path is not None and path.is_dir():
        fail(f"{option}: {path} is a folder; expected a file's name")


def find_project(start: Path | None = None) -> Path:
    """The folder with template.yaml: this one or one above it."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "template.yaml").is_file():
            return folder
    return fail(f"no template.yaml in {here} or above; run headrace inside a project")


def model_dir_of(given: Path | None) -> Path:
    """The model folder that was given, or the project's."""
    return given if given is not None else find_project() / "layers" / "model"
