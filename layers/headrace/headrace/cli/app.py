"""The `headrace` command and its subcommands.

A subcommand's module is imported when the command is called: some of them import scikit-learn, moto
or Polars, and `headrace --help` or a look-up should not wait for those.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

MARKUP: Final = "markdown"


class Command(NamedTuple):
    """Where a subcommand is, and what the list of commands says of it.

    Attributes:
        module: Its module in this package.
        name: Its function there, or the Typer of a group of commands.
        summary: The first paragraph of its help.
    """

    module: str
    name: str
    summary: str


COMMANDS = {
    "demo": Command("demo", "demo", "Tell the whole story on this machine in two minutes."),
    "up": Command("up", "up", "Run local AWS with stream, endpoint and schedule until Ctrl-C."),
    "send": Command(
        "send", "send", "Put a file's events on the stream of the running `headrace up`."
    ),
    "scores": Command(
        "scores",
        "scores",
        "Ask the running `headrace up` for an entity's best score, or with `event` for an event's.",
    ),
    "load-batch": Command(
        "load_batch",
        "load_batch",
        "Load batch features: the rows of a table, in place of the former ones.",
    ),
    "seed-state": Command(
        "seed_state",
        "seed_state",
        "Write entity states from history, so that a stream starts warm.",
    ),
    "batch": Command(
        "batch",
        "app",
        "The batch run, which scores everyone whose real-time score will not last.",
    ),
    "redrive": Command(
        "redrive", "redrive", "Score what was refused or given up, once its cause is mended."
    ),
    "simulate": Command(
        "simulate",
        "simulate",
        "Write made-up card transactions and their labels as Parquet, to try everything with.",
    ),
    "replay": Command(
        "replay", "replay", "Replay a file in order of arrival through the stream scorer."
    ),
    "backfill": Command(
        "backfill",
        "backfill",
        "Compute the features of every event at once, as the stream would have had them.",
    ),
    "skew": Command(
        "skew",
        "skew",
        "Hold logged features against backfilled ones, and give each difference its reason.",
    ),
    "train": Command(
        "train", "train", "Fit the model on replayed features, compile it and write the bundle."
    ),
    "compile": Command(
        "compile",
        "compile_model",
        "Compile the model of a bundle again, and print how its scores compare.",
    ),
    "backtest": Command(
        "backtest",
        "backtest",
        "Say what real time would have been worth on your history, and whether to go.",
    ),
    "plan": Command(
        "plan",
        "plan",
        "Say what the stages from batch to real time cost, and what breaks first as traffic grows.",
    ),
    "openapi": Command(
        "openapi",
        "write_openapi",
        "Print the endpoint of a definition as an OpenAPI document, for clients and for tools.",
    ),
}


class Commands(TyperGroup):
    """Lists commands without their modules, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, loaded, and what is left of them."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else load(name), rest


def load(name: str) -> Any:
    """A subcommand with its parameters; imports its module."""
    listed = COMMANDS[name]
    found = getattr(import_module(f"headrace.cli.{listed.module}"), listed.name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
        found.command(name=name)(function)
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="headrace",
    cls=Commands,
    help="Real-time scoring of scikit-learn models on AWS Lambda, and all of it on this machine.",
    epilog="Start with `headrace demo`. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in COMMANDS.items():
    app.command(name=name, help=command.summary)(lambda: None)
