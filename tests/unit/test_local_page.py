"""The page on local AWS names tests for what it claims, and they exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PLAYED = re.compile(r"^(yes|in part|refused|no)\b")


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "infra" / "local-aws.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def existing(root: Path) -> set[str]:
    found: set[str] = set()
    for path in (root / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M))
    return found


def rows(page: str) -> list[list[str]]:
    table = page.partition("## What is played")[2].partition("\n\nMoto")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_test_named_on_the_page_exists(page: str, existing: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 40
    assert named - existing == set()


def test_every_behaviour_is_played_refused_or_not_and_what_is_claimed_is_shown(page: str) -> None:
    assert len(rows(page)) > 30
    for behaviour, played, tests in rows(page):
        found = PLAYED.match(played)
        assert found, behaviour
        assert bool(tests) == (found[1] != "no"), behaviour
