"""Clients of AWS, without any call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.httpsession import where
from botocore.loaders import JSONFileLoader, Loader

from headrace.adapters import aws
from headrace.adapters.lean import _authorities

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "name",
    ["dynamodb/2012-08-10/service-2", "dynamodb/2012-08-10/endpoint-rule-set-1", "endpoints"],
)
def test_descriptions_of_services_are_read_as_botocore_reads_them(name: str) -> None:
    path = f"{Loader.BUILTIN_DATA_PATH}/{name}"
    found = aws._QuickFiles().load_file(path)
    assert found == JSONFileLoader().load_file(path)
    assert list(found) == list(JSONFileLoader().load_file(path))


def test_description_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert aws._QuickFiles().load_file(str(tmp_path / "nonesuch")) is None


def test_authorities_are_those_that_the_client_was_told_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert _authorities(aws.client("dynamodb")) == where()
    own = tmp_path / "own.pem"
    own.touch()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(own))
    assert _authorities(aws.client("dynamodb")) == str(own)
    assert _authorities(object()) == str(own)  # of a client that botocore has made otherwise
