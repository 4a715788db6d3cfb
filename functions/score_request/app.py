"""The scoring endpoint: score an event now, or look a score up."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from headrace import bootstrap
from headrace.adapters.api import answer
from headrace.adapters.invocations import observed, refusal
from headrace.adapters.telemetry import note_answers, note_lookups
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from aws_lambda_powertools.event_handler import APIGatewayRestResolver
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headrace.adapters.api import Answer


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """An API Gateway request in, its answer out."""
    is_plain = (
        event.get("path") == "/scores"
        and event.get("httpMethod") == "POST"
        and not (event.get("queryStringParameters") or event.get("isBase64Encoded"))
    )
    found = _scored(event.get("body")).taken() if is_plain else routes().resolve(event, context)
    with suppress(HeadraceError):  # where nothing could be built, the answer says so already
        met = bootstrap.request_scorer().met()
        if met is not None:
            note_answers(met)
            note_lookups(bootstrap.lookups().report())
    return found


def _scored(body: str | None) -> Answer:
    """What the route answers too, without the resolver, which most requests need not pay for."""
    try:
        return answer(bootstrap.request_scorer().score((body or "").encode()))
    except HeadraceError as error:
        return refusal(error)


@cache
def routes() -> APIGatewayRestResolver:
    """All routes of the endpoint."""
    from headrace.routes import app  # here: it is slow to import, and most never need it

    return app


bootstrap.begin(bootstrap.request_scorer)
bootstrap.begin_early(routes)
