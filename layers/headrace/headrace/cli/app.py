"""The `headrace` command and its subcommands."""

from __future__ import annotations

import typer

from headrace.cli import batch
from headrace.cli.backfill import backfill
from headrace.cli.compile import compile_model
from headrace.cli.demo import demo
from headrace.cli.load_batch import load_batch
from headrace.cli.redrive import redrive
from headrace.cli.replay import replay
from headrace.cli.scores import scores
from headrace.cli.send import send
from headrace.cli.skew import skew
from headrace.cli.train import train
from headrace.cli.up import up

app = typer.Typer(
    name="headrace",
    help="Real-time scoring of scikit-learn models on AWS Lambda, and all of it on this machine.",
    epilog="Start with `headrace demo`. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, up, send, scores, load_batch, redrive, replay, backfill, skew, train):
    app.command()(command)
app.command(name="compile")(compile_model)
app.add_typer(batch.app, name="batch")
