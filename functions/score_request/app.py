"""The scoring endpoint: score an event now, or look a score up."""

from __future__ import annotations

from binascii import a2b_base64
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response

from headrace import bootstrap
from headrace.adapters.api import (
    answer,
    answer_batch,
    answered,
    parse_batch,
    problem,
    problem_of,
    refused,
)
from headrace.adapters.invocations import observed
from headrace.adapters.telemetry import logger, note_answers, note_look_up, note_lookups
from headrace.errors import EventRejected, Fault, HeadraceError, Misconfigured

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = APIGatewayRestResolver()


@app.post("/scores")
def score() -> Response[str]:
    """Score one event; with ``?record=true`` it goes onto the stream too."""
    scorer, body, record = bootstrap.request_scorer(), _body(), _wants_record()
    found = scorer.score(body)
    if record:
        return answer(found, recorded=scorer.record(body))
    return answer(found)


@app.post("/scores/batch")
def score_batch() -> Response[str]:
    """Score up to 100 events, each by itself."""
    if _wants_record():
        message = "record: got true; expected no batch, since events are recorded one by one"
        raise EventRejected([Fault("out_of_bounds", "record", message)])
    return answer_batch(bootstrap.request_scorer().score_many(parse_batch(_body())))


@app.get("/scores/<event_id>")
def score_of_event(event_id: str) -> Response[str]:
    """The stored score of an event."""
    event_id = unquote(event_id)  # API Gateway passes paths on as they came
    found = bootstrap.request_scorer().score_of_event(event_id)
    if found is None:
        return problem(HTTPStatus.NOT_FOUND, f"event {event_id!r} has no score")
    return answer(found)


@app.get("/entities/<entity>/<entity_id>/score")
def score_of_entity(entity: str, entity_id: str) -> Response[str]:
    """The best score known of an entity."""
    scorer = bootstrap.request_scorer()
    if not scorer.knows(entity):
        return problem(HTTPStatus.NOT_FOUND, f"the definition has no entity {entity!r}")
    found = scorer.score_of_entity(entity, unquote(entity_id))
    note_look_up(found)
    return answer(found)


@app.get("/health")
def health() -> Response[str]:
    """Whether the bundle loads, and which one it is."""
    scorer = bootstrap.request_scorer()
    if scorer.lacks_model:
        detail = "the model is not loaded, see the log; scores are last, batch or prior ones"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
    return answer({"model_version": scorer.model_version, "definition": scorer.definition_hash})


@app.not_found
def no_route(error: Exception) -> Response[str]:
    """A path that the endpoint does not have."""
    return problem(HTTPStatus.NOT_FOUND, f"no route {app.current_event.path!r}")


@app.exception_handler(HeadraceError)  # type: ignore[untyped-decorator]  # Powertools' own
def refuse(error: HeadraceError) -> Response[str]:
    """Every error that Headrace raises, as problem details."""
    if isinstance(error, Misconfigured):
        logger.exception("misconfigured")
    return problem_of(error)


def _wants_record() -> bool:
    value = app.current_event.get_query_string_value("record") or "false"
    if value.lower() not in ("true", "false"):
        message = f"record: got {value[:20]!r}; expected true or false"
        raise EventRejected([Fault("wrong_type", "record", message)])
    return value.lower() == "true"


def _body() -> bytes:
    event = app.current_event
    body = (event.body or "").encode()
    return a2b_base64(body) if event.is_base64_encoded else body  # bytes that are no UTF-8 too


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """An API Gateway request in, its answer out."""
    is_plain = (
        event.get("path") == "/scores"
        and event.get("httpMethod") == "POST"
        and not (event.get("queryStringParameters") or event.get("isBase64Encoded"))
    )
    found = _score_plainly(event.get("body")) if is_plain else app.resolve(event, context)
    with suppress(HeadraceError):  # where nothing could be built, the answer says so already
        met = bootstrap.request_scorer().met()
        if met is not None:
            note_answers(met)
            note_lookups(bootstrap.lookups().report())
    return found


def _score_plainly(body: str | None) -> dict[str, Any]:
    """As ``score`` answers by its route, which takes as long as a third of all else."""
    try:
        return answered(bootstrap.request_scorer().score((body or "").encode()))
    except HeadraceError as error:
        return refused(refuse(error))


bootstrap.begin(bootstrap.request_scorer)
