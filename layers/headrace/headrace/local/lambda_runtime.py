"""Lambda's own Python runtime around the handlers: processes of their own, cold and warm starts.

Takes the place of ``runtime.play_lambda``. Every function runs under awslambdaric with the
variables that Lambda gives it and none of this process's, imports by its handler string from its
own folder and its layers, overlaps with others, and is killed when its time is up.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from headrace.errors import Unavailable
from headrace.local.runtime import FunctionFailed, encode_event, lambda_variables
from headrace.local.sandbox import Answer, Program, Sandbox
from headrace.local.unpacked import OPT, Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.local.resources import Function

_LIBRARY = Path(__file__).resolve().parents[2]
_MACHINES = {"amd64": "x86_64", "aarch64": "arm64"}
_PATH = "/usr/local/bin:/usr/bin:/bin"


class FileSystem(Protocol):
    """Where on this machine lies what Lambda has under /opt and /var/lang."""

    def python(self, function: Function) -> Path:
        """The interpreter; awslambdaric is among what it has, or what ``place`` has it import."""

    def place(self, function: Function) -> dict[str, str]:
        """The function's variables with the folders of this machine, and where it imports from."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The project as it is edited, on this process's interpreter and its packages."""

    model_dir: Path

    def python(self, function: Function) -> Path:
        """This process's interpreter.

        Raises:
            Unavailable: It has no awslambdaric.
        """
        if find_spec("awslambdaric") is None:
            msg = "awslambdaric is not installed; AWS builds it for Linux: pip install awslambdaric"
            raise Unavailable(msg)
        return Path(sys.executable)

    def place(self, function: Function) -> dict[str, str]:
        """The function's variables; beside the library, all is installed with the interpreter."""
        model = {
            name: str(self.model_dir)
            for name, value in function.environment.items()
            if value == f"{OPT}model"
        }
        unpacked = Unpacked(function.code, (), _LIBRARY)
        return unpacked.placed(function.environment) | model


@dataclass(frozen=True, slots=True)
class BuiltLayers:
    """The layers that ``make layers`` built for this machine, on the runtime's own Python version.

    Attributes:
        folder: With a folder for each layer, and ``image``: what Lambda itself brings.
    """

    folder: Path

    def python(self, function: Function) -> Path:
        """An interpreter of the version that the template names.

        Raises:
            Unavailable: There is none.
        """
        return find_python(function.runtime)

    def place(self, function: Function) -> dict[str, str]:
        """The function's variables, and where it imports from.

        Raises:
            Unavailable: A layer is not built.
        """
        layers = tuple(self._layer(function, name) for name in function.layers)
        return Unpacked(function.code, layers, self.folder / "image").placed(function.environment)

    def _layer(self, function: Function, name: str) -> Path:
        folder = self.folder / name
        if not folder.is_dir():
            msg = f"function {function.logical_id}: layer {name} is not at {folder}; `make layers`"
            raise Unavailable(msg)
        return folder


