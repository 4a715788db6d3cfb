"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines import dynamodb_local, kinesis_mock

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ORACLE_VARIABLE = "HEADRACE_ORACLE_DATA"


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
def dynamodb_local_url() -> Iterator[str]:
    """AWS's own DynamoDB engine, for as long as the tests run."""
    with dynamodb_local() as url:
        yield url


@pytest.fixture(scope="session")
def kinesis_mock_url() -> Iterator[str]:
    """kinesis-mock, for as long as the tests run."""
    with kinesis_mock() as url:
        yield url
