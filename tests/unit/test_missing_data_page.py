"""The page on missing data names every cause, policy and outcome, and its example is true."""

from __future__ import annotations

import ast
import json
import re
from textwrap import dedent
from typing import TYPE_CHECKING, Any, get_args

import pytest

from headrace import definition as words
from headrace.adapters.clock import FixedClock
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.fields import Invalid
from headrace.imputation import Cause
from headrace.model import load_bundle
from headrace.policies import Policy
from headrace.scoring import Scorer, StreamScorer
from tests.fakes import DAY, HOUR, NOON, iso, record

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.scores import ScoreRecord

NAMES = [
    *(f"`{cause}`" for cause in Cause),
    *(f"{policy.__name__}(" for policy in get_args(Policy)),
    *(f'"{outcome}"' for outcome in Invalid),
]


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "infra" / "missing-data.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [dedent(each) for each in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize("name", NAMES)
def test_page_names_it(page: str, name: str) -> None:
    assert name in page


def test_page_promises_no_cause_that_there_is_not(page: str) -> None:
    table = page.split("## Causes")[1].split("##")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(f"`{cause}`" for cause in Cause)


@pytest.mark.parametrize("name", ["README.md", "infra/missing-data.md"])
def test_python_of_a_page_can_be_copied(root: Path, name: str) -> None:
    """Arguments that were cut out of their call turn into tuples, which no definition takes."""
    found = blocks((root / name).read_text(encoding="utf-8"), "python")
    assert found
    for block in found:
        values = [n.value for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Assign)]
        assert not [each for each in values if isinstance(each, ast.Tuple)], block


def keyword(page: str, call: str, name: str) -> Any:
    """What the first Python block of the page gives a call for one of its arguments."""
    (found,) = [
        given.value
        for node in ast.walk(ast.parse(blocks(page, "python")[0]))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == call
        for given in node.keywords
        if given.arg == name
    ]
    customer = words.Entity("customer")
    return eval(ast.unparse(found), {**vars(words), "customer": customer})


def test_definition_of_the_example_is_that_of_the_project(page: str, root: Path) -> None:
    definition = load_bundle(root / "layers" / "model").definition
    assert definition.scored.fields == keyword(page, "Source", "fields")
    assert definition.imputation == keyword(page, "Definition", "imputation")


def scored(root: Path) -> ScoreRecord:
    """The example's third payment, after one of 30.00 and one of 50.00."""
    states, scores, clock = MemoryStates(), MemoryScores(), FixedClock(NOON)
    scorer = Scorer(load_bundle(root / "layers" / "model"))
    stream = StreamScorer(scorer, states, scores, MemoryQuarantine(), clock)
    for number, (at, amount) in enumerate(
        [(NOON - 2 * DAY, 30.0), (NOON - HOUR, 50.0), (NOON, -12.5)]
    ):
        event = {"source": "transactions", "transaction_id": number, "event_time": iso(at),
                 "customer_id": 1, "terminal_id": 2, "amount": amount}  # fmt: skip
        assert stream.score([record(event, at, number)]).scored == 1
    found = scores.get("2")
    assert found is not None
    return found


def test_record_of_the_example_is_what_comes_of_it(page: str, root: Path) -> None:
    told = json.loads("{" + blocks(page, "json")[0].replace(", ...", "") + "}")
    found = scored(root)
    assert {name: found.features[name] for name in told["features"]} == told["features"]
    for name, each in told["imputed"].items():
        imputed = found.imputed[name]
        assert (imputed.cause, imputed.policy) == (each["cause"], each["policy"])
        fitted = imputed.policy.startswith("training")  # its value is another in every bundle
        assert fitted or imputed.value == each["value"]
