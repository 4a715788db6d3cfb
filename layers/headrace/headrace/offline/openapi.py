"""The endpoint as an OpenAPI document, made from a definition and the types that answer.

For clients, and for tools that try an endpoint. What API Gateway itself refuses is the models of
template.yaml, which are wider: a test holds them against this.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headrace import __version__
from headrace.field_checks import FieldCheck
from headrace.fields import Invalid
from headrace.requests import MAX_EVENTS, EntityScore, Refused
from headrace.scores import BatchScore, LastScore, Reason, Rung, ScoreRecord

if TYPE_CHECKING:
    from headrace.definition import Definition
    from headrace.fields import Field

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_JSON, _PROBLEM = "application/json", "application/problem+json"

_WHY = {
    400: "The body is not JSON, or not an object.",
    403: "The signature is missing or wrong, or the route is unknown.",
    404: "It is unknown.",
    413: "More bytes or events than the limit.",
    422: "The event has faults: all of them are listed.",
    429: "More requests than the stage takes.",
    503: "A store, the stream or the model is out of reach; try again after Retry-After.",
}
_BY_GATEWAY = (400, 403, 413, 429)
"""Statuses that API Gateway gives too, in its own form."""


def openapi(definition: Definition) -> Json:
    """The document, OpenAPI 3.1.

    Args:
        definition: Whose scored source is what events are of.

    Returns:
        What JSON can hold, in an order that depends on the definition only.
    """
    _, schemas = msgspec.json.schema_components(
        (ScoreRecord, LastScore, BatchScore, Rung, Reason, Refused), ref_template=_REF
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace scoring endpoint", "version": __version__},
        "servers": [{"url": "/"}],
        "security": [{"sigv4": []}],
        "paths": _paths(definition),
        "components": {
            "schemas": {
                **dict(sorted(schemas.items())),
                "Event": _event(definition),
                **_own_schemas(),
            },
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4 for the service execute-api.",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
        },
    }


def _paths(definition: Definition) -> Json:
    entities = sorted({entity.name for entity in definition.scored.entities.values()})
    record = _parameter("record", "query", {"type": "string", "enum": ["true", "false"]})
    return {
        "/scores": {
            "post": _operation(
                "Score an event now; state stays as it is.",
                _answers("Answer", 400, 403, 413, 422, 429, 503),
                parameters=[record | {"required": False}],
                body="Event",
            )
        },
        "/scores/batch": {
            "post": _operation(
                f"Score up to {MAX_EVENTS} events, each by itself.",
                _answers("BatchAnswer", 400, 403, 413, 429, 503),
                body="Batch",
            )
        },
        "/scores/{id}": {
            "get": _operation(
                "The stored score of an event.",
                _answers("ScoreRecord", 403, 404, 429, 503),
                parameters=[_parameter("id", "path", {"type": "string", "minLength": 1})],
            )
        },
        "/entities/{entity}/{id}/score": {
            "get": _operation(
                "The best score known of an entity.",
                _answers("EntityScore", 403, 404, 429, 503),
                parameters=[
                    _parameter("entity", "path", {"type": "string", "enum": entities}),
                    _parameter("id", "path", {"type": "string", "minLength": 1}),
                ],
            )
        },
        "/health": {
            "get": _operation(
                "Versions of model and definition.", _answers("Health", 403, 429, 503)
            )
        },
    }


def _operation(
    summary: str, responses: Json, parameters: list[Json] | None = None, body: str = ""
) -> Json:
    operation: Json = {"summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body:
        content = {_JSON: {"schema": _ref(body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation | {"responses": responses}


def _parameter(name: str, place: str, schema: Json) -> Json:
    return {"name": name, "in": place, "required": True, "schema": schema}


def _answers(schema: str, *statuses: int) -> Json:
    answers: Json = {"200": {"description": "Done.", "content": {_JSON: {"schema": _ref(schema)}}}}
    for status in statuses:
        content: Json = {} if status in (403, 429) else {_PROBLEM: {"schema": _ref("Problem")}}
        if status in _BY_GATEWAY:
            content[_JSON] = {"schema": _ref("Message")}
        answers[str(status)] = {"description": _WHY[status], "content": content}
    return answers


def _ref(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def _event(definition: Definition) -> Json:
    """What a producer should send; fields that the definition does not know are passed over."""
    source = definition.scored
    required = [source.id, source.time, *source.entities]
    keys = {
        source.id: _type(FieldCheck(source.id, int)),
        source.time: _type(FieldCheck(source.time, datetime)),
        **{name: _type(FieldCheck(name, int)) for name in source.entities},
    }
    fields = {name: _field(name, kind) for name, kind in source.fields.items()}
    required += [name for name, kind in source.fields.items() if kind.required]
    return {
        "type": "object",
        "required": required,
        "properties": {"source": {"const": source.name}, **keys, **fields},
    }


def _field(name: str, kind: Field) -> Json:
    """A field's type; of one whose invalid values do not refuse the event, only the description."""
    check = FieldCheck(name, kind)
    if kind.if_invalid != Invalid.QUARANTINE:
        return {"description": f"{check.expected}; anything else counts as {kind.if_invalid}"}
    return _type(check)


def _type(check: FieldCheck) -> Json:
    strict = check.strict if check.required else check.strict | None
    return {"description": check.expected, **msgspec.json.schema(strict)}


def _own_schemas() -> Json:
    """Bodies that no type of the code stands for."""
    text = {"type": "string"}
    refused = {"type": "object", "required": ["status", "faults"], "properties": {
        "status": {"type": "integer"}, "faults": {"type": "array", "items": _ref("Fault")},
    }}  # fmt: skip
    scored = {"type": "object", "required": ["status", "record"], "properties": {
        "status": {"const": 200}, "record": _ref("ScoreRecord"),
    }}  # fmt: skip
    return {
        "Answer": {"allOf": [_ref("ScoreRecord"), {"properties": {"recorded": text}}]},
        "Batch": {
            "type": "object",
            "required": ["events"],
            "properties": {"events": {"type": "array", "maxItems": MAX_EVENTS}},
        },
        "BatchAnswer": {
            "type": "object",
            "required": ["scores"],
            "properties": {"scores": {"type": "array", "items": {"anyOf": [scored, refused]}}},
        },
        "EntityScore": _entity_score(),
        "Health": {
            "type": "object",
            "required": ["model_version", "definition"],
            "properties": {"model_version": text, "definition": text},
        },
        "Message": {"type": "object", "required": ["message"], "properties": {"message": text}},
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": text,
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "faults": {"type": "array", "items": _ref("Fault")},
            },
        },
    }


def _entity_score() -> Json:
    """By hand: types cannot say which of three records is there, since none carries a tag."""
    text = {"type": "string"}
    records = [_ref(kind.__name__) for kind in (ScoreRecord, LastScore, BatchScore)]
    properties: Json = {
        "entity": text,
        "entity_id": text,
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "rung": _ref(Rung.__name__),
        "age": {"type": ["number", "null"]},
        "model_version": text,
        "definition_hash": text,
        "record": {"anyOf": [*records, {"type": "null"}]},
        "reason": {"anyOf": [_ref(Reason.__name__), {"type": "null"}]},
    }
    return {
        "type": "object",
        "required": list(EntityScore.__struct_fields__),
        "properties": properties,
    }
