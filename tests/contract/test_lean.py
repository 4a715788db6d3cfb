"""The short way of a read says and fails as botocore's, whatever comes over the wire."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from headrace.adapters import aws
from headrace.adapters.lean import LeanReads, lean
from headrace.adapters.operation import UnreadableAnswerError
from headrace.local.faults import Faults, inject
from tests.aws import STATES, empty_table
from tests.contract.test_stores import ENGINES, engine, moto
from tests.wire_server import CLOSE, WireServer, http, signature_of, wire_server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["moto"]  # the fixture that `engine` asks for

WANTED: dict[str, Any] = {STATES: {"Keys": [{"entity": {"S": "card#1"}}, {"entity": {"S": "ü#2"}}]}}
ITEM = {"entity": {"S": "card#1"}, "version": {"N": "3"}, "state": {"B": b"\x00\xff"}}
FOUND = json.dumps(
    {
        "Responses": {STATES: [{**ITEM, "state": {"B": base64.b64encode(b"\x00\xff").decode()}}]},
        "UnprocessedKeys": {},
        "ConsumedCapacity": [{"TableName": STATES, "CapacityUnits": 1.0}],
    }
).encode()


@pytest.fixture(params=ENGINES)
def dynamodb(request: pytest.FixtureRequest) -> Any:
    return engine(request)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with wire_server() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def impatient(seconds: float = 1.0) -> LeanReads:
    made = lean(aws.impatient_client("dynamodb", seconds))
    assert isinstance(made, LeanReads)
    return made


def read(client: Any) -> Any:
    return client.batch_get_item(RequestItems=WANTED)


def failure(client: Any) -> BotoCoreError | ClientError:
    with pytest.raises((BotoCoreError, ClientError)) as failed:
        read(client)
    error: BotoCoreError | ClientError = failed.value
    return error


def found_in(answer: Any) -> Any:
    return {name: answer[name] for name in ("Responses", "UnprocessedKeys")}


def test_items_are_those_that_botocore_reads(dynamodb: Any) -> None:
    empty_table(dynamodb, STATES, "entity")
    dynamodb.put_item(TableName=STATES, Item={**ITEM, "flag": {"BOOL": True}})
    dynamodb.put_item(TableName=STATES, Item={"entity": {"S": "ü#2"}})
    short = lean(dynamodb)
    assert isinstance(short, LeanReads)
    answers = [found_in(read(client)) for client in (short, dynamodb)]
    for answer in answers:
        answer["Responses"][STATES].sort(key=lambda item: item["entity"]["S"])
    assert answers[0] == answers[1]
    assert len(answers[0]["Responses"][STATES]) == 2
    assert short.get_item(TableName=STATES, Key=ITEM_KEY)["Item"]["version"] == {"N": "3"}


ITEM_KEY = {"entity": {"S": "card#1"}}


def test_refusal_has_the_code_that_botocore_gives(dynamodb: Any) -> None:
    wanted = {"nonesuch": WANTED[STATES]}
    codes = []
    for client in (lean(dynamodb), dynamodb):
        with pytest.raises(ClientError) as refused:
            client.batch_get_item(RequestItems=wanted)
        codes.append(refused.value.response["Error"]["Code"])
    assert codes == ["ResourceNotFoundException"] * 2


def test_signature_covers_what_was_sent(server: WireServer) -> None:
    server.answers = [http(FOUND)]
    assert found_in(read(impatient()))["Responses"] == {STATES: [ITEM]}
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    sent = dict(line.split(": ", 1) for line in lines)
    assert first == "POST / HTTP/1.1"
    assert json.loads(body) == {"RequestItems": WANTED}
    assert sent["x-amz-security-token"] == "token"
    assert sent["authorization"].endswith(f"Signature={signature_of(server.url, sent, body)}")
    assert "eu-central-1/dynamodb/aws4_request" in sent["authorization"]


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (http(b'{"__type":"com.amazonaws#ThrottlingException","message":"slow"}', "400 Bad"),
         ClientError, "ThrottlingException"),
        (http(b"<html>", "503 Service Unavailable"), ClientError, "(503)"),
        (http(b'{"Responses": 7}'), UnreadableAnswerError, "expected what BatchGetItem answers"),
        (http(b"not json"), UnreadableAnswerError, "expected what BatchGetItem answers"),
        (http(FOUND).replace(b"crc32: ", b"crc32: 1"), UnreadableAnswerError, "checksum"),
        (b"SSH-2.0\r\n\r\n", UnreadableAnswerError, "expected HTTP/1.1"),
        (CLOSE, ConnectionClosedError, "closed"),
    ],
)  # fmt: skip
def test_what_fails_is_one_of_botocore_s_errors(
    server: WireServer, answer: bytes, kind: type[Exception], told: str
) -> None:
    server.answers = [answer]
    error = failure(impatient())
    assert isinstance(error, kind)
    assert told in str(error)
    assert len(server.requests) == 1


def test_silence_is_a_time_out_and_its_connection_is_not_kept(server: WireServer) -> None:
    client = impatient(0.1)
    assert isinstance(failure(client), ReadTimeoutError)
    server.answers = [http(FOUND)]
    assert read(client)["Responses"] == {STATES: [ITEM]}
    assert server.connections == 2


def test_nobody_who_listens_is_an_error_of_the_endpoint(server: WireServer) -> None:
    client = impatient()
    server.close()
    assert isinstance(failure(client), EndpointConnectionError)


def test_connection_that_went_stale_is_replaced_without_a_word(server: WireServer) -> None:
    server.answers = [http(FOUND), http(FOUND)]
    client = impatient()
    read(client)
    server.close_kept()
    assert read(client)["Responses"] == {STATES: [ITEM]}
    assert server.connections == 2


def test_client_that_may_try_again_does_so_by_botocore(server: WireServer) -> None:
    refused = http(b'{"__type":"x#InternalServerError"}', "500 Internal Server Error")
    server.answers = [refused, refused, http(FOUND)]
    found = read(lean(aws.client("dynamodb")))
    assert found["Responses"] == {STATES: [ITEM]}
    assert found["ResponseMetadata"]["RetryAttempts"] == 1
    assert len(server.requests) == 3


def test_read_begins_without_waiting_only_on_a_kept_connection(server: WireServer) -> None:
    server.answers = [http(FOUND)]
    client = impatient()
    assert client.begin_batch_get_item(RequestItems=WANTED) is None
    read(client)
    call = client.begin_batch_get_item(RequestItems=WANTED)
    assert call is not None
    assert client.begin_batch_get_item(RequestItems=WANTED) is None  # that one is taken
    call.proceed(lambda: 0.05)
    assert not call.done()
    server._open[0].sendall(http(FOUND))
    call.proceed(lambda: 1.0)
    assert call.done()
    assert call.result()["Responses"] == {STATES: [ITEM]}
    again = client.begin_batch_get_item(RequestItems=WANTED)
    assert again is not None
    again.abandon()
    assert client.begin_batch_get_item(RequestItems=WANTED) is None


def test_credentials_are_asked_for_at_every_request(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = impatient()
    server.answers = [http(FOUND), http(FOUND)]
    read(client)
    client._credentials.token = "another"
    read(client)
    tokens = [b"x-amz-security-token: another" in each for each in server.requests]
    assert tokens == [False, True]


def test_what_hooks_into_requests_meets_the_short_way_too(server: WireServer) -> None:
    server.answers = [http(FOUND), http(FOUND)]
    met: list[str] = []
    with inject(Faults(throttle=1.0)) as injected:
        client = impatient()
        client.meta.events.register("before-send", lambda event_name, **_: met.append(event_name))
        refused = failure(client)
        with injected.paused():
            assert read(client)["Responses"] == {STATES: [ITEM]}
    assert "ProvisionedThroughputExceededException" in str(refused)
    assert met == ["before-send.dynamodb.BatchGetItem"] * 2
    assert len(server.requests) == 1
    outside = impatient()
    assert read(outside)["Responses"] == {STATES: [ITEM]}


def test_keys_left_unprocessed_on_the_short_way_are_asked_for_again(server: WireServer) -> None:
    wanted = {STATES: {"Keys": [{"entity": {"S": "card#1"}}] * 2}}
    with inject(Faults(unprocessed=1.0)) as injected:
        client = impatient()
        server.answers = [http(FOUND)]
        answer = client.batch_get_item(RequestItems=wanted)
    assert injected.counts["unprocessed"] == 1
    assert answer["UnprocessedKeys"] == {STATES: {"Keys": [{"entity": {"S": "card#1"}}]}}
    assert answer["Responses"] == {STATES: []}


def test_behind_a_proxy_the_client_stays_as_it_is(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    client = aws.impatient_client("dynamodb", 1.0)
    assert lean(client) is client


def test_without_credentials_the_client_stays_and_says_so_itself(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and "ENDPOINT" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    client = boto3.Session().client("dynamodb")
    assert lean(client) is client
