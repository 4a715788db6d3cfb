"""Reads template.yaml into what local mode plays: functions, data, triggers, routes.

The SAM transform is AWS's own (aws-sam-translator), run in this process. Whatever of the result
local mode would play wrongly fails loudly with NotEmulated.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import boto3
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from headrace.local import NotEmulated
from headrace.local.bodies import VALIDATOR, VALIDATORS, model_of
from headrace.local.coverage import (
    PLAYED_TYPES,
    reason_left_out,
    require_played,
    require_value,
)
from headrace.local.intrinsics import REGION, Resolver
from headrace.local.mappings import read_mapping
from headrace.local.resources import Function, Route, Schedule, Stack, Stream, StreamMapping, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FUNCTION_IN_URI = re.compile(r":lambda:path/[^/]+/functions/(?P<arn>.+)/invocations$")
_CODE = ("CodeUri", "ContentUri", "DefinitionUri")
_METHODS = frozenset({"get", "post", "put", "delete", "patch", "head", "options"})


def read_stack(
    path: Path, parameters: Mapping[str, str] | None = None, stack_name: str = "headrace-local"
) -> Stack:
    """Read a SAM template.

    Args:
        path: The template; code paths in it are relative to its folder.
        parameters: Values for its parameters, over their defaults.
        stack_name: First part of every physical name.

    Raises:
        NotEmulated: The template asks for something that local mode does not play.
    """
    source = yaml_parse(path.read_text(encoding="utf-8"))
    code = _take_code_paths(source, path.parent)
    layers = _layers_of(source)
    plain = _transform(source, parameters or {})
    return _Reader(plain, Resolver(plain, parameters or {}, stack_name), code, layers).read()


def transformed(
    path: Path, parameters: Mapping[str, str], contents: Mapping[str, str]
) -> dict[str, Any]:
    """What SAM's transform makes of a template, as CloudFormation gets it.

    Args:
        path: The template.
        parameters: Values for its parameters, over their defaults.
        contents: Logical id of a function or layer -> S3 address of its packed code, where that
            matters.
    """
    source = yaml_parse(path.read_text(encoding="utf-8"))
    for logical_id in _take_code_paths(source, path.parent).keys() & contents.keys():
        properties = source["Resources"][logical_id]["Properties"]
        properties.update({name: contents[logical_id] for name in _CODE if name in properties})
    return _transform(source, parameters)


def declared_parameters(path: Path) -> frozenset[str]:
    """Names of the parameters that a SAM template has."""
    return frozenset(yaml_parse(path.read_text(encoding="utf-8")).get("Parameters", {}))


def _take_code_paths(source: dict[str, Any], root: Path) -> dict[str, Path]:
    """Note where the code is, and put an S3 address there, as the transform demands."""
    paths = {}
    for logical_id, resource in source.get("Resources", {}).items():
        properties = resource.get("Properties", {})
        for name in _CODE:
            if isinstance(properties.get(name), str):
                paths[logical_id] = (root / properties[name]).resolve()
                properties[name] = "s3://local/code"
    return paths


def _layers_of(source: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Logical ids of each function's layers; the transform gives layers other ones."""
    resources = source.get("Resources", {})
    found = {name: one.get("Properties", {}).get("Layers", []) for name, one in resources.items()}
    return {
        name: tuple(str(each.get("Ref", each) if isinstance(each, dict) else each) for each in all_)
        for name, all_ in found.items()
        if isinstance(all_, list)
    }


