"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests import engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).resolve().parent.parent
ORACLE_VARIABLE = "HEADRACE_ORACLE_DATA"
ENGINES_VARIABLE = "HEADRACE_ENGINES"
T = TypeVar("T")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def oracle_data() -> Path:
    """Folder of events, labels and the features that somebody else computed from them."""
    beside = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get(ORACLE_VARIABLE, beside))
    if not (folder / "card_small_events.parquet").is_file():
        pytest.skip(
            f"the oracle's card_small_events.parquet is not in {folder}; "
            f"set {ORACLE_VARIABLE} to the folder that holds it"
        )
    return folder


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """Endpoint of DynamoDB Local, AWS's own engine."""
    with served("DynamoDB Local", engines.dynamodb_local) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def kinesis_mock() -> Iterator[str]:
    """Endpoint of kinesis-mock."""
    with served("kinesis-mock", engines.kinesis_mock) as endpoint:
        yield endpoint


@contextmanager
def served(name: str, engine: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """An engine's endpoint; skips what needs it where it cannot be had, and says why."""
    with ExitStack() as running:
        yield obtained(name, lambda: running.enter_context(engine()))


def obtained(name: str, obtain: Callable[[], T]) -> T:
    """What is fetched or started; skips what needs it where it cannot be had, and says why."""
    try:
        return obtain()
    except engines.NotHereError as missing:
        if os.environ.get(ENGINES_VARIABLE) == "required":
            pytest.fail(f"{name}: {missing} ({ENGINES_VARIABLE}=required)")
        pytest.skip(f"{name}: {missing}")
