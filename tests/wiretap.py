"""Who calls which action of AWS on what, read off the wire in front of moto.

Heard there are botocore's calls and those that do without it alike. Who calls is told by the
access key that a request is signed with: functions take theirs from the environment, local mode
signs with its own what on AWS is Lambda's part, such as reading the stream.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote

from headrace.local.deploy import ACCESS_KEY
from headrace.local.intrinsics import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTION_KEY = "function"
"""AWS_ACCESS_KEY_ID of the functions, while they are listened to."""
LAMBDA = "Lambda itself"

_SIGNED_BY = re.compile(r"Credential=(?P<key>[^/]+)/\d+/[^/]+/(?P<service>[^/]+)/")
_OBJECT_ACTIONS = {
    "DELETE": "s3:DeleteObject",
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
}


class Call(NamedTuple):
    """One action on one resource.

    Attributes:
        caller: Logical id of the function, or ``LAMBDA``.
        action: As IAM names it, such as ``dynamodb:GetItem``.
        arn: Of the table, stream, bucket or object.
    """

    caller: str
    action: str
    arn: str


class Wiretap:
    """Listens in front of an application that plays AWS.

    Attributes:
        calls: What was heard.
    """

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self._running = ""

    @contextmanager
    def on(self, function: str) -> Iterator[None]:
        """While this function is the only one that is invoked."""
        self._running = function
        try:
            yield
        finally:
            self._running = ""

    def around(self, inner: Any) -> Any:
        """The application, heard; for ``serve_moto``."""

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            self._hear(environ, body)
            return inner(environ, start_response)

        return application

    def _hear(self, environ: dict[str, Any], body: bytes) -> None:
        signed = _SIGNED_BY.search(environ.get("HTTP_AUTHORIZATION", ""))
        if not signed or not self._running:
            return
        callers = {FUNCTION_KEY: self._running, ACCESS_KEY: LAMBDA}
        caller = callers[signed["key"]]
        if signed["service"] == "s3":
            self.calls.add(Call(caller, *_s3(environ)))
            return
        action = environ["HTTP_X_AMZ_TARGET"].partition(".")[2]
        for arn in _arns(signed["service"], json.loads(body)):
            self.calls.add(Call(caller, f"{signed['service']}:{action}", arn))


def _s3(environ: dict[str, Any]) -> tuple[str, str]:
    """Action and ARN of a request with the bucket in its path."""
    bucket, _, key = unquote(environ["PATH_INFO"]).removeprefix("/").partition("/")
    if key:
        return _OBJECT_ACTIONS[environ["REQUEST_METHOD"]], f"arn:aws:s3:::{bucket}/{key}"
    assert "list-type" in parse_qs(environ["QUERY_STRING"]), environ["QUERY_STRING"]
    return "s3:ListBucket", f"arn:aws:s3:::{bucket}"


def _arns(service: str, request: dict[str, Any]) -> list[str]:
    if service == "dynamodb":
        tables = [request["TableName"]] if "TableName" in request else request["RequestItems"]
        return [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}" for name in tables]
    if "ShardIterator" in request:  # GetRecords names its stream within an opaque token
        return [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/*"]
    name = request.get("StreamName") or request["StreamARN"].rpartition("/")[2]
    return [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"]
