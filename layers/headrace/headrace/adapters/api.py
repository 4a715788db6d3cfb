"""What the endpoint answers: JSON, and problem details (RFC 9457) for what goes wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.errors import (
    BundleError,
    DefinitionError,
    EventRejected,
    Fault,
    TooLarge,
    Unavailable,
)
from headrace.requests import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.errors import HeadraceError
    from headrace.scores import ScoreRecord

_JSON = "application/json"
_PROBLEM = "application/problem+json"
STATUSES = {
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "not_utf8": HTTPStatus.BAD_REQUEST,
    "not_json": HTTPStatus.BAD_REQUEST,
    "not_an_object": HTTPStatus.BAD_REQUEST,
}


class Answer(NamedTuple):
    """What a request is answered with.

    Attributes:
        status: Of HTTP.
        body: JSON.
        content_type: Of the body.
        headers: All others.
    """

    status: HTTPStatus
    body: str
    content_type: str = _JSON
    headers: Mapping[str, str] = {}

    def taken(self) -> dict[str, Any]:
        """As API Gateway takes it."""
        headers = {"Content-Type": self.content_type, **self.headers}
        return {
            "statusCode": self.status,
            "body": self.body,
            "isBase64Encoded": False,
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
        }


class BatchRequest(msgspec.Struct, frozen=True):
    """Body of a batch request."""

    events: list[msgspec.Raw]


def parse_batch(body: bytes) -> list[bytes]:
    """The events of a batch request's body, each as JSON.

    Raises:
        EventRejected: The body is not ``{"events": [...]}``.
    """
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=BatchRequest).events]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        message = f'body: {error}; expected {{"events": [...]}}'
        raise EventRejected([Fault("not_json", "", message)]) from None


def answer(body: Any, **extra: object) -> Answer:
    """200 with a struct as JSON, and a few fields more."""
    return Answer(HTTPStatus.OK, _text(_whole(body) | extra))


def answer_batch(scores: Sequence[ScoreRecord | Refused]) -> Answer:
    """200 with one entry per event: its score, or its faults, each with a status of its own."""
    entries = [
        {"status": status_of(score.faults).value, "faults": score.faults}
        if isinstance(score, Refused)
        else {"status": HTTPStatus.OK.value, "record": _whole(score)}
        for score in scores
    ]
    return Answer(HTTPStatus.OK, _text({"scores": entries}))


def problem(
    status: HTTPStatus,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Problem details: type, title, status, detail, and every fault of the event."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if faults:
        body["faults"] = list(faults)
    return Answer(status, _text(body), _PROBLEM, headers or {})


def problem_of(error: HeadraceError) -> Answer:
    """Problem details of an error that a caller can do something about."""
    if isinstance(error, EventRejected):
        return problem(status_of(error.faults), str(error), error.faults)
    if isinstance(error, TooLarge):
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
    if isinstance(error, Unavailable):
        detail = f"{error}; the same request may succeed later"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
    if isinstance(error, (BundleError, DefinitionError)):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "definition or bundle cannot be loaded")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the service is misconfigured; see its logs")


def _text(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()


def _whole(body: Any) -> Any:
    """A struct with every field, also those that have their default; anything else as it is."""
    if not isinstance(body, msgspec.Struct):
        return body
    found = msgspec.structs.asdict(body)
    for name, value in found.items():
        if isinstance(value, msgspec.Struct):
            found[name] = _whole(value)
    return found


def status_of(faults: Sequence[Fault]) -> HTTPStatus:
    """The status of a refused event: 400 unreadable, 413 too large, 422 all other faults."""
    return STATUSES.get(faults[0].reason, HTTPStatus.UNPROCESSABLE_ENTITY)
