"""Signature version 4 of requests that differ in their body alone.

What holds for a day and for as long as the credentials do is put together once: the key, which is
four of the five digests, and all of the text but the time and the body's own digest. botocore's
(``SigV4Auth``) makes everything again at every request; a test
holds both against each other. Source: AWS, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from headrace.adapters.clock import SystemClock
from headrace.events import us_to_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from botocore.credentials import Credentials, ReadOnlyCredentials

_SECURITY_TOKEN = "x-amz-security-token"
_DATE = "x-amz-date"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SECONDS = len("YYYY-MM-DDTHH:MM:SS")
_DAY = slice(len("YYYYMMDD"))


class _Lasting(NamedTuple):
    """What signatures of one day with the same credentials have in common.

    Attributes:
        frozen: The credentials.
        day: Such as ``20260314``.
        key: To sign with.
        scope: Day, region and service.
        before: Canonical request up to the time.
        after: The rest of it, up to the body's digest.
        start: Header ``authorization`` up to the signature.
    """

    frozen: ReadOnlyCredentials
    day: str
    key: bytes
    scope: str
    before: str
    after: str
    start: str


def _timestamp(now: datetime) -> str:
    """As ``%Y%m%dT%H%M%SZ``, without ``strftime``."""
    return f"{now.isoformat('T', 'seconds')[:_SECONDS].replace('-', '').replace(':', '')}Z"


class Signer:
    """Signs POST requests to the path ``/``.

    Args:
        credentials: Asked at every request, so that those about to end are refreshed.
        service: Such as ``dynamodb``.
        region: Such as ``eu-central-1``.
        headers: That every request has, names in lower case; ``host`` among them.
    """

    def __init__(
        self, credentials: Credentials, service: str, region: str, headers: Mapping[str, str]
    ) -> None:
        self._credentials, self._service, self._region = credentials, service, region
        self._headers = dict(headers)
        self._clock = SystemClock()
        self._lasting: _Lasting | None = None

    def signed(self, body: bytes) -> dict[str, str]:
        """All headers of a request with this body."""
        frozen = self._credentials.get_frozen_credentials()
        timestamp = _timestamp(us_to_time(self._clock.now()))
        lasting = self._lasting
        if lasting is None or lasting.day != timestamp[_DAY] or lasting.frozen != frozen:
            # Whole at once, since requests of other threads are signed meanwhile.
            lasting = self._lasting = self._begin(frozen, timestamp[_DAY])
        canonical = f"{lasting.before}{timestamp}{lasting.after}{sha256(body).hexdigest()}"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{timestamp}\n{lasting.scope}\n{digest}"
        signature = hmac.digest(lasting.key, text.encode(), "sha256").hex()
        headers = {**self._headers, _DATE: timestamp, "authorization": lasting.start + signature}
        if frozen.token:
            headers[_SECURITY_TOKEN] = frozen.token
        return headers

    def _begin(self, frozen: ReadOnlyCredentials, day: str) -> _Lasting:
        key = f"AWS4{frozen.secret_key}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        token = {_SECURITY_TOKEN: frozen.token} if frozen.token else {}
        headers = {**self._headers, **token, _DATE: "\0"}
        listed = ";".join(sorted(headers))
        lines = "".join([f"{name}:{headers[name]}\n" for name in sorted(headers)])
        before, _, after = f"POST\n/\n\n{lines}\n{listed}\n".partition("\0")
        start = (
            f"{_ALGORITHM} Credential={frozen.access_key}/{scope}, "
            f"SignedHeaders={listed}, Signature="
        )
        return _Lasting(frozen, day, key, scope, before, after, start)
