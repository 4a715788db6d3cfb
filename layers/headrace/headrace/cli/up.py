"""`headrace up`."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.terminal import Endpoint, ModelDir, errors_told, fail, find_project, out
from headrace.errors import Unavailable
from headrace.local.lambda_runtime import built_layers, run_lambda, run_lambda_with_layers
from headrace.local.runtime import play_lambda
from headrace.local.session import Session, read_session, remove_session, write_session
from headrace.local.stack import LOCAL_PARAMETERS, LocalAws

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.local.stack import Player
    from headrace.local.triggers import Delivery

_SIGNAL_SECONDS = 0.5


class RunBy(StrEnum):
    """What runs the functions."""

    IN_PROCESS = "in-process"
    LAMBDA = "lambda"
    LAYERS = "layers"


Runtime = Annotated[
    RunBy,
    typer.Option(
        help="What runs the functions: this process; Lambda's own runtime (`lambda`); or that with "
        "the layers of `make layers`, on Python 3.13 (`layers`)."
    ),
]


def up(
    endpoint: Endpoint = None, model_dir: ModelDir = None, runtime: Runtime = RunBy.IN_PROCESS
) -> None:
    """Run local AWS with stream, endpoint and schedule until Ctrl-C.

    The functions' logs go to standard error. Put events with `headrace send`, look scores up
    with `headrace scores`, or call the endpoint as printed.
    """
    if runtime is RunBy.LAYERS and model_dir is not None:
        fail("--model-dir: the layers have a model of their own; run `make layers` after a change")
    project = find_project()
    _refuse_a_second(project)
    template, play = project / "template.yaml", _player(runtime, project)
    with (
        errors_told(),
        LocalAws.start(template, endpoint=endpoint, model_dir=model_dir, play=play) as aws,
    ):
        aws.serve()
        session = Session(aws.api.base_url, aws.endpoint_url, aws.stack.streams[0].name)
        write_session(project, session)
        _explain(session)
        try:
            _wait_for_a_signal()
            out.print(f"\n{_delivered(aws.delivered)}")
        finally:
            remove_session(project)


def _refuse_a_second(project: Path) -> None:
    """One at a time in a project: the other commands would find the last one only."""
    with suppress(Unavailable):
        running = read_session(project)
        fail(f"local AWS runs already at {running.api_url}: use it, or stop it first")


def _player(runtime: RunBy, project: Path) -> Player:
    if runtime is RunBy.LAYERS:
        return partial(run_lambda_with_layers, built_layers(project))
    return run_lambda if runtime is RunBy.LAMBDA else play_lambda


def _wait_for_a_signal() -> None:
    """Until Ctrl-C or a request to end, also where a shell made it deaf to Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(_SIGNAL_SECONDS):
        pass


def _explain(session: Session) -> None:
    sigv4 = '--aws-sigv4 "aws:amz:us-east-1:execute-api" --user local:local'
    out.print("[bold]Local AWS is up.[/] Ctrl-C stops it.")
    for name, value in (
        ("endpoint", session.api_url),
        ("AWS services", f"{session.endpoint_url} (set AWS_ENDPOINT_URL to it)"),
        ("stream", session.stream),
    ):
        out.print(f"  {name:13} {value}", highlight=False, soft_wrap=True)
    local = ", ".join(f"{name} {value}" for name, value in LOCAL_PARAMETERS.items())
    out.print(f"  {'unlike AWS':13} {local}: engines here are slower", highlight=False)
    out.print("\nTry:", highlight=False)
    for line in (
        "headrace send events.jsonl",
        "headrace scores customer 1",
        f"curl {sigv4} {session.api_url}/health",
        f"curl {sigv4} {session.api_url}/entities/customer/1/score",
    ):
        out.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)


def _delivered(delivered: Delivery) -> str:
    return f"Stopped. {delivered.records:,} records delivered, {delivered.failed:,} given up."
