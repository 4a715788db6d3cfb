"""The short way of a write does and fails as botocore's, whatever comes over the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from headrace.adapters import aws
from headrace.adapters.clock import FixedClock
from headrace.adapters.dynamodb import DynamoStates
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import AT_ONCE, LeanClient
from headrace.adapters.puts import is_lost
from headrace.local.faults import Faults, Injector, inject
from headrace.ports import StateWrite, StoredState
from tests.aws import STATES, empty_table
from tests.contract.test_lean import dynamodb, moto, server
from tests.fakes import NOON
from tests.wire_server import CLOSE, WireServer, http, signature_of

if TYPE_CHECKING:
    from headrace.adapters.puts import AwsError

__all__ = ["dynamodb", "moto", "server"]  # fixtures

DONE = http(b"{}")
LOST = http(
    b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",'
    b'"message":"The conditional request failed"}',
    "400 Bad Request",
)
REFUSED = http(b'{"__type":"x#InternalServerError"}', "500 Internal Server Error")


def client(*, impatient: bool = False, seconds: float = 1.0) -> LeanClient:
    plain = aws.impatient_client("dynamodb", seconds) if impatient else aws.client("dynamodb")
    made = lean(plain, LeanClient)
    assert isinstance(made, LeanClient)
    return made


def request(key: str = "card#1", data: bytes = b"\x00\xff") -> dict[str, Any]:
    return {
        "TableName": STATES,
        "Item": {"entity": {"S": key}, "version": {"N": "1"}, "state": {"B": data}},
        "ConditionExpression": "attribute_not_exists(entity)",
    }


def codes(errors: list[AwsError | None]) -> list[str]:
    return ["" if error is None else aws.error_code(error) for error in errors]


def test_items_are_those_that_botocore_puts(dynamodb: Any) -> None:
    empty_table(dynamodb, STATES, "entity")
    some = request("ü#1")
    some["Item"] |= {"flag": {"BOOL": True}}
    assert codes(lean(dynamodb, LeanClient).put_each([some])) == [""]
    (short,) = dynamodb.scan(TableName=STATES)["Items"]
    empty_table(dynamodb, STATES, "entity")
    dynamodb.put_item(**some)
    assert dynamodb.scan(TableName=STATES)["Items"] == [short]


def test_condition_that_does_not_hold_is_a_lost_race_and_asked_once(server: WireServer) -> None:
    server.answers = [DONE, LOST, DONE]
    errors = client().put_each([request(str(number)) for number in range(3)])
    assert sorted(codes(errors)) == ["", "", "ConditionalCheckFailedException"]
    assert [error is None or is_lost(error) for error in errors] == [True] * 3
    assert len(server.requests) == 3


def test_signature_covers_what_was_sent(server: WireServer) -> None:
    server.answers = [DONE]
    assert codes(client().put_each([request()])) == [""]
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    sent = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert json.loads(body)["Item"]["state"] == {"B": "AP8="}
    assert sent["x-amz-target"] == "DynamoDB_20120810.PutItem"
    assert sent["authorization"].endswith(f"Signature={signature_of(server.url, sent, body)}")


def test_what_fails_is_put_again_by_botocore_and_its_retries(server: WireServer) -> None:
    server.answers = [REFUSED, REFUSED, DONE]
    assert codes(client().put_each([request()])) == [""]
    assert len(server.requests) == 3


def test_refusals_without_an_end_are_told_after_so_many_attempts(server: WireServer) -> None:
    server.answers = [REFUSED] * 10
    assert codes(client().put_each([request()])) == ["InternalServerError"]
    assert len(server.requests) == 1 + 3


def test_client_that_must_not_try_again_does_not(server: WireServer) -> None:
    server.answers = [REFUSED, DONE]
    assert codes(client(impatient=True).put_each([request()])) == ["InternalServerError"]
    assert len(server.requests) == 1


def test_put_whose_answer_was_lost_loses_against_itself(dynamodb: Any) -> None:
    empty_table(dynamodb, STATES, "entity")
    injector, events = Injector(Faults(lost_response=1.0)), dynamodb.meta.events
    met: list[str] = []

    def recover(event_name: str, **_: Any) -> None:
        injector.faults = Faults() if met else injector.faults
        met.append(event_name)

    events.register_first("before-send", recover)
    injector.watch(events)
    states = DynamoStates(lean(dynamodb, LeanClient), STATES, FixedClock(NOON))
    assert states.write([StateWrite("card#1", 0, b"x", None)]) == (frozenset({"card#1"}), {})
    assert states.read(["card#1"]) == {"card#1": StoredState(1, b"x")}
    assert met[:2] == ["before-send.dynamodb.PutItem"] * 2


class NoCredentials:
    """Credentials whose source does not answer."""

    def get_frozen_credentials(self) -> None:
        raise CredentialRetrievalError(provider="container", error_msg="no answer")


def test_credentials_that_cannot_be_had_fail_the_put_and_not_the_batch(server: WireServer) -> None:
    made = LeanClient(aws.impatient_client("dynamodb", 1.0), NoCredentials(), None)
    (error,) = made.put_each([request()])
    assert isinstance(error, CredentialRetrievalError)
    assert server.requests == []


def test_many_puts_take_no_more_connections_than_are_under_way(server: WireServer) -> None:
    some = [request(str(number)) for number in range(AT_ONCE + 50)]
    server.answers = [DONE] * len(some)
    assert codes(client().put_each(some)) == [""] * len(some)
    assert server.connections == AT_ONCE
    bodies = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.requests]
    assert sorted(int(body["Item"]["entity"]["S"]) for body in bodies) == list(range(len(some)))


def test_connections_that_went_stale_are_replaced_without_a_word(server: WireServer) -> None:
    some = [request(str(number)) for number in range(40)]
    server.answers = [DONE] * 80
    short = client()
    assert codes(short.put_each(some)) == [""] * 40
    server.close_kept()
    assert codes(short.put_each(some)) == [""] * 40
    assert len(server.requests) == 80


def test_silence_costs_one_time_out_and_not_one_for_each_put(server: WireServer) -> None:
    server.answers = [DONE]
    errors = client(impatient=True, seconds=0.2).put_each([request(str(n)) for n in range(40)])
    assert codes(errors).count("") <= 1
    assert {type(error) for error in errors if error} == {ReadTimeoutError}
    assert len(server.requests) <= AT_ONCE + 1


def test_nobody_who_listens_is_asked_once_on_the_short_way(
    server: WireServer,
) -> None:
    short, tried = client(impatient=True), list[str]()
    short.meta.events.register("before-send", lambda event_name, **_: tried.append(event_name))
    server.close()
    errors = short.put_each([request(str(number)) for number in range(40)])
    assert {type(error) for error in errors} == {EndpointConnectionError}
    assert len(tried) == 1


def test_connection_that_closes_before_the_answer_fails_its_own_put_alone(
    server: WireServer,
) -> None:
    server.answers = [CLOSE, DONE, DONE]
    short = client(impatient=True)
    assert sorted(codes(short.put_each([request(str(n)) for n in range(3)]))) == [
        "", "", "ConnectionClosedError",
    ]  # fmt: skip


def test_what_hooks_into_requests_meets_puts_too(server: WireServer) -> None:
    server.answers = [DONE] * 2
    met: list[str] = []
    with inject(Faults(throttle=1.0)) as injected:
        short = client(impatient=True)
        short.meta.events.register("before-send", lambda event_name, **_: met.append(event_name))
        refused = short.put_each([request()])
        with injected.paused():
            assert codes(short.put_each([request()])) == [""]
            short.batch_write_item(RequestItems={STATES: [{"PutRequest": {"Item": {}}}]})
    assert codes(refused) == ["ProvisionedThroughputExceededException"]
    assert met == ["before-send.dynamodb.PutItem"] * 2 + ["before-send.dynamodb.BatchWriteItem"]


def test_items_left_unwritten_are_told_as_botocore_tells_them(server: WireServer) -> None:
    left = {STATES: [{"PutRequest": {"Item": {"id": {"S": "1"}, "raw": {"B": "AP8="}}}}]}
    server.answers = [http(json.dumps({"UnprocessedItems": left}).encode())] * 2
    wanted = {STATES: [{"PutRequest": {"Item": {"id": {"S": "1"}, "raw": {"B": b"\x00\xff"}}}}]}
    short = client()
    answers = [each.batch_write_item(RequestItems=wanted) for each in (short, short._client)]
    assert [answer["UnprocessedItems"] for answer in answers] == [wanted, wanted]
    bodies = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.requests]
    assert bodies[0] == bodies[1]


def test_items_that_a_fault_holds_back_are_left_unwritten(server: WireServer) -> None:
    puts = [{"PutRequest": {"Item": {"id": {"S": str(number)}}}} for number in range(4)]
    with inject(Faults(unprocessed=1.0)):
        short = client(impatient=True)
    server.answers = [DONE]
    answer = short.batch_write_item(RequestItems={STATES: puts})
    sent = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])["RequestItems"][STATES]
    assert len(sent) == len(answer["UnprocessedItems"][STATES]) == 2
    assert all(put in puts for put in sent + answer["UnprocessedItems"][STATES])


def test_batch_write_that_fails_goes_to_botocore(server: WireServer) -> None:
    server.answers = [REFUSED, http(b'{"UnprocessedItems": {}}')]
    puts = {STATES: [{"PutRequest": {"Item": {"id": {"S": "1"}}}}]}
    assert client().batch_write_item(RequestItems=puts)["UnprocessedItems"] == {}
    server.answers = [REFUSED]
    with pytest.raises(ClientError, match="InternalServerError"):
        client(impatient=True).batch_write_item(RequestItems=puts)
