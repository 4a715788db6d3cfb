"""The endpoint's routes, by Powertools' resolver; each answers with what ``adapters.api`` makes.

The function imports it for the first request that is more than an event to be scored: the resolver
brings half of Powertools, asyncio and 30 kinds of events with it. May import bootstrap.
"""

from __future__ import annotations

from binascii import a2b_base64
from http import HTTPStatus
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response

from headrace import bootstrap
from headrace.adapters.api import Answer, answer, answer_batch, parse_batch, problem
from headrace.adapters.invocations import refusal
from headrace.adapters.telemetry import note_look_up
from headrace.errors import EventRejected, Fault, HeadraceError

app = APIGatewayRestResolver()


@app.post("/scores")
def score() -> Response[str]:
    """Score one event; with ``?record=true`` it goes onto the stream too."""
    scorer, body, record = bootstrap.request_scorer(), _body(), _wants_record()
    found = scorer.score(body)
    if record:
        return _response(answer(found, recorded=scorer.record(body)))
    return _response(answer(found))


@app.post("/scores/batch")
def score_batch() -> Response[str]:
    """Score up to 100 events, each by itself."""
    if _wants_record():
        message = "record: got true; expected no batch, since events are recorded one by one"
        raise EventRejected([Fault("out_of_bounds", "record", message)])
    return _response(answer_batch(bootstrap.request_scorer().score_many(parse_batch(_body()))))


@app.get("/scores/<event_id>")
def score_of_event(event_id: str) -> Response[str]:
    """The stored score of an event."""
    event_id = unquote(event_id)  # API Gateway passes paths on as they came
    found = bootstrap.request_scorer().score_of_event(event_id)
    if found is None:
        return _response(problem(HTTPStatus.NOT_FOUND, f"event {event_id!r} has no score"))
    return _response(answer(found))


@app.get("/entities/<entity>/<entity_id>/score")
def score_of_entity(entity: str, entity_id: str) -> Response[str]:
    """The best score known of an entity."""
    scorer = bootstrap.request_scorer()
    if not scorer.knows(entity):
        return _response(problem(HTTPStatus.NOT_FOUND, f"the definition has no entity {entity!r}"))
    found = scorer.score_of_entity(entity, unquote(entity_id))
    note_look_up(found)
    return _response(answer(found))


@app.get("/health")
def health() -> Response[str]:
    """Whether the bundle loads, and which one it is."""
    scorer = bootstrap.request_scorer()
    if scorer.lacks_model:
        detail = "the model is not loaded, see the log; scores are last, batch or prior ones"
        return _response(problem(HTTPStatus.SERVICE_UNAVAILABLE, detail))
    return _response(
        answer({"model_version": scorer.model_version, "definition": scorer.definition_hash})
    )


@app.not_found
def no_route(error: Exception) -> Response[str]:
    """A path that the endpoint does not have."""
    return _response(problem(HTTPStatus.NOT_FOUND, f"no route {app.current_event.path!r}"))


@app.exception_handler(HeadraceError)  # type: ignore[untyped-decorator]  # Powertools' own
def refuse(error: HeadraceError) -> Response[str]:
    """Every error that Headrace raises, as problem details."""
    return _response(refusal(error))


def _response(found: Answer) -> Response[str]:
    headers = dict[str, str | list[str]](found.headers)
    return Response(found.status, found.content_type, found.body, headers)


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
