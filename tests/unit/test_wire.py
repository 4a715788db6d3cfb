"""HTTP answers from bytes, however they are cut; and connections that are kept, lost or slow."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.wire import (
    MOST_BODY_BYTES,
    MOST_HEAD_BYTES,
    Answer,
    Connection,
    Place,
    StaleConnectionError,
    WireError,
    parse,
)
from tests.wire_server import CLOSE, WireServer, certified, http, wire_server

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"


def chunked(parts: list[bytes], trailer: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return head + body + b"0\r\n" + trailer + b"\r\n"


def connect(server: WireServer, tls: ssl.SSLContext | None = None) -> Connection:
    host, port = server.url.removeprefix("http://").split(":")
    return Connection(Place(host, int(port), tls), 1.0)


def exchange(connection: Connection, seconds: float = 2.0) -> Answer | None:
    connection.send(REQUEST, seconds)
    return connection.receive(lambda: seconds)


@given(body=st.binary(max_size=300), more=st.binary(max_size=20))
def test_answer_ends_where_its_length_says_and_not_before(body: bytes, more: bytes) -> None:
    whole = http(body)
    assert all(parse(whole[:end]) is None for end in range(len(whole)))
    found = parse(whole + more)
    assert found is not None
    assert (found[0].status, found[0].body, found[1]) == (200, body, len(whole))


@given(
    parts=st.lists(st.binary(max_size=40), max_size=5), trailer=st.sampled_from([b"", b"a: b\r\n"])
)
def test_chunks_are_joined_and_end_with_the_last_one(parts: list[bytes], trailer: bytes) -> None:
    whole = chunked(parts, trailer)
    assert all(parse(whole[:end]) is None for end in range(len(whole)))
    found = parse(whole + b"next")
    assert found is not None
    assert (found[0].body, found[1]) == (b"".join(parts), len(whole))


def test_names_of_headers_are_in_lower_case_and_values_without_blanks() -> None:
    found = parse(b"HTTP/1.0 503 Slow Down\r\nX-Amz-Crc32:  7 \r\nContent-Length: 0\r\n\r\n")
    assert found is not None
    assert found[0].headers == {"x-amz-crc32": "7", "content-length": "0", "connection": "close"}
    assert found[0].status == 503


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "answer begins with 'SSH-2.0-OpenSSH'; expected HTTP/1.1"),
        (b"HTTP/1.1 OK\r\n\r\n", "expected HTTP/1.1 and a status"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "Content-Length is ''; expected a number, or chunks"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length is '-1'"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1),
            "body of the answer: got 67,108,865 bytes; expected at most 67,108,864",
        ),
        (b"x" * (MOST_HEAD_BYTES + 1), "head of the answer: got 65,537 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "size of a chunk is b'zz'; expected a hexadecimal number",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-7\r\n",
            "size of a chunk is b'-7'; expected a hexadecimal number",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
            "body of the answer: got 1,099,511,627,775 bytes",
        ),
    ],
)
def test_what_is_no_answer_or_too_large_is_refused(received: bytes, message: str) -> None:
    with pytest.raises(WireError) as refused:
        parse(received)
    assert message in str(refused.value)


def test_connection_is_kept_for_the_next_request() -> None:
    with wire_server() as server:
        server.answers = [http(b"one"), [http(b"two")[:30], http(b"two")[30:]]]
        connection = connect(server)
        answers = [exchange(connection), exchange(connection)]
        assert [each.body for each in answers if each] == [b"one", b"two"]
        assert (connection.reusable, server.connections, len(server.requests)) == (True, 1, 2)


@pytest.mark.parametrize("header", ["Connection: close", "connection: Close"])
def test_connection_that_the_other_side_closes_is_not_kept(header: str) -> None:
    with wire_server() as server:
        server.answers = [http(b"{}", "200 OK", header)]
        connection = connect(server)
        assert exchange(connection) is not None
        assert not connection.reusable


def test_kept_connection_that_was_closed_meanwhile_is_stale() -> None:
    with wire_server() as server:
        server.answers = [http(b"{}")]
        connection = connect(server)
        exchange(connection)
        server.close_kept()
        with pytest.raises(StaleConnectionError):
            exchange(connection)


def test_connection_that_is_closed_at_its_first_request_or_in_an_answer_has_failed() -> None:
    with wire_server() as server:
        server.answers = [CLOSE, http(b"{}"), [http(b"whole")[:-2]]]
        with pytest.raises(WireError) as failed:
            exchange(connect(server))
        assert not isinstance(failed.value, StaleConnectionError)
        connection = connect(server)
        exchange(connection)
        assert exchange(connection, 0.05) is None
        server.close_kept()
        with pytest.raises(WireError) as failed:
            connection.receive(lambda: 1.0)
        assert not isinstance(failed.value, StaleConnectionError)


def test_answer_that_has_not_come_in_time_may_be_waited_for_again() -> None:
    with wire_server() as server:
        server.answers = [[http(b"late")[:-1]]]
        connection = connect(server)
        assert exchange(connection, 0.05) is None
        assert connection.receive(lambda: 0.0) is None
        assert not connection.reusable
        server._open[0].sendall(b"e")
        found = connection.receive(lambda: 1.0)
        assert found is not None
        assert (found.body, connection.reusable) == (b"late", True)


def large(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def test_request_that_the_socket_does_not_take_at_once_is_sent_to_its_end() -> None:
    with wire_server() as server:
        server.answers = [http(b"y" * 3_000_000), http(b"{}")]
        connection = connect(server)
        connection.send(large(5_000_000), 5.0)
        found = connection.receive(lambda: 5.0)
        assert found is not None
        assert found.body == b"y" * 3_000_000
        assert server.requests == [large(5_000_000)]
        assert exchange(connection) is not None


def test_request_that_is_not_taken_in_time_is_a_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connection = Connection(Place("127.0.0.1", deaf.getsockname()[1], None), 1.0)
        with pytest.raises(TimeoutError):
            connection.send(large(50_000_000), 0.1)
        connection.close()


def test_connection_with_tls_is_as_one_without(tmp_path: Path) -> None:
    served, trusted = certified(tmp_path)
    with wire_server(served) as server:
        server.answers = [
            http(b"a" * 100_000),  # several records of TLS
            [http(b"two")[:30], http(b"two")[30:]],
            http(b"b" * 1_000_000),
            [http(b"late")[:-1]],
        ]
        connection = connect(server, trusted)
        bodies = [found.body for _ in range(2) if (found := exchange(connection))]
        assert bodies == [b"a" * 100_000, b"two"]
        connection.send(large(5_000_000), 5.0)
        found = connection.receive(lambda: 5.0)
        assert found is not None
        assert found.body == b"b" * 1_000_000
        assert exchange(connection, 0.05) is None
        server._open[0].sendall(b"e")
        found = connection.receive(lambda: 1.0)
        assert found is not None
        assert (found.body, connection.reusable, server.connections) == (b"late", True, 1)
        server.close_kept()
        with pytest.raises(StaleConnectionError):
            exchange(connection)


def test_connection_with_tls_goes_only_where_it_trusts(tmp_path: Path) -> None:
    served, _ = certified(tmp_path)
    with wire_server(served) as server, pytest.raises(ssl.SSLCertVerificationError):
        connect(server, ssl.create_default_context())
