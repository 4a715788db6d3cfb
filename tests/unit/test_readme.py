from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from headrace.adapters import api
from headrace.cli.app import COMMANDS as LISTED
from headrace.cli.app import load
from headrace.definition import Definition, Source, View

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {name: load(name) for name in LISTED}


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_the_readme(name: str, readme: str) -> None:
    assert f"`headrace {name}" in readme


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]

    assert len(command.help.splitlines()) > 1
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_list_of_commands_says_what_a_command_says_of_itself(name: str) -> None:
    first, _, _ = COMMANDS[name].help.partition("\n\n")

    assert " ".join(first.split()) == LISTED[name].summary


def test_help_waits_for_none_of_what_takes_seconds_to_import() -> None:
    """Commands import scikit-learn, moto and Polars; the list of commands must not."""
    listing = "import sys; from headrace.cli import app; app(['--help'], standalone_mode=False)"
    asked = f"{listing}; print(sorted({{'moto', 'polars', 'sklearn', 'boto3'}} & {{*sys.modules}}))"
    answer = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )

    assert answer.stdout.splitlines()[-1] == "[]"


def test_replay_in_memory_loads_neither_moto_nor_scikit_learn() -> None:
    asked = "import sys, headrace.cli.replay; print(sorted({'moto', 'sklearn'} & {*sys.modules}))"
    answer = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )

    assert answer.stdout.splitlines()[-1] == "[]"


def test_every_command_named_in_the_readme_exists(readme: str) -> None:
    named = set(re.findall(r"headrace ([a-z][a-z-]*)", readme))

    assert named
    assert named <= set(COMMANDS)


def test_every_option_named_in_the_readme_exists(readme: str) -> None:
    options = {opt for command in COMMANDS.values() for p in command.params for opt in p.opts}
    named = set(re.findall(r"`(--[a-z-]+)", readme)) - {"--help"}

    assert named
    assert named <= options


def test_every_setting_is_in_the_readme(root: Path, readme: str) -> None:
    text = (root / "layers/headrace/headrace/settings.py").read_text(encoding="utf-8")
    settings = set(re.findall(r"HEADRACE_[A-Z_]+", text))

    assert settings
    assert [name for name in settings if name not in readme] == []


def test_every_route_of_the_template_is_in_the_readme(root: Path, readme: str) -> None:
    text = (root / "template.yaml").read_text(encoding="utf-8")
    routes = re.findall(r"Method: (\w+), Path: \"?(/[^\" }]*(?:\{\w+\}[^\" }]*)*)", text)
    routes += re.findall(r"Method: (\w+)\n\s+Path: (\S+)", text)

    assert len(routes) == 5
    assert [f"{m} {p}" for m, p in routes if f"{m} {p}" not in readme] == []


def test_every_make_target_named_in_documents_exists(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for document in [*root.glob("*.md"), *root.glob("infra/**/*.md")]:
        named = set(re.findall(r"\bmake ([a-z-]+)(?= +#|`|$)", document.read_text()))
        assert named <= targets, document.name


def test_links_of_documents_lead_somewhere(root: Path) -> None:
    for document in [*root.glob("*.md"), *root.glob("infra/**/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


@pytest.mark.parametrize("kind", [Source, View, Definition])
def test_every_part_of_a_definition_is_explained(kind: type) -> None:
    names = [name for name in kind.__dataclass_fields__]  # type: ignore[attr-defined]
    for name in names:
        assert f"{name}:" in (kind.__doc__ or ""), name


def test_statuses_named_in_the_readme_are_those_of_faults(readme: str) -> None:
    for status in {*(s.value for s in api.STATUSES.values()), 404, 422, 503}:
        assert str(status) in readme
