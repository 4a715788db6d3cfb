"""A server of one test that answers with the bytes that the test says, and keeps what it got."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from zlib import crc32

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CLOSE = b""
"""In place of an answer: the connection is closed."""


class WireServer:
    """Takes one answer after another from ``answers``; without any left it keeps silent."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
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
        self.close_kept()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:  # closed, or a client that does not trust it
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
def wire_server(tls: ssl.SSLContext | None = None) -> Iterator[WireServer]:
    """A server, until the end."""
    server = WireServer(tls)
    try:
        yield server
    finally:
        server.close()


def certified(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server at 127.0.0.1, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wire server")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "both.pem").write_bytes(
        key.private_bytes(*form) + certificate.public_bytes(Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cafile=folder / "both.pem")


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer as DynamoDB gives it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"x-amz-crc32: {crc32(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def signature_of(url: str, sent: Mapping[str, str], body: bytes) -> str:
    """How botocore signs what was sent, with the credentials of these tests."""
    signed = AWSRequest("POST", url, {
        name: sent[name] for name in ("host", "content-type", "x-amz-target", "x-amz-date",
                                      "x-amz-security-token")
    }, body)  # fmt: skip
    signed.context["timestamp"] = sent["x-amz-date"]
    auth = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "token"), "dynamodb", "eu-central-1")
    text = auth.string_to_sign(signed, auth.canonical_request(signed))
    signature: str = auth.signature(text, signed)
    return signature
