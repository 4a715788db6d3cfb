"""Lambda's Runtime API for one sandbox: where awslambdaric asks for work and leaves its answers.

Standard library only, since LocalStack's process imports it too (infra/localstack).
Source: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

MOST_ANSWER_BYTES = 6_291_556
"""What a synchronous invocation may answer: 6 MB and a little, as Lambda's own message says."""

TOO_LARGE = "Function.ResponseSizeTooLarge"
_NEXT = "/2018-06-01/runtime/invocation/next"
_TOLD = re.compile(r"/2018-06-01/runtime/(?P<of>init|invocation/[^/]+)/(?P<what>response|error)")


@dataclass(frozen=True, slots=True)
class Work:
    """One invocation, as the runtime gets it.

    Attributes:
        request_id: Names it.
        arn: Of the function.
        deadline_ms: Milliseconds since 1970; the context's remaining time is reckoned from it.
        payload: JSON.
    """

    request_id: str
    arn: str
    deadline_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The runtime has loaded the handler, or is through with an invocation, and asks for work."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a handler returned, as JSON."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of a handler, or of loading it, as JSON with errorType and errorMessage.

    Attributes:
        payload: The error.
        ends: Whether the runtime ends over it, so that the next invocation needs another.
    """

    payload: bytes
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The process is gone; its status as ``subprocess`` has it, negative for a signal."""

    status: int


Told = Ready | Answered | Failed | Ended


class RuntimeApi:
    """Serves one sandbox on a free port.

    Attributes:
        address: Host and port, for AWS_LAMBDA_RUNTIME_API.
        told: What the sandbox has told, in order; whoever watches the process adds ``Ended``.
    """

    def __init__(self) -> None:
        self.told: SimpleQueue[Told] = SimpleQueue()
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self.address = f"127.0.0.1:{self._server.server_port}"
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()

    def offer(self, work: Work) -> None:
        """Hand out work at the next request for it."""
        self._work.put(work)

    def close(self) -> None:
        """Stop serving; a request that waits is let go."""
        self._work.put(None)
        self._server.shutdown()
        self._server.server_close()

    def next_work(self) -> Work | None:
        """Wait for work; None when there will be none."""
        self.told.put(Ready())
        return self._work.get()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a sandbox that is killed leaves its request hanging
    api: RuntimeApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sandbox that was killed has closed its end; that is no fault of this side."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Give work."""
        if self.path != _NEXT:
            self._write(HTTPStatus.NOT_FOUND)
            return
        work = self.server.api.next_work()
        if work is None:
            self.close_connection = True
            self._write(HTTPStatus.GONE)
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": work.request_id,
            "Lambda-Runtime-Deadline-Ms": str(work.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": work.arn,
            "Content-Type": "application/json",
        }
        self._write(HTTPStatus.OK, headers, work.payload)

    def do_POST(self) -> None:
        """Take an answer or an error."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = _TOLD.fullmatch(self.path)
        if found is None:
            self._write(HTTPStatus.NOT_FOUND)
        elif found["what"] == "error":
            self.server.api.told.put(Failed(body, ends=found["of"] == "init"))
            self._write(HTTPStatus.ACCEPTED)
        elif len(body) > MOST_ANSWER_BYTES:
            self.server.api.told.put(Failed(_too_large(len(body)), ends=True))
            self._write(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self.server.api.told.put(Answered(body))
            self._write(HTTPStatus.ACCEPTED)

    def _write(
        self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _too_large(size: int) -> bytes:
    message = (
        f"Response payload size ({size} bytes) exceeded maximum allowed payload size "
        f"({MOST_ANSWER_BYTES} bytes)."
    )
    return json.dumps({"errorType": TOO_LARGE, "errorMessage": message}).encode()
