"""Local AWS from end to end: moto, triggers, schedule and endpoint around a small function."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headrace.local import NotEmulated
from headrace.local.http import MOST_BODY_BYTES, Endpoint
from headrace.local.signatures import HttpRequest, Unsigned, sign, verify
from headrace.local.stack import LocalAws
from headrace.local.triggers import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Greeting: { Type: String, Default: hello }
Resources:
  Echo:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.lambda_handler
      CodeUri: echo/
      Environment:
        Variables: { GREETING: !Ref Greeting, TABLE: !Ref Seen }
      Events:
        Look:
          Type: Api
          Properties: { RestApiId: !Ref Door, Method: GET, Path: "/things/{id}" }
        Exact:
          Type: Api
          Properties: { RestApiId: !Ref Door, Method: GET, Path: /things/all }
        Put:
          Type: Api
          Properties: { RestApiId: !Ref Door, Method: POST, Path: /things }
        Open:
          Type: Api
          Properties:
            RestApiId: !Ref Door
            Method: GET
            Path: /open
            Auth: { Authorizer: NONE }
        Tick:
          Type: Schedule
          Properties: { Schedule: rate(1 hour) }
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Echo
      EventSourceArn: !GetAtt Events.Arn
      StartingPosition: TRIM_HORIZON
      BatchSize: 100
      MaximumBatchingWindowInSeconds: 0
      MaximumRetryAttempts: 1
      BisectBatchOnFunctionError: true
      DestinationConfig: { OnFailure: { Destination: !GetAtt Failures.Arn } }
  Door:
    Type: AWS::Serverless::Api
    Properties:
      StageName: live
      OpenApiVersion: 3.0.1
      Auth: { DefaultAuthorizer: AWS_IAM, InvokeRole: NONE }
  Events:
    Type: AWS::Kinesis::Stream
    Properties: { ShardCount: 2 }
  Seen:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]
      KeySchema: [{ AttributeName: id, KeyType: HASH }]
      TimeToLiveSpecification: { AttributeName: expires, Enabled: true }
  Failures:
    Type: AWS::S3::Bucket
"""

