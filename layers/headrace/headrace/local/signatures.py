"""IAM authentication of the local endpoint: signs requests, and checks signatures, with SigV4."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from headrace.local.deploy import ACCESS_KEY, SECRET_KEY
from headrace.local.intrinsics import REGION

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "execute-api"
MOST_SKEW = timedelta(minutes=5)
# Faults by API Gateway's names for them.
MISSING = "MissingAuthenticationTokenException"
INCOMPLETE = "IncompleteSignatureException"
UNKNOWN_KEY = "UnrecognizedClientException"
INVALID = "InvalidSignatureException"
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/, ]+)/(?P<date>\d{8})/(?P<region>[^/, ]+)"
    r"/(?P<service>[^/, ]+)/aws4_request, *SignedHeaders=(?P<headers>[^, ]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it goes over the wire; ``url`` is whole, headers are as sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header by its name in lower case."""
        return next((value for key, value in self.headers.items() if key.lower() == name), None)


class Unsigned(Exception):  # noqa: N818 - named for the request
    """A request has no valid signature.

    Attributes:
        code: API Gateway's name for the fault.
        message: API Gateway's words for it.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


def sign(request: HttpRequest) -> dict[str, str]:
    """Headers of the request with those of its signature."""
    signed = AWSRequest(request.method, request.url, dict(request.headers), request.body)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), SERVICE, REGION).add_auth(signed)
    return dict(signed.headers.items())


def verify(request: HttpRequest, now: datetime) -> None:
    """Check a request's signature in its Authorization header.

    Raises:
        Unsigned: It is missing or wrong.

    Source: AWS Signature Version 4; the answers are those of API Gateway.
    """
    authorization = request.header("authorization")
    if authorization is None:
        raise Unsigned(MISSING, "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise Unsigned(
            INCOMPLETE,
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' "
            "parameters of AWS4-HMAC-SHA256.",
        )
    if found["key"] != ACCESS_KEY:
        raise Unsigned(UNKNOWN_KEY, "The security token included in the request is invalid.")
    if (found["region"], found["service"]) != (REGION, SERVICE):
        raise Unsigned(
            INVALID,
            f"Credential should be scoped to region '{REGION}' and service '{SERVICE}'.",
        )
    timestamp = _timestamp(request, found["date"], now)
    if not hmac.compare_digest(_expected(request, found["headers"], timestamp), found["signature"]):
        raise Unsigned(
            INVALID,
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )


def _timestamp(request: HttpRequest, day: str, now: datetime) -> str:
    text = request.header("x-amz-date") or ""
    try:
        signed_at = datetime.strptime(text, _TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        message = f"X-Amz-Date is {text!r}; expected ISO 8601 such as 20260101T000000Z."
        raise Unsigned(INCOMPLETE, message) from None
    if not text.startswith(day):
        message = f"Date in Credential scope does not match YYYYMMDD of X-Amz-Date: {day}, {text}"
        raise Unsigned(INVALID, message)
    if abs(now - signed_at) > MOST_SKEW:
        message = f"Signature expired: {text} is more than 5 min. from {now:{_TIMESTAMP}}"
        raise Unsigned(INVALID, message)
    return text


def _expected(request: HttpRequest, signed_headers: str, timestamp: str) -> str:
    """The signature by botocore's own arithmetic, over the headers that the caller signed."""
    names = signed_headers.split(";")
    sent = {name.lower(): value for name, value in request.headers.items()}
    headers = {name: sent[name] for name in names if name in sent}
    if "host" not in headers or len(headers) < len(names):
        return ""
    body_hash = hashlib.sha256(request.body).hexdigest()
    if headers.get("x-amz-content-sha256", body_hash) != body_hash:
        return ""
    again = AWSRequest(request.method, request.url, headers, request.body)
    again.context["timestamp"] = timestamp
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), SERVICE, REGION)
    to_sign = auth.string_to_sign(again, auth.canonical_request(again))
    return str(auth.signature(to_sign, again))
