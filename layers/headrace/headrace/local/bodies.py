"""API Gateway's validation of request bodies: which model a method has, and whether a body fits.

Source: Amazon API Gateway Developer Guide, "Request validation for REST APIs in API Gateway" and
"Data models for REST APIs" (JSON Schema draft 4).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonschema import Draft4Validator

from headrace.local import NotEmulated
from headrace.local.coverage import require_value

if TYPE_CHECKING:
    from collections.abc import Mapping

VALIDATORS = "x-amazon-apigateway-request-validators"
VALIDATOR = "x-amazon-apigateway-request-validator"
_JSON = "application/json"
_MODELS = "#/components/schemas/"


def model_of(name: str, operation: Mapping[str, Any], api: Mapping[str, Any]) -> Any:
    """The JSON schema that bodies of a method must fit; None where none is looked at.

    Args:
        name: Of the route, for errors.
        operation: The method's part of the API's OpenAPI definition.
        api: The whole of it.

    Raises:
        NotEmulated: It asks for more than the validation of JSON bodies by a model.
    """
    validator = api.get(VALIDATORS, {}).get(operation.get(VALIDATOR), {})
    require_value(name, "parameters", validator.get("validateRequestParameters", False), (False,))
    if not validator.get("validateRequestBody"):
        return None
    content = operation["requestBody"]["content"]
    require_value(name, "content types", [*content], ([_JSON],))
    reference = content[_JSON]["schema"].get("$ref", "")
    if not reference.startswith(_MODELS):
        msg = f"{name}: its model is {content[_JSON]['schema']!r}; expected a reference to a model"
        raise NotEmulated(msg)
    return api["components"]["schemas"][reference.removeprefix(_MODELS)]


def fits(model: Any, content_type: str | None, body: bytes) -> bool:
    """Whether a method with this model takes a body; one of another type than JSON it does not see.

    A request without a content type is taken to be JSON.
    """
    if (content_type or _JSON).partition(";")[0].strip().lower() != _JSON:
        return True
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return bool(Draft4Validator(model).is_valid(value))