ECHO = """
import base64, json, os
import boto3

def lambda_handler(event, context):
    if "Records" in event:
        return seen(event["Records"])
    if "httpMethod" not in event:
        return {"time": event["time"], "greeting": os.environ["GREETING"]}
    body = event["body"]
    if body == "raise":
        raise ValueError("as asked")
    if body == "malformed":
        return {"status": 200}
    if event["isBase64Encoded"]:
        return {"statusCode": 201, "body": body, "isBase64Encoded": True}
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
        "body": json.dumps(event),
    }

def seen(records):
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    for record in records:
        data = base64.b64decode(record["kinesis"]["data"])
        if data == b"poison":
            raise ValueError("poison")
        table.put_item(Item={"id": data.decode()})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "template.yaml").write_text(TEMPLATE, encoding="utf-8")
    (folder / "echo").mkdir()
    (folder / "echo" / "app.py").write_text(ECHO, encoding="utf-8")
    return folder


@pytest.fixture
def aws(project: Path) -> Iterator[LocalAws]:
    with LocalAws.start(project / "template.yaml") as started:
        yield started


def ids(aws: LocalAws) -> set[str]:
    (table,) = aws.stack.tables
    items = aws.client("dynamodb").scan(TableName=table.name)["Items"]
    return {item["id"]["S"] for item in items}


def test_records_reach_the_function_and_what_fails_lands_in_the_bucket(aws: LocalAws) -> None:
    records = [(b"%d" % i, str(i)) for i in range(300)] + [(b"poison", "7")]
    numbers = aws.put(records)
    assert len(numbers) == len(records)
    delivery = aws.drain()
    assert (delivery.records, delivery.failed) == (300, 1)
    assert ids(aws) == {str(i) for i in range(300)}
    (bucket,) = aws.stack.buckets
    s3 = aws.client("s3")
    (entry,) = s3.list_objects_v2(Bucket=bucket, Prefix="aws/lambda/")["Contents"]
    kept = json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    (record,) = json.loads(kept["payload"])["Records"]
    assert b64decode(record["kinesis"]["data"]) == b"poison"
    assert aws.drain() == Delivery()


def test_schedule_runs_as_of_the_time_given(aws: LocalAws) -> None:
    report = aws.run_schedule(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert report == {"time": "2026-01-02T03:04:05Z", "greeting": "hello"}


def test_parameters_reach_the_function(project: Path) -> None:
    with LocalAws.start(project / "template.yaml", parameters={"Greeting": "moin"}) as aws:
        assert aws.run_schedule(datetime(2026, 1, 1, tzinfo=UTC))["greeting"] == "moin"


def test_second_session_starts_empty(project: Path) -> None:
    for _ in range(2):
        with LocalAws.start(project / "template.yaml") as aws:
            aws.put([(b"a", "a")])
            assert aws.drain().records == 1


def test_given_endpoint_is_used_and_what_is_there_is_kept(aws: LocalAws, project: Path) -> None:
    aws.put([(b"a", "a")])
    endpoint = aws.endpoint_url
    with LocalAws.start(project / "template.yaml", endpoint=endpoint) as second:
        assert second.drain().records == 1
        assert ids(second) == {"a"}


def test_aws_itself_is_refused_as_endpoint(project: Path) -> None:
    with pytest.raises(NotEmulated, match="that is AWS"):
        LocalAws.start(
            project / "template.yaml", endpoint="https://kinesis.us-east-1.amazonaws.com"
        )


def test_tables_expire_items_where_the_template_says(aws: LocalAws) -> None:
    (table,) = aws.stack.tables
    answer = aws.client("dynamodb").describe_time_to_live(TableName=table.name)
    assert answer["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires",
    }


def test_serving_delivers_in_the_background(aws: LocalAws) -> None:
    aws.serve()
    aws.put([(b"a", "a")])
    deadline = time.monotonic() + 10
    while aws.delivered.records < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ids(aws) == {"a"}


def test_request_reaches_the_function_as_api_gateway_sends_it(aws: LocalAws) -> None:
    reply = aws.api.request("GET", "/things/a%20b?x=1&x=2&empty=")
    assert reply.status == 200
    event = reply.json()
    assert (event["resource"], event["path"]) == ("/things/{id}", "/things/a%20b")
    assert event["pathParameters"] == {"id": "a%20b"}
    assert event["queryStringParameters"] == {"x": "2", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"], "empty": [""]}
    assert event["requestContext"]["path"] == "/live/things/a%20b"
    assert event["requestContext"]["stage"] == "live"
    assert (event["body"], event["isBase64Encoded"]) == (None, False)
    assert [value for name, value in reply.headers if name == "Set-Cookie"] == ["a=1", "b=2"]


def test_literal_path_goes_before_a_parameter(aws: LocalAws) -> None:
    assert aws.api.request("GET", "/things/all").json()["resource"] == "/things/all"


def test_body_that_is_not_text_goes_in_and_comes_back_whole(aws: LocalAws) -> None:
    reply = aws.api.request("POST", "/things", b"\xff\x00\xfe")
    assert (reply.status, reply.body) == (201, b"\xff\x00\xfe")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("DELETE", "/things"), ("GET", "/things/a/b")]
)
def test_unknown_route_asks_for_a_token_as_api_gateway_does(
    aws: LocalAws, method: str, path: str
) -> None:
    reply = aws.api.request(method, path)
    assert (reply.status, reply.json()) == (403, {"message": "Missing Authentication Token"})


@pytest.mark.parametrize("body", ["raise", "malformed"])
def test_function_that_fails_is_a_bad_gateway(aws: LocalAws, body: str) -> None:
    reply = aws.api.request("POST", "/things", body)
    assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})


@pytest.mark.parametrize("size", [MOST_BODY_BYTES - 1, MOST_BODY_BYTES + 1, 2 * MOST_BODY_BYTES])
def test_request_that_is_too_long_is_refused(aws: LocalAws, size: int) -> None:
    assert aws.api.request("POST", "/things", b"x" * size).status == 413


def curl(url: str, *arguments: str) -> tuple[int, Any]:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not here; install it to try signatures that are not botocore's")
    run = subprocess.run(
        [program, "-s", "-w", "\n%{http_code}", "--max-time", "10", *arguments, url],
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = run.stdout.rpartition("\n")
    return int(status), json.loads(body)


def signed_by(user: str) -> list[str]:
    return ["--aws-sigv4", "aws:amz:us-east-1:execute-api", "--user", user]


def test_curl_gets_in_with_the_local_credentials(aws: LocalAws) -> None:
    status, event = curl(f"{aws.api.base_url}/things/17?a=1&b=2", *signed_by("local:local"))
    assert (status, event["pathParameters"]) == (200, {"id": "17"})
    status, event = curl(f"{aws.api.base_url}/things", *signed_by("local:local"), "-d", '{"a": 1}')
    assert (status, event["body"]) == (200, '{"a": 1}')


def test_curl_stays_out_without_them(aws: LocalAws) -> None:
    url = f"{aws.api.base_url}/things/17"
    assert curl(url) == (403, {"message": "Missing Authentication Token"})
    status, answer = curl(url, *signed_by("local:guess"))
    assert (status, "signature we calculated" in answer["message"]) == (403, True)
    status, answer = curl(url, *signed_by("somebody:local"))
    assert (status, "security token" in answer["message"]) == (403, True)


def test_open_route_and_other_stage_need_no_signature_to_be_answered(aws: LocalAws) -> None:
    status, event = curl(f"{aws.api.base_url}/open")
    assert (status, event["path"]) == (200, "/open")
    other = aws.api.base_url.replace("/live", "/test")
    assert curl(f"{other}/open") == (403, {"message": "Forbidden"})


def signed_now(body: bytes = b"{}") -> HttpRequest:
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    plain = HttpRequest("POST", "http://localhost/live/things?b=2&a=%2F1", headers, body)
    return HttpRequest(plain.method, plain.url, sign(plain), plain.body)


def test_signature_of_a_fresh_request_holds_and_grows_old() -> None:
    request, now = signed_now(), datetime.now(UTC)
    verify(request, now)
    with pytest.raises(Unsigned, match="expired"):
        verify(request, now + timedelta(minutes=6))


def test_signature_does_not_hold_for_another_request() -> None:
    request, now = signed_now(), datetime.now(UTC)
    others = [
        HttpRequest("PUT", request.url, request.headers, request.body),
        HttpRequest("POST", request.url + "0", request.headers, request.body),
        HttpRequest("POST", request.url, request.headers, b"{ }"),
        HttpRequest("POST", request.url, {**request.headers, "Host": "elsewhere"}, request.body),
    ]
    for other in others:
        with pytest.raises(Unsigned, match="signature we calculated"):
            verify(other, now)


def test_clients_of_the_stack_are_boto3_s_with_the_local_endpoint(aws: LocalAws) -> None:
    assert aws.client("kinesis").meta.endpoint_url == aws.endpoint_url
    assert aws.client("kinesis") is aws.client("kinesis")
    # The environment sends everybody there, for as long as the session lasts.
    assert boto3.client("dynamodb").meta.endpoint_url == aws.endpoint_url


def test_closed_endpoint_answers_no_more(aws: LocalAws) -> None:
    endpoint = Endpoint(aws.stack, aws.runtime.invoke)
    url = f"{endpoint.base_url}/open"
    assert curl(url)[0] == 200
    endpoint.close()
    with pytest.raises(subprocess.CalledProcessError):
        curl(url)
