"""The command line: one module per command."""

from headrace.cli.app import app

__all__ = ["app"]
