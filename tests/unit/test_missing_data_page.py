"""The page on missing data names every cause, policy and outcome that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from headrace.fields import Invalid
from headrace.imputation import Cause
from headrace.policies import Policy

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    *(f"`{cause}`" for cause in Cause),
    *(f"{policy.__name__}(" for policy in get_args(Policy)),
    *(f'"{outcome}"' for outcome in Invalid),
]


@pytest.mark.parametrize("name", NAMES)
def test_page_names_it(root: Path, name: str) -> None:
    page = (root / "infra" / "missing-data.md").read_text(encoding="utf-8")
    assert name in page


def test_page_promises_no_cause_that_there_is_not(root: Path) -> None:
    page = (root / "infra" / "missing-data.md").read_text(encoding="utf-8")
    table = page.split("## Causes")[1].split("##")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(f"`{cause}`" for cause in Cause)
