"""What becomes of the engines' packages where something is missing or not what was pinned."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import conftest, engines

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_archive_that_is_not_what_was_pinned_is_refused_before_it_is_unpacked(
    path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tgz"
    with tarfile.open(other, "w:gz") as archive:
        archive.add(__file__, "package/main.js")
    program(path, "npm", f'/bin/cp {other} "$5/kinesis-local-0.6.2.tgz"')
    cache = tmp_path / "cache"
    with pytest.raises(engines.AlteredError, match="expected sha512-mFlmksPM"):
        engines.obtain(engines.KINESIS_MOCK, cache)
    assert list(cache.iterdir()) == []


def test_package_is_obtained_once(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kinesis-local-0.6.2"
    kept.mkdir()
    assert engines.obtain(engines.KINESIS_MOCK, tmp_path) == kept
    with pytest.raises(engines.NotHereError, match="npm is not on the PATH"):
        engines.obtain(replace(engines.KINESIS_MOCK, version="0.6.3"), tmp_path)


def test_registry_out_of_reach_is_told_with_what_npm_said(path: Path, tmp_path: Path) -> None:
    program(path, "npm", "echo npm warn x >&2; echo npm error code ENOTFOUND >&2; exit 1")
    with pytest.raises(engines.NotHereError, match="ENOTFOUND; it needs a network"):
        engines.obtain(engines.KINESIS_MOCK, tmp_path)


@pytest.mark.usefixtures("path")
def test_missing_java_and_node_are_told_with_what_to_install() -> None:
    needed = "java is not on the PATH; .* install a JRE"
    with pytest.raises(engines.NotHereError, match=needed), engines.dynamodb_local():
        pass
    needed = "node is not on the PATH; .* install Node"
    with pytest.raises(engines.NotHereError, match=needed), engines.kinesis_mock():
        pass


def test_java_that_is_too_old_is_told(path: Path) -> None:
    program(path, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    needed = "java is 11; DynamoDB Local runs on Java 17"
    with pytest.raises(engines.NotHereError, match=needed), engines.dynamodb_local():
        pass


@pytest.mark.usefixtures("path")
def test_tests_of_a_missing_engine_are_skipped_unless_engines_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(conftest.ENGINES_VARIABLE, raising=False)
    serve = conftest.served("DynamoDB Local", engines.dynamodb_local)
    with pytest.raises(pytest.skip.Exception, match="DynamoDB Local: java is not on"), serve:
        pass
    monkeypatch.setenv(conftest.ENGINES_VARIABLE, "required")
    serve = conftest.served("DynamoDB Local", engines.dynamodb_local)
    with pytest.raises(pytest.fail.Exception, match="HEADRACE_ENGINES=required"), serve:
        pass