def _transform(source: dict[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    # It warns about feature toggles that only AWS's own service has.
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    try:
        plain = translator.translate(source, dict(parameters), get_managed_policy_map=dict)
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        msg = f"not a valid SAM template: {causes}"
        raise NotEmulated(msg) from error
    return dict(plain)


class _Reader:
    """Turns a plain CloudFormation template into a Stack."""

    def __init__(
        self,
        template: Mapping[str, Any],
        resolver: Resolver,
        code: Mapping[str, Path],
        layers: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._resolver = resolver
        self._code = code
        self._layers = layers
        self._resources = {
            logical_id: resource
            for logical_id, resource in template["Resources"].items()
            if "Condition" not in resource or resolver.condition(resource["Condition"])
        }

        reasons = {name: reason_left_out(each) for name, each in self._resources.items()}
        self._left_out = {name: reason for name, reason in reasons.items() if reason}

    def read(self) -> Stack:
        for logical_id, resource in self._resources.items():
            require_played(logical_id, resource)
        self._functions = {each.logical_id: each for each in self._read_functions()}
        stages = [str(p["StageName"]) for _, p in self._of("AWS::ApiGateway::Stage")]
        apis = [p for _, p in self._of("AWS::ApiGateway::RestApi")]
        if len(apis) > 1 or len(stages) > 1:
            msg = f"got {len(apis)} REST APIs with {len(stages)} stages; local mode plays one"
            raise NotEmulated(msg)
        return Stack(
            functions=self._functions,
            streams=tuple(self._stream(i, p) for i, p in self._of("AWS::Kinesis::Stream")),
            tables=tuple(self._table(i, p) for i, p in self._of("AWS::DynamoDB::Table")),
            buckets=tuple(self._resolver.name(i) for i, _ in self._of("AWS::S3::Bucket")),
            mappings=tuple(
                self._mapping(i, p) for i, p in self._of("AWS::Lambda::EventSourceMapping")
            ),
            schedules=tuple(self._schedule(i, p) for i, p in self._of("AWS::Events::Rule")),
            stage=stages[0] if stages else "",
            routes=tuple(route for api in apis for route in self._routes(api["Body"])),
            left_out=self._left_out,
        )

    def _of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        # What local mode leaves out may refer to what it does not know, so it is not resolved.
        played = PLAYED_TYPES[kind].played
        for logical_id, resource in self._resources.items():
            if resource["Type"] == kind and logical_id not in self._left_out:
                properties = resource.get("Properties", {})
                wanted = {name: properties[name] for name in properties if name in played}
                yield logical_id, self._resolver.resolve(wanted)

    def _read_functions(self) -> Iterator[Function]:
        for logical_id, properties in self._of("AWS::Lambda::Function"):
            variables = properties.get("Environment", {}).get("Variables", {})
            if logical_id not in self._code:
                msg = f"function {logical_id}: expected a CodeUri that is a folder of the project"
                raise NotEmulated(msg)
            yield Function(
                logical_id=logical_id,
                name=self._resolver.name(logical_id),
                arn=self._resolver.arn(logical_id),
                code=self._code[logical_id],
                handler=properties["Handler"],
                timeout_seconds=int(properties.get("Timeout", 3)),
                memory_mb=int(properties.get("MemorySize", 128)),
                environment={name: str(value) for name, value in variables.items()},
                runtime=str(properties["Runtime"]),
                layers=self._layers.get(logical_id, ()),
            )

    def _stream(self, logical_id: str, properties: Mapping[str, Any]) -> Stream:
        mode = properties.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        require_value(logical_id, "StreamMode", mode, ("PROVISIONED",))
        return Stream(
            name=self._resolver.name(logical_id),
            shard_count=int(properties.get("ShardCount", 1)),
            retention_hours=int(properties.get("RetentionPeriodHours", 24)),
        )

    def _table(self, logical_id: str, properties: Mapping[str, Any]) -> Table:
        require_value(
            logical_id, "BillingMode", properties.get("BillingMode"), ("PAY_PER_REQUEST",)
        )
        definitions = properties["AttributeDefinitions"]
        ttl = properties.get("TimeToLiveSpecification", {})
        return Table(
            name=self._resolver.name(logical_id),
            attribute_types={d["AttributeName"]: d["AttributeType"] for d in definitions},
            key_roles={k["AttributeName"]: k["KeyType"] for k in properties["KeySchema"]},
            ttl_attribute=ttl["AttributeName"] if ttl.get("Enabled") else None,
        )

    def _mapping(self, logical_id: str, properties: Mapping[str, Any]) -> StreamMapping:
        function = self._function(logical_id, properties["FunctionName"])
        streams = [self._resolver.name(each) for each, _ in self._of("AWS::Kinesis::Stream")]
        uuid = self._resolver.name(logical_id)
        return read_mapping(logical_id, uuid, properties, function, streams)

    def _schedule(self, logical_id: str, properties: Mapping[str, Any]) -> Schedule:
        targets = properties["Targets"]
        if len(targets) != 1 or set(targets[0]) != {"Arn", "Id"}:
            got = [sorted(target) for target in targets]
            msg = f"rule {logical_id}: targets have {got}; local mode plays one with Arn and Id"
            raise NotEmulated(msg)
        return Schedule(
            arn=self._resolver.arn(logical_id),
            expression=properties["ScheduleExpression"],
            function=self._function(logical_id, targets[0]["Arn"]).logical_id,
            enabled=properties.get("State", "ENABLED") == "ENABLED",
        )

    def _routes(self, body: Mapping[str, Any]) -> Iterator[Route]:
        for name in body:
            require_value("REST API", "part of its definition", name, _API_PARTS)
        for resource, methods in body["paths"].items():
            if "+}" in resource:
                msg = f"route {resource}: local mode does not play greedy path parameters"
                raise NotEmulated(msg)
            for method, operation in methods.items():
                require_value(f"route {resource}", "method", method, _METHODS)
                yield self._route(f"{method.upper()} {resource}", operation, body)

    def _route(self, name: str, operation: Mapping[str, Any], api: Mapping[str, Any]) -> Route:
        for part in operation:
            require_value(f"route {name}", "part of its definition", part, _ROUTE_PARTS)
        integration = operation["x-amazon-apigateway-integration"]
        require_value(f"route {name}", "integration", integration["type"], ("aws_proxy",))
        security = operation.get("security", [])
        require_value(f"route {name}", "security", security, (_SIGNED, *_OPEN))
        found = _FUNCTION_IN_URI.search(integration["uri"])
        target = found["arn"] if found else integration["uri"]
        function = self._function(name, target).logical_id
        model = model_of(f"route {name}", operation, api)
        method, resource = name.split(" ", 1)
        return Route(method, resource, function, security == _SIGNED, model)

    def _function(self, where: str, reference: str) -> Function:
        """The function with this ARN or name, or whose alias it is; a version is another thing."""
        for function in self._functions.values():
            if reference in {function.arn, function.name, *self._aliases(function)}:
                return function
        known = ", ".join(function.name for function in self._functions.values())
        msg = f"{where}: it invokes {reference!r}; expected one of {known}"
        raise NotEmulated(msg)

    def _aliases(self, function: Function) -> Iterator[str]:
        """ARNs of a function's aliases."""
        for logical_id, resource in self._resources.items():
            named = resource.get("Properties", {}).get("FunctionName")
            if resource["Type"] == "AWS::Lambda::Alias" and named == {"Ref": function.logical_id}:
                yield self._resolver.name(logical_id)


_SIGNED: list[Any] = [{"AWS_IAM": []}]
_OPEN: tuple[list[Any], ...] = ([], [{"NONE": []}])
_API_PARTS = frozenset({"info", "paths", "openapi", "components", VALIDATORS})
_ROUTE_PARTS = frozenset(
    {"x-amazon-apigateway-integration", "security", "responses", "parameters"}
    | {"requestBody", VALIDATOR}
)
