"""The OpenAPI document says what the endpoint answers, and the gateway refuses nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from headrace.adapters.api import answer, answer_batch, parse_batch, problem_of
from headrace.cli import app
from headrace.definition import Flag, Invalid, Number, Text
from headrace.errors import EventRejected
from headrace.local import NotEmulated
from headrace.local.bodies import VALIDATOR, VALIDATORS, fits, model_of
from headrace.local.template import read_stack
from headrace.offline.openapi import openapi
from headrace.requests import MAX_EVENTS
from tests.fakes import NOON, SECOND, encoded, make_definition, payment
from tests.unit.test_requests import Desk

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "infra" / "openapi.json"
DESK = Desk()  # requests leave it as it is
ROUTES = {
    f"{route.method} {route.resource}": route for route in read_stack(ROOT / "template.yaml").routes
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=7), inner),
    max_leaves=5,
)


def validator(name: str, document: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def test_document_in_the_repository_is_that_of_the_definition() -> None:
    """If not: `headrace openapi --out infra/openapi.json`."""
    run = CliRunner().invoke(app, ["openapi", "--model-dir", str(ROOT / "layers" / "model")])
    assert run.exit_code == 0
    assert run.stdout == DOCUMENT.read_text(encoding="utf-8")


def test_document_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    command = ["openapi", "--model-dir", str(ROOT / "layers" / "model"), "--out", str(path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert path.read_bytes() == DOCUMENT.read_bytes()


def test_document_has_the_routes_of_the_template() -> None:
    paths = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    documented = {f"{method.upper()} {path}" for path, each in paths.items() for method in each}
    assert documented == ROUTES.keys()


def test_answers_are_as_documented() -> None:
    document = openapi(DESK.bundle.definition)
    scored = DESK.requests.score(encoded(payment(9, NOON - SECOND)))
    refused = DESK.requests.score_many([encoded(payment(9)), b"{}"])
    looked_up = DESK.requests.score_of_entity("card", "1")
    unknown = DESK.requests.score_of_entity("card", "nobody")
    with pytest.raises(EventRejected) as error:
        DESK.requests.score(b'{"amount": "x"}')
    answers = [
        ("Answer", answer(scored, recorded="17")),
        ("ScoreRecord", answer(scored)),
        ("BatchAnswer", answer_batch(refused)),
        ("EntityScore", answer(looked_up)),
        ("EntityScore", answer(unknown)),
        ("Problem", problem_of(error.value)),
    ]
    for name, found in answers:
        assert found.body is not None
        body = json.loads(found.body)
        validator(name, document).validate(body)
        assert not validator(name, document).is_valid({})


def test_event_is_documented_as_the_definition_has_it() -> None:
    definition = make_definition()
    found = openapi(definition)["components"]["schemas"]["Event"]
    source = definition.scored
    assert {source.id, source.time, *source.entities} <= set(found["required"])
    assert found["properties"].keys() == {
        "source", source.id, source.time, *source.entities, *source.fields,
    }  # fmt: skip
    checks = Draft202012Validator(found)
    assert checks.is_valid(payment(1))
    assert not checks.is_valid({**payment(1), "source": "disputes"})
    for name in found["required"]:
        assert not checks.is_valid({k: v for k, v in payment(1).items() if k != name})


@pytest.mark.parametrize("kind", [Number, Flag, Text])
def test_field_whose_invalid_values_do_not_refuse_the_event_takes_anything(kind: Any) -> None:
    from headrace.offline.openapi import _field

    strict, lenient = _field("f", kind()), _field("f", kind(if_invalid=Invalid.MISSING))
    assert Draft202012Validator(lenient).is_valid({"no": "such"})
    assert not Draft202012Validator(strict).is_valid({"no": "such"})
    assert Draft202012Validator(strict).is_valid(None)
    assert "anything else counts as missing" in lenient["description"]


@given(JSON_VALUES)
def test_whatever_the_gateway_refuses_is_no_event(value: Any) -> None:
    body = json.dumps(value).encode()
    if not fits(ROUTES["POST /scores"].model, None, body):
        with pytest.raises(EventRejected):
            DESK.requests.score(body)


@given(JSON_VALUES | st.fixed_dictionaries({"events": JSON_VALUES}))
def test_whatever_the_gateway_refuses_is_no_batch(value: Any) -> None:
    body = json.dumps(value).encode()
    if not fits(ROUTES["POST /scores/batch"].model, None, body):
        with pytest.raises(EventRejected):
            parse_batch(body)


def test_gateway_refuses_more_events_than_a_batch_may_have() -> None:
    model = ROUTES["POST /scores/batch"].model
    assert fits(model, None, json.dumps({"events": [{}] * MAX_EVENTS}).encode())
    assert not fits(model, None, json.dumps({"events": [{}] * (MAX_EVENTS + 1)}).encode())


@pytest.mark.parametrize(
    ("content_type", "body", "fit"),
    [
        (None, b"[]", False),
        ("application/json; charset=utf-8", b"[]", False),
        ("application/json", b"", False),
        ("application/json", b"{", False),
        ("application/json", b"\xff", False),
        ("application/json", b"[" * 100_000, False),
        ("application/json", b"{}", True),
        ("text/plain", b"[]", True),  # the gateway looks at JSON only; the function refuses it
    ],
)
def test_bodies_are_looked_at_as_the_gateway_does(
    content_type: str | None, body: bytes, fit: bool
) -> None:
    assert fits({"type": "object"}, content_type, body) is fit


def test_validation_that_is_not_played_is_refused() -> None:
    schema = {"schema": {"type": "object"}}
    operation = {VALIDATOR: "all", "requestBody": {"content": {"application/json": schema}}}
    bodies = {VALIDATORS: {"all": {"validateRequestBody": True}}}
    with pytest.raises(NotEmulated, match="expected a reference to a model"):
        model_of("route POST /x", operation, bodies)
    parameters = {VALIDATORS: {"all": {"validateRequestParameters": True}}}
    with pytest.raises(NotEmulated, match="parameters is True"):
        model_of("route POST /x", operation, parameters)
    assert model_of("route GET /x", {}, bodies) is None
