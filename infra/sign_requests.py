"""Hooks for schemathesis: signs its requests for API Gateway, and asks for instants of today.

Runs in schemathesis's environment, which has botocore and nothing of this project.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import strategies

CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
NOW = datetime.now(UTC)

# An event of another decade is refused, and rightly: no schema can say so.
schemathesis.openapi.format(
    "date-time",
    strategies.datetimes(
        (NOW - timedelta(days=30)).replace(tzinfo=None),
        (NOW - timedelta(hours=1)).replace(tzinfo=None),
    ).map(lambda time: f"{time.isoformat()}Z"),
)


def signed(request: Any) -> Any:
    """A request of the library requests with a signature, as it goes out."""
    sent = request.headers.get("Content-Type")
    headers = {"Content-Type": sent} if sent else {}
    aws = AWSRequest(request.method, request.url, headers, request.body)
    SigV4Auth(CREDENTIALS, "execute-api", os.environ["AWS_REGION"]).add_auth(aws)
    for name in ("Authorization", "X-Amz-Date"):
        request.headers[name] = aws.headers[name]
    return request


schemathesis.auth.set_from_requests(signed)
