"""API Gateway's Lambda proxy integration of a REST API: the event, and what the answer becomes."""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from headrace.local.deploy import ACCESS_KEY
from headrace.local.intrinsics import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.local.resources import Route
    from headrace.local.signatures import HttpRequest

API_ID = "local"
_ANSWER_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; names of headers as sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class Match:
    """A route that a request takes, with its path parameters as they stand in the URL."""

    route: Route
    parameters: Mapping[str, str]


def match_route(routes: Iterable[Route], method: str, path: str) -> Match | None:
    """The route for a path within the stage; a literal part goes before a parameter, as on AWS."""
    fitting = []
    for route in routes:
        found = _pattern(route.resource).fullmatch(path)
        if found and route.method == method:
            fitting.append(Match(route, found.groupdict()))
    return min(fitting, key=lambda match: len(match.parameters), default=None)


def _pattern(resource: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(resource)))


def proxy_event(
    request: HttpRequest, match: Match, stage: str, received: datetime
) -> dict[str, Any]:
    """What a REST API hands its function (payload format 1.0).

    Path parameters stay percent-encoded, query parameters are decoded, as a REST API has them.
    A body that is not UTF-8 comes in base64, as with binary media types.

    Source: Amazon API Gateway Developer Guide, "Input format of a Lambda function for proxy
    integration".
    """
    url = urlsplit(request.url)
    pairs = parse_qsl(url.query, keep_blank_values=True)
    body, encoded = _event_body(request.body)
    headers = dict(request.headers)
    return {
        "resource": match.route.resource,
        "path": url.path.removeprefix(f"/{stage}"),
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": _multi(pairs) or None,
        "pathParameters": dict(match.parameters) or None,
        "stageVariables": None,
        "requestContext": _request_context(request, match, stage, received),
        "body": body,
        "isBase64Encoded": encoded,
    }


def _multi(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _event_body(body: bytes) -> tuple[str | None, bool]:
    try:
        return body.decode("utf-8") or None, False
    except UnicodeDecodeError:
        return b64encode(body).decode("ascii"), True


def _request_context(
    request: HttpRequest, match: Match, stage: str, received: datetime
) -> dict[str, Any]:
    caller = ACCOUNT if match.route.signed else None
    return {
        "accountId": ACCOUNT,
        "apiId": API_ID,
        "domainName": request.header("host") or "",
        "domainPrefix": API_ID,
        "extendedRequestId": str(uuid.uuid4()),
        "httpMethod": request.method,
        "identity": {
            "accessKey": ACCESS_KEY if caller else None,
            "accountId": caller,
            "caller": caller,
            "sourceIp": "127.0.0.1",
            "user": caller,
            "userAgent": request.header("user-agent"),
            "userArn": f"arn:aws:iam::{ACCOUNT}:root" if caller else None,
        },
        "path": urlsplit(request.url).path,
        "protocol": "HTTP/1.1",
        "requestId": str(uuid.uuid4()),
        "requestTime": f"{received.astimezone(UTC):%d/%b/%Y:%H:%M:%S +0000}",
        "requestTimeEpoch": int(received.timestamp() * 1000),
        "resourceId": match.route.resource,
        "resourcePath": match.route.resource,
        "stage": stage,
    }


class MalformedAnswer(Exception):  # noqa: N818 - named for the answer
    """A function's answer is not what the proxy integration takes."""


def read_answer(answer: Any) -> Reply:
    """Turn a function's answer into the HTTP answer.

    Raises:
        MalformedAnswer: API Gateway would answer 502 for it.
    """
    if not isinstance(answer, dict) or answer.keys() - _ANSWER_KEYS:
        msg = f"got {type(answer).__name__}; expected an object with {sorted(_ANSWER_KEYS)} only"
        raise MalformedAnswer(msg)
    body = answer.get("body") or ""
    if not isinstance(body, str):
        msg = f"body is {type(body).__name__}; expected text"
        raise MalformedAnswer(msg)
    return Reply(
        _status(answer.get("statusCode")),
        tuple(_headers(answer.get("headers") or {}, answer.get("multiValueHeaders") or {})),
        _decoded(body) if answer.get("isBase64Encoded") else body.encode("utf-8"),
    )


def _status(value: Any) -> int:
    try:
        status = int(value)
    except (TypeError, ValueError):
        status = 0
    if not 200 <= status <= 599:
        msg = f"statusCode is {value!r}; expected 200 to 599"
        raise MalformedAnswer(msg)
    return status


def _headers(single: Any, multi: Any) -> Sequence[tuple[str, str]]:
    if not isinstance(single, dict) or not isinstance(multi, dict):
        msg = "headers and multiValueHeaders: expected objects"
        raise MalformedAnswer(msg)
    # Where both name a header, API Gateway takes the one with several values.
    several = {name.lower() for name in multi}
    pairs = [(name, str(value)) for name, value in single.items() if name.lower() not in several]
    pairs += [(name, str(value)) for name, values in multi.items() for value in values]
    if any(set("\r\n") & set(name + value) for name, value in pairs):
        msg = "a header has a line break; expected none"
        raise MalformedAnswer(msg)
    return pairs


def _decoded(body: str) -> bytes:
    try:
        return b64decode(body, validate=True)
    except Base64Error as error:
        msg = "body is not base64, and isBase64Encoded is true"
        raise MalformedAnswer(msg) from error
