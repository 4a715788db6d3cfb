"""LocalStack in host mode, without Docker: installed, started and stopped.

Its data engines are those of ``engines``, of the same pinned versions; Lambda runs by the
project's own executor (infra/localstack). ``python -m tests.localstack`` starts one until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from headrace.errors import Unavailable
from headrace.local.deploy import endpoint_url
from headrace.local.lambda_runtime import find_python
from tests.engines import (
    DYNAMODB_LOCAL,
    KINESIS_MOCK,
    NotHereError,
    answers,
    find_java,
    find_program,
    free_port,
    obtain,
    running,
)
from tests.environments import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "4.14.0"
ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "infra" / "localstack"
LIBRARY = ROOT / "layers" / "headrace"
HEALTH = "/_localstack/health"
# LocalStack wants a Java 21 of its own, with an agent that allows more indexes than are used here.
_JAVA_SHIM = """#!/bin/sh
for argument do
    shift
    case $argument in -javaagent:*) ;; *) set -- "$@" "$argument" ;; esac
done
exec {java} "$@"
"""


def install() -> Path:
    """The folder of its environment.

    Raises:
        NotHereError: There is no Python 3.13, or its packages cannot be obtained.
    """
    try:
        python = find_python("python3.13")
    except Unavailable as error:
        msg = f"LocalStack {VERSION} runs on Python 3.13: {error}"
        raise NotHereError(msg) from error
    return environment(f"localstack-{VERSION}", PLUGIN / "requirements.txt", python)


@contextmanager
def localstack() -> Iterator[str]:
    """An empty LocalStack; its endpoint.

    Raises:
        NotHereError: It, or one of its engines, cannot be had on this machine.
    """
    folder, port = install(), free_port()
    with tempfile.TemporaryDirectory(prefix="localstack-") as scratch:
        root = Path(scratch)
        _place_engines(root / "fs" / "var" / "lib" / "localstack" / "lib")
        (root / "tmp").mkdir()
        settings = {
            "ACTIVATE_PRO": "0",
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(root / "fs"),
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "KINESIS_LATENCY": "10",  # milliseconds until a stream has changed
            "KINESIS_MOCK_VERSION": KINESIS_MOCK.version,
            "LAMBDA_RETRY_BASE_DELAY": "1",  # of asynchronous invocations: AWS's is 60
            "LAMBDA_RUNTIME_EXECUTOR": "awslambdaric",
            "OVERRIDE_IN_DOCKER": "false",
            "PYTHONPATH": f"{PLUGIN}:{LIBRARY}",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "TMPDIR": str(root / "tmp"),
        }
        command = [str(folder / "bin" / "python"), "-m", "localstack.runtime.main"]
        with running(command, root, settings, lambda: answers(port, HEALTH)):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def running_localstack() -> Iterator[str]:
    """One that runs, where localstack-client or AWS_ENDPOINT_URL says, else an empty one.

    Raises:
        NotHereError: None runs, and none can be had on this machine.
    """
    running = os.environ.get("AWS_ENDPOINT_URL") or endpoint_url("localstack")
    if health(running) is not None:
        yield running
        return
    with localstack() as started:
        yield started


def health(endpoint: str) -> dict[str, str] | None:
    """What a LocalStack says of its services; None where there is none."""
    with suppress(URLError, OSError, ValueError), urlopen(endpoint + HEALTH, timeout=5) as answer:
        services: dict[str, str] = json.load(answer)["services"]
        return services
    return None


def _place_engines(folder: Path) -> None:
    """Where LocalStack looks before it would fetch them."""
    (database,) = obtain(DYNAMODB_LOCAL).glob("lib/dynamodb_local_*")
    find_program("node", "kinesis-mock runs on Node: install Node 20 or newer")
    place = folder / "dynamodb-local"
    place.mkdir(parents=True)
    (place / "2").symlink_to(database)
    modules = folder / "kinesis-local" / KINESIS_MOCK.version / "node_modules"
    modules.mkdir(parents=True)
    (modules / KINESIS_MOCK.name).symlink_to(obtain(KINESIS_MOCK))
    shim = folder / "java" / "21" / "bin" / "java"
    shim.parent.mkdir(parents=True)
    shim.write_text(_JAVA_SHIM.format(java=find_java()), encoding="utf-8")
    shim.chmod(0o755)


if __name__ == "__main__":
    with localstack() as endpoint:
        print(endpoint, flush=True)  # noqa: T201 - for people
        while True:
            time.sleep(60)
