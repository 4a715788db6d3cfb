"""API Gateway's front on this machine: routes, IAM signatures and limits of the REST API."""

from __future__ import annotations

import http.client
import json
import logging
import sys
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.errors import Unavailable
from headrace.local.bodies import fits
from headrace.local.proxy import MalformedAnswer, Reply, match_route, proxy_event, read_answer
from headrace.local.runtime import FunctionFailed
from headrace.local.signatures import HttpRequest, Unsigned, sign, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.local.resources import Stack

MOST_BODY_BYTES = 10 * 1024 * 1024
_IDLE_SECONDS = 30.0
_CHUNK_BYTES = 64 * 1024
_MOST_CHUNKS_DROPPED = 1024
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


class Endpoint:
    """The REST API of a stack on 127.0.0.1, served from its own threads until closed.

    Args:
        stack: Routes and stage.
        invoke: Calls a function by its logical id; raises FunctionFailed where the function did.
        now: The time, to check signatures by.
        port: Where to listen; 0 takes a free one.
    """

    def __init__(
        self,
        stack: Stack,
        invoke: Callable[[str, Mapping[str, Any]], Any],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        port: int = 0,
    ) -> None:
        self._stack, self._invoke, self._now = stack, invoke, now
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.answer = self.answer
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/{stack.stage}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="api"
        )
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def request(self, method: str, path: str, body: Any = None) -> Reply:
        """Sign and send one request over HTTP, as a caller with the right credentials would.

        Args:
            method: Such as POST.
            path: Within the stage, with its query, such as ``/scores/17``.
            body: Bytes, text, or what JSON can hold; None for none.

        Raises:
            Unavailable: The endpoint did not answer.
        """
        return call(self.base_url, method, path, body)

    def answer(self, request: HttpRequest) -> Reply:
        """Answer one request as API Gateway does, invoking the function of its route."""
        url = urlsplit(request.url)
        stage, _, path = url.path.removeprefix("/").partition("/")
        if stage != self._stack.stage:
            return _fault(403, "ForbiddenException", "Forbidden")
        match = match_route(self._stack.routes, request.method, f"/{path}")
        if match is None:
            return _fault(
                403, "MissingAuthenticationTokenException", "Missing Authentication Token"
            )
        now = self._now()
        if match.route.signed:
            try:
                verify(request, now)
            except Unsigned as error:
                return _fault(403, error.code, error.message)
        model = match.route.model
        if model is not None and not fits(model, request.header("content-type"), request.body):
            return _fault(400, "BadRequestException", "Invalid request body")
        return self._call(match.route.function, proxy_event(request, match, stage, now))

    def _call(self, function: str, event: Mapping[str, Any]) -> Reply:
        try:
            return read_answer(self._invoke(function, event))
        except FunctionFailed as error:
            if error.error_type == "RequestEntityTooLargeException":
                return _fault(413, error.error_type, "Request Entity Too Large")
            _LOG.warning("%s", error)
        except MalformedAnswer as error:
            _LOG.warning("malformed Lambda proxy response of %s: %s", function, error)
        return _fault(502, "InternalServerErrorException", "Internal server error")


def call(base_url: str, method: str, path: str, body: Any = None) -> Reply:
    """Sign and send one request to an endpoint that another process may serve.

    Args:
        base_url: With the stage, as ``Endpoint.base_url``.
        method: Such as POST.
        path: Within the stage, with its query.
        body: Bytes, text, or what JSON can hold; None for none.

    Raises:
        Unavailable: The endpoint did not answer.
    """
    url = base_url + path
    sent = _body_bytes(body)
    headers = {"Host": urlsplit(url).netloc, "Content-Type": "application/json"}
    return _send(HttpRequest(method, url, sign(HttpRequest(method, url, headers, sent)), sent))


def _body_bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _fault(status: int, kind: str, message: str) -> Reply:
    headers = (("Content-Type", "application/json"), ("x-amzn-ErrorType", kind))
    return Reply(status, headers, json.dumps({"message": message}).encode())


def _send(request: HttpRequest) -> Reply:
    url = urlsplit(request.url)
    target = f"{url.path}?{url.query}" if url.query else url.path
    connection = http.client.HTTPConnection(url.netloc, timeout=_IDLE_SECONDS)
    try:
        connection.request(request.method, target, request.body, dict(request.headers))
        response = connection.getresponse()
        return Reply(response.status, tuple(response.getheaders()), response.read())
    except (OSError, http.client.HTTPException) as error:
        msg = f"endpoint {request.url}: no answer: {error!r}"
        raise Unavailable(msg) from error
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    """Hands requests to ``answer``."""

    daemon_threads = True
    answer: Callable[[HttpRequest], Reply]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no fault of this side."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request from the wire, within limits, and writes the answer."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Any:
        # The base class looks for do_GET and the like.
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        refused = self._refused()
        if refused:
            self.close_connection = True
            self._write(refused)
            self._drop_body()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers.get("Host", "")
        headers = {name: ",".join(self.headers.get_all(name, [])) for name in self.headers}
        request = HttpRequest(self.command, f"http://{host}{self.path}", headers, body)
        self._write(self.server.answer(request))

    def _refused(self) -> Reply | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            return _fault(411, "BadRequestException", "Length Required")
        if int(length) > MOST_BODY_BYTES:
            return _fault(413, "RequestTooLargeException", "Request Too Long")
        return None

    def _drop_body(self) -> None:
        """Read on for a while: a caller that is still sending would miss the answer."""
        for _ in range(_MOST_CHUNKS_DROPPED):
            if not self.rfile.read1(_CHUNK_BYTES):
                return

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
