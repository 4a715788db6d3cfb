"""A server of one test that answers with the bytes that the test says, and keeps what it got."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSE = b""
"""In place of an answer: the connection is closed."""


class WireServer:
    """Takes one answer after another from ``answers``; without any left it keeps silent."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.answers: list[bytes | list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close_kept(self) -> None:
        """What a load balancer does with connections that were idle for too long."""
        for connection in self._open:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # or the thread that accepts goes on
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            while more := connection.recv(65_536):
                received += more
                head, blank, rest = received.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0] or 0)
                if not blank or len(rest) < length:
                    continue
                self.requests.append(received)
                received = b""
                if self.answers:
                    answer = self.answers.pop(0)
                    if answer == CLOSE:
                        connection.close()
                        return
                    for part in answer if isinstance(answer, list) else [answer]:
                        connection.sendall(part)
        except OSError:
            return


@contextmanager
def wire_server() -> Iterator[WireServer]:
    """A server, until the end."""
    server = WireServer()
    try:
        yield server
    finally:
        server.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer as DynamoDB gives it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"x-amz-crc32: {crc32(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body
