"""HTTP/1.1 on sockets that are kept: one request, one answer, nothing that a JSON API does not use.

In place of urllib3 and http.client, which take more CPU for one call of DynamoDB than features and
model together. Limits and timeouts as there; sources: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024  # BatchGetItem answers 16 MB at most, more of it in base64
_RECEIVE = 64 * 1024
_BLANK = b"\r\n\r\n"
_NO_BODY = (204, 304)
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_CLOSED = (ConnectionError, ssl.SSLEOFError)
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_MS_PER_SECOND = 1_000


class WireError(OSError):
    """The connection failed, or what came on it is no HTTP."""


class ClosedError(WireError):
    """The other side closed the connection."""


class StaleConnectionError(ClosedError):
    """A kept connection closed before anything of an answer came.

    The request may have been done nevertheless: only what can be repeated goes on another one.
    """


class Answer(NamedTuple):
    """Status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Place(NamedTuple):
    """Where to connect; ``tls`` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class Connection:
    """One socket, which never blocks by itself: Python's own timeouts cost three system calls more.

    Args:
        place: Where to connect.
        seconds: For TCP, and again for TLS.

    Raises:
        OSError: It cannot be opened; ``TimeoutError`` where that took too long.
    """

    def __init__(self, place: Place, seconds: float) -> None:
        plain = socket.create_connection((place.host, place.port), seconds)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = (
                place.tls.wrap_socket(plain, server_hostname=place.host) if place.tls else plain
            )
        except BaseException:
            plain.close()
            raise
        self._socket.settimeout(0)
        self._coming = select.poll()
        self._coming.register(self._socket, select.POLLIN)
        # TLS may have decrypted more than it has given: nothing comes on the socket for that.
        self._has_more = getattr(self._socket, "pending", int)
        self._used = False
        self._received: bytes | bytearray = b""
        self.reusable = True

    def send(self, request: bytes, seconds: float) -> None:
        """Send a request.

        Args:
            request: Head and body.
            seconds: That the socket may take for it.

        Raises:
            StaleConnectionError: It was kept, and had been closed.
            OSError: The connection failed; ``TimeoutError`` where it took too long.
        """
        self.reusable = False  # until the answer is read to its end
        self._received = b""
        try:
            if (sent := self._send_now(request)) < len(request):
                self._send_rest(request[sent:], seconds)
        except _CLOSED as error:
            raise self._closed(str(error)) from error

    def _send_now(self, request: bytes) -> int:
        """Send what the socket takes at once, and say how much."""
        try:
            return self._socket.send(request)
        except _NOT_NOW:
            return 0

    def _send_rest(self, rest: bytes, seconds: float) -> None:
        self._socket.settimeout(seconds)
        self._socket.sendall(rest)
        self._socket.settimeout(0)

    def receive(self, left: Callable[[], float]) -> Answer | None:
        """The answer, or None where it has not all come in time; it may be asked for again then.

        Args:
            left: Seconds to wait for the next bytes; none at 0 or below.

        Raises:
            StaleConnectionError: It was kept, and closed before any of the answer came.
            WireError: What came is no HTTP/1.1 answer, or more than the limits.
            OSError: The connection failed.
        """
        while (found := parse(self._received)) is None:
            seconds = left()
            if seconds <= 0:
                return None
            if not self._has_more() and not self._coming.poll(seconds * _MS_PER_SECOND):
                return None
            try:
                more = self._socket.recv(_RECEIVE)
            except _NOT_NOW:  # what came was not for us, such as a session ticket of TLS
                continue
            except _CLOSED as error:
                raise self._closed(str(error)) from error
            if not more:
                msg = "closed by the other side"
                raise self._closed(msg)
            self._add(more)
        answer, length = found
        self._used = True
        kept = answer.headers.get("connection", "").lower() != "close"
        self.reusable = kept and length == len(self._received)
        return answer

    def _add(self, more: bytes) -> None:
        if isinstance(self._received, bytearray):
            self._received += more
        else:  # most answers come whole: bytes as they are need no copy
            self._received = bytearray(self._received + more) if self._received else more

    def close(self) -> None:
        """Close the socket; never fails."""
        self.reusable = False
        with suppress(OSError):
            self._socket.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be opened
            self.close()  # of a client that is dropped: else Python warns of the socket

    def _closed(self, what: str) -> ClosedError:
        """Stale, where the other side cannot have begun to answer."""
        if self._used and not self._received:
            return StaleConnectionError(what)
        return ClosedError(what)


def parse(received: bytes | bytearray) -> tuple[Answer, int] | None:
    """An answer, and how many bytes it has; None where more of it is to come.

    Args:
        received: What has come so far.

    Raises:
        WireError: It is no HTTP/1.1 answer with a length or chunks, or more than the limits.
    """
    end = received.find(_BLANK)
    if end < 0:
        _check("head of the answer", len(received), MOST_HEAD_BYTES)
        return None
    status, headers = _head(bytes(received[:end]))
    start = end + len(_BLANK)
    if status in _NO_BODY:
        return Answer(status, headers, b""), start
    if headers.get("transfer-encoding", "").lower() == "chunked":
        found = _chunks(received, start)
        return None if found is None else (Answer(status, headers, found[0]), found[1])
    length = headers.get("content-length", "")
    if not length.isdecimal():
        msg = f"answer: Content-Length is {length!r}; expected a number, or chunks"
        raise WireError(msg)
    _check("body of the answer", int(length), MOST_BODY_BYTES)
    if len(received) < start + int(length):
        return None
    return Answer(status, headers, bytes(received[start : start + int(length)])), start + int(
        length
    )


def _chunks(received: bytes | bytearray, at: int) -> tuple[bytes, int] | None:
    """The body from its chunks, and where it ends; None where more is to come."""
    body = bytearray()
    while True:
        end = received.find(b"\r\n", at)
        if end < 0:
            _check("line of the answer", len(received) - at, MOST_HEAD_BYTES)
            return None
        size = _size(bytes(received[at:end]))
        at = end + 2
        if not size:
            break
        _check("body of the answer", len(body) + size, MOST_BODY_BYTES)
        if len(received) < at + size + 2:
            return None
        body += received[at : at + size]
        at += size + 2
    while (end := received.find(b"\r\n", at)) > at:
        at = end + 2  # a trailer
    return (bytes(body), end + 2) if end >= 0 else None


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(_HEXADECIMAL):  # int() would take a sign, and 0x
        msg = f"answer: size of a chunk is {line[:20]!r}; expected a hexadecimal number"
        raise WireError(msg)
    return int(digits, 16)


def _check(what: str, got: int, most: int) -> None:
    if got > most:
        msg = f"{what}: got {got:,} bytes; expected at most {most:,}"
        raise WireError(msg)


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        msg = f"answer begins with {first[:40]!r}; expected HTTP/1.1 and a status"
        raise WireError(msg)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(status), headers
