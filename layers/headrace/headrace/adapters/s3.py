"""Quarantine in S3: one object per refused record, with its bytes, reasons and position."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import StoreUnavailable
from headrace.events import us_to_text

if TYPE_CHECKING:
    from headrace.ports import Quarantined

PREFIX = "quarantine/"


class S3Quarantine:
    """Fulfils ``ports.Quarantine``; the key comes from the position, so a repeat overwrites."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def put(self, refused: Quarantined) -> None:
        """See the port."""
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=quarantine_key(refused),
                Body=quarantine_body(refused),
                ContentType="application/json",
            )
        except AWS_ERRORS as error:
            msg = f"record {refused.record.position} cannot be quarantined: {error_code(error)}"
            raise StoreUnavailable(msg) from error


def quarantine_key(refused: Quarantined) -> str:
    """``quarantine/<reason>/<day of arrival>/<position>.json``."""
    day = us_to_text(refused.record.arrival)[:10]
    return f"{PREFIX}{refused.faults[0].reason}/{day}/{refused.record.position}.json"


def quarantine_body(refused: Quarantined) -> bytes:
    """JSON: position, sequence, arrival, faults, and the record's bytes in base64."""
    record = refused.record
    return msgspec.json.encode(
        {
            "position": record.position,
            "sequence": record.sequence,
            "arrival": us_to_text(record.arrival),
            "faults": refused.faults,
            "data": base64.b64encode(record.data).decode(),
        }
    )
