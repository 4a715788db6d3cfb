"""One execution environment of Lambda: a process with awslambdaric around a handler.

It starts at its first invocation, stays warm, and is killed when the function's time is up.
Standard library only, since LocalStack's process imports it too (infra/localstack).
Source: AWS Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle".
Left out: limits of memory and processor, and the second try of an initialization that failed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING

from headrace.local.runtime_api import Answered, Ended, Failed, Ready, RuntimeApi, Told, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INIT_SECONDS = 10.0
"""For loading the handler; what takes longer begins again, within the time of the invocation."""

TIMED_OUT = "Sandbox.Timedout"
EXITED = "Runtime.ExitError"
_PEAK_MEMORY = "VmHWM:"


@dataclass(frozen=True, slots=True)
class Program:
    """What a sandbox runs.

    Attributes:
        command: A python with awslambdaric, and the handler.
        folder: The function's code.
        environment: All of it but the address of the Runtime API.
        arn: Of the function.
        timeout_seconds: Of an invocation.
        memory_mb: As configured; reported, not enforced.
    """

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    arn: str
    timeout_seconds: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What Lambda's Invoke returns: JSON, and whether it is an error (``X-Amz-Function-Error``)."""

    payload: bytes
    is_error: bool = False


class Sandbox:
    """Invokes one function, one invocation at a time.

    Args:
        program: What it runs.
        write: Takes what the function writes, and Lambda's own lines, line by line.
        init_seconds: For loading the handler.
    """

    def __init__(
        self,
        program: Program,
        write: Callable[[str], object],
        init_seconds: float = INIT_SECONDS,
    ) -> None:
        self._program, self._write, self._init_seconds = program, write, init_seconds
        self._process: _Process | None = None

    @property
    def warm(self) -> bool:
        """Whether the next invocation meets a loaded handler."""
        return self._process is not None and self._process.runs

    def invoke(self, payload: bytes, request_id: str | None = None) -> Answer:
        """Invoke the function with JSON; errors come back as Lambda shapes them."""
        request = request_id or str(uuid.uuid4())
        began = time.monotonic()
        process, refused = self._started()
        loaded = time.monotonic()
        self._write(f"START RequestId: {request} Version: $LATEST\n")
        told = refused or process.run(payload, request)
        times = _Times(time.monotonic() - loaded, loaded - began)
        self._write(f"END RequestId: {request}\n")
        self._write(self._report(request, times, process, told))
        if not isinstance(told, Answered | Failed) or (isinstance(told, Failed) and told.ends):
            self.stop()
        return _answer(told, request, self._program.timeout_seconds)

    def stop(self) -> None:
        """Kill the process and all that it started; the next invocation begins cold."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _started(self) -> tuple[_Process, Told | None]:
        """The process that is to run the invocation, and its error where it cannot."""
        if self._process is not None and self._process.runs:
            return self._process, None
        self.stop()
        process = self._process = _Process(self._program, self._write)
        told = process.wait(self._init_seconds)
        if told is None:
            process.kill()
            process = self._process = _Process(self._program, self._write)
        return process, None if isinstance(told, Ready) else told

    def _report(self, request: str, times: _Times, process: _Process, told: Told | None) -> str:
        """The line that Lambda writes when an invocation is over."""
        took_ms, init_ms = times.run_seconds * 1_000, times.init_seconds * 1_000
        parts = [
            f"REPORT RequestId: {request}",
            f"Duration: {took_ms:.2f} ms",
            f"Billed Duration: {took_ms + init_ms:.0f} ms",
            f"Memory Size: {self._program.memory_mb} MB",
            f"Max Memory Used: {process.peak_mb} MB",
        ]
        if init_ms > 1:
            parts.append(f"Init Duration: {init_ms:.2f} ms")
        if told is None:
            parts.append("Status: timeout")
        elif not isinstance(told, Answered):
            parts.append("Status: error")
        return "\t".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Times:
    run_seconds: float
    init_seconds: float


class _Process:
    """A running awslambdaric and the Runtime API that it asks."""

    def __init__(self, program: Program, write: Callable[[str], object]) -> None:
        self._program, self._write, self._peak_mb = program, write, 0
        self._api = RuntimeApi()
        self._process = subprocess.Popen(
            program.command,
            cwd=program.folder,
            env={**program.environment, "AWS_LAMBDA_RUNTIME_API": self._api.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that all that it starts can be killed
        )
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def peak_mb(self) -> int:
        """Most memory so far; 0 where the machine does not tell."""
        with suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text("utf-8").splitlines():
                if line.startswith(_PEAK_MEMORY):
                    self._peak_mb = int(line.split()[1]) // 1_024
        return self._peak_mb

    def run(self, payload: bytes, request: str) -> Told | None:
        """What comes of an invocation; None where its time is up first."""
        seconds = self._program.timeout_seconds
        end = time.monotonic() + seconds
        deadline_ms = round((time.time() + seconds) * 1_000)
        self._api.offer(Work(request, self._program.arn, deadline_ms, payload))
        told = self.wait(seconds)
        while isinstance(told, Ready):  # it was through with the last one, or has only now started
            told = self.wait(end - time.monotonic())
        return told

    def wait(self, seconds: float) -> Told | None:
        """The next thing that it tells; None where it tells nothing in time."""
        try:
            return self._api.told.get(timeout=max(0.0, seconds))
        except Empty:
            return None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._api.close()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._write(line)
        self._api.told.put(Ended(self._process.wait()))


def _answer(told: Told | None, request: str, timeout_seconds: float) -> Answer:
    match told:
        case Answered(payload):
            return Answer(payload)
        case Failed(payload):
            return Answer(payload, is_error=True)
        case Ended(status):
            return _error(request, EXITED, _ended(status))
        case _:
            return _error(request, TIMED_OUT, f"Task timed out after {timeout_seconds:.2f} seconds")


def _error(request: str, kind: str, message: str) -> Answer:
    told = {"errorType": kind, "errorMessage": f"RequestId: {request} Error: {message}"}
    return Answer(json.dumps(told).encode(), is_error=True)


def _ended(status: int) -> str:
    if status == 0:
        return "Runtime exited without providing a reason"
    if status < 0:
        name = (signal.strsignal(-status) or str(-status)).lower()
        return f"Runtime exited with error: signal: {name}"
    return f"Runtime exited with error: exit status {status}"