@dataclass
class Sandboxes:
    """Invokes functions, each in as many sandboxes as there are invocations at one time.

    Attributes:
        functions: By logical id.
        programs: What each runs.
        logs: Where functions write, in place of CloudWatch.
    """

    functions: Mapping[str, Function]
    programs: Mapping[str, Program]
    logs: TextIO
    _idle: dict[str, list[Sandbox]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """Call a function with an event as JSON gives it; its answer likewise.

        Raises:
            FunctionFailed: As Lambda would report it.
        """
        function = self.functions[logical_id]
        answer = self.call(logical_id, encode_event(function, event))
        told = json.loads(answer.payload)
        if answer.is_error:
            kind, message = str(told.get("errorType")), str(told.get("errorMessage"))
            raise FunctionFailed(function.name, kind, message)
        return told

    def call(self, logical_id: str, payload: bytes) -> Answer:
        """Lambda's Invoke: JSON in, JSON out, errors too."""
        sandbox = self._take(logical_id)
        try:
            return sandbox.invoke(payload)
        finally:
            with self._lock:
                self._idle.setdefault(logical_id, []).append(sandbox)

    def close(self) -> None:
        """Stop every sandbox that is idle, which all are once nobody invokes."""
        with self._lock:
            for sandbox in (each for idle in self._idle.values() for each in idle):
                sandbox.stop()
            self._idle.clear()

    def _take(self, logical_id: str) -> Sandbox:
        with self._lock:
            idle = self._idle.get(logical_id)
            if idle:
                return idle.pop()  # the last one used is the warmest
        return Sandbox(self.programs[logical_id], self.logs.write)


@contextmanager
def run_lambda(
    functions: Mapping[str, Function], endpoint: str, model_dir: Path, logs: TextIO
) -> Iterator[Sandboxes]:
    """Run functions from the project's sources under Lambda's own runtime, until the end.

    Args:
        functions: By logical id.
        endpoint: URL that all AWS clients of the functions go to.
        model_dir: Folder of definition.py and the bundle, in place of /opt/model.
        logs: Where functions write, in place of CloudWatch.

    Raises:
        Unavailable: awslambdaric is not installed.
    """
    with _running(functions, endpoint, Sources(model_dir), logs) as sandboxes:
        yield sandboxes


@contextmanager
def run_lambda_with_layers(
    layers: Path,
    functions: Mapping[str, Function],
    endpoint: str,
    model_dir: Path,
    logs: TextIO,
) -> Iterator[Sandboxes]:
    """The same from built layers, on the Python of the functions.

    Args:
        layers: What ``make layers`` built for this machine; see ``built_layers``.
        functions: By logical id.
        endpoint: URL that all AWS clients of the functions go to.
        model_dir: Not looked at: the model is one of the layers.
        logs: Where functions write, in place of CloudWatch.

    Raises:
        Unavailable: A layer is not built, or there is no Python of the functions' version.
    """
    with _running(functions, endpoint, BuiltLayers(layers), logs) as sandboxes:
        yield sandboxes


def built_layers(project: Path) -> Path:
    """The folder that ``make layers`` fills for machines such as this one."""
    machine = platform.machine().lower()
    return project / "dist" / "layers" / _MACHINES.get(machine, machine)


@contextmanager
def _running(
    functions: Mapping[str, Function], endpoint: str, files: FileSystem, logs: TextIO
) -> Iterator[Sandboxes]:
    programs = {each: program(one, endpoint, files) for each, one in functions.items()}
    sandboxes = Sandboxes(functions, programs, logs)
    try:
        yield sandboxes
    finally:
        sandboxes.close()


def program(function: Function, endpoint: str, files: FileSystem) -> Program:
    """What runs a function, with the variables that Lambda sets and those of the template.

    Source: AWS Lambda Developer Guide, "Defined runtime environment variables".
    """
    environment = {
        "_HANDLER": function.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "LANG": "en_US.UTF-8",
        "PATH": _PATH,
        "TZ": ":UTC",
    }
    return Program(
        command=(str(files.python(function)), "-m", "awslambdaric", function.handler),
        folder=function.code,
        environment=environment | lambda_variables(endpoint) | files.place(function),
        arn=function.arn,
        timeout_seconds=function.timeout_seconds,
        memory_mb=function.memory_mb,
    )


def find_python(runtime: str) -> Path:
    """An interpreter for a runtime such as ``python3.13``: on the PATH, or one of pyenv's.

    Raises:
        Unavailable: There is none that runs.
    """
    version = runtime.removeprefix("python")
    on_path = shutil.which(runtime)
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/{runtime}"))
    for candidate in [*filter(None, [on_path]), *map(str, kept)]:
        done = subprocess.run([candidate, "-c", ""], check=False, capture_output=True)
        if done.returncode == 0:  # a shim of pyenv may stand for nothing
            return Path(candidate)
    msg = f"no {runtime} on the PATH or in pyenv; install it to run the built layers"
    raise Unavailable(msg)
