"""A server that answers every HTTP request with the same bytes: what a client costs, alone.

Run as a process of its own, so that only the client's CPU counts: ``python stub.py`` reads the
answer's body from standard input, prints its port, and serves until it is killed. Any engine that
thinks (moto, DynamoDB Local) would be most of what is measured.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@contextmanager
def stub(body: bytes, seconds: float = 0.0) -> Iterator[int]:
    """The port of a stub that answers so, after so many seconds each time, until the end."""
    command = [sys.executable, __file__, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(body)
        server.stdin.close()
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def http_answer(body: bytes) -> bytes:
    """As DynamoDB answers, with the checksum that botocore compares."""
    head = (
        "HTTP/1.1 200 OK\r\nServer: Server\r\nContent-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n"
        "x-amzn-RequestId: 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123\r\n"
        f"x-amz-crc32: {crc32(body)}\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n\r\n"
    )
    return head.encode() + body


def serve(connection: socket.socket, answer: bytes, seconds: float) -> None:
    """Answer request after request of one connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    while True:
        end = received.find(_END)
        if end >= 0:
            head = received[:end].lower()
            at = head.find(_LENGTH)
            length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + len(_END) + length
            if len(received) >= whole:
                received = received[whole:]
                if seconds:
                    time.sleep(seconds)
                connection.sendall(answer)
                continue
        more = connection.recv(65_536)
        if not more:
            return
        received += more


def main() -> None:
    """Serve what standard input says."""
    answer, seconds = http_answer(sys.stdin.buffer.read()), float(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, answer, seconds), daemon=True).start()


if __name__ == "__main__":
    main()
