"""The commands of the guide are those of the command line."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from headrace.cli.app import COMMANDS, load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def guide(root: Path) -> str:
    return (root / "infra" / "guide.md").read_text(encoding="utf-8")


def commands(guide: str) -> list[list[str]]:
    """The words of every command that is set off by itself."""
    joined = guide.replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (headrace .*)$", joined, re.MULTILINE)]


def test_every_step_has_a_command_and_what_it_printed(guide: str) -> None:
    steps = re.split(r"^## \d\. ", guide, flags=re.MULTILINE)[1:]

    assert len(steps) == 7
    for step in steps:
        assert commands(step)
        assert re.search(r"^```\n.+?^```$", step, re.MULTILINE | re.DOTALL)


def test_every_command_parses_with_its_options(guide: str) -> None:
    found = commands(guide)

    assert len(found) == 8
    for _, name, *arguments in found:
        assert name in COMMANDS
        command = load(name)
        command.make_context(name, list(arguments))


def test_files_that_a_step_reads_were_written_by_one_before(guide: str) -> None:
    there: set[str] = set()
    for _, name, *arguments in commands(guide):
        given = dict(pairwise(arguments))
        if name == "simulate":
            there |= {f"{given['--out']}/{file}.parquet" for file in ("events", "labels")}
        for option in ("--events", "--labels", "--log"):
            if option in given:
                assert given[option] in there, (name, given[option])
        there |= {given["--out"]} if "--out" in given else set()


def test_options_and_links_that_the_text_names_exist(root: Path, guide: str) -> None:
    options = {opt for name in COMMANDS for p in load(name).params for opt in p.opts}
    assert set(re.findall(r"`(--[a-z-]+)", guide)) <= options
    for name in re.findall(r"`headrace ([a-z-]+)", guide):
        assert name in COMMANDS
