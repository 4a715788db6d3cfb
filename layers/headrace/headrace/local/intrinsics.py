"""CloudFormation's intrinsic functions, for as much as local mode needs of them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.local import NotEmulated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ACCOUNT = "123456789012"
REGION = "us-east-1"

_ABSENT = object()  # what Ref AWS::NoValue leaves: its key or list entry goes
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")


@dataclass(frozen=True, slots=True)
class _Naming:
    name_property: str
    arn: str


_NAMINGS: Mapping[str, _Naming] = {
    "AWS::Lambda::Function": _Naming(
        "FunctionName", "arn:aws:lambda:{region}:{account}:function:{name}"
    ),
    "AWS::Kinesis::Stream": _Naming("Name", "arn:aws:kinesis:{region}:{account}:stream/{name}"),
    "AWS::DynamoDB::Table": _Naming(
        "TableName", "arn:aws:dynamodb:{region}:{account}:table/{name}"
    ),
    "AWS::S3::Bucket": _Naming("BucketName", "arn:aws:s3:::{name}"),
    "AWS::Events::Rule": _Naming("Name", "arn:aws:events:{region}:{account}:rule/{name}"),
    "AWS::ApiGateway::RestApi": _Naming("", "arn:aws:apigateway:{region}::/restapis/{name}"),
    "AWS::Logs::LogGroup": _Naming(
        "LogGroupName", "arn:aws:logs:{region}:{account}:log-group:{name}:*"
    ),
    "AWS::Lambda::EventSourceMapping": _Naming(
        "", "arn:aws:lambda:{region}:{account}:event-source-mapping:{name}"
    ),
}


class Resolver:
    """Replaces intrinsic functions in a plain CloudFormation template by their values."""

    def __init__(
        self, template: Mapping[str, Any], parameters: Mapping[str, str], stack_name: str
    ) -> None:
        self._resources: Mapping[str, Any] = template.get("Resources", {})
        self._conditions: Mapping[str, Any] = template.get("Conditions", {})
        self._values = parameter_values(template, parameters) | {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": _ABSENT,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackName": stack_name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        self._stack_name = stack_name
        self._functions: Mapping[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::If": self._if,
            "Condition": self.condition,
            # As text, as CloudFormation does: a given parameter is text where its default is not.
            "Fn::Equals": lambda pair: str(self.resolve(pair[0])) == str(self.resolve(pair[1])),
            "Fn::Not": lambda one: not self.resolve(one[0]),
            "Fn::And": lambda some: all(self.resolve(each) for each in some),
            "Fn::Or": lambda some: any(self.resolve(each) for each in some),
        }

    def resolve(self, value: Any) -> Any:
        """Value with every intrinsic function replaced, at any depth."""
        if isinstance(value, dict):
            return self._resolve_mapping(value)
        if isinstance(value, list):
            resolved = [self.resolve(each) for each in value]
            return [each for each in resolved if each is not _ABSENT]
        return value

    def condition(self, name: str) -> bool:
        """Whether the named condition holds."""
        if name not in self._conditions:
            msg = f"condition {name!r}: the template does not define it"
            raise NotEmulated(msg)
        return bool(self.resolve(self._conditions[name]))

    def name(self, logical_id: str) -> str:
        """Physical name that local mode gives a resource."""
        properties = self._resources[logical_id].get("Properties", {})
        if self._resources[logical_id]["Type"] == "AWS::Lambda::Alias":
            return self._alias_arn(properties)
        naming = self._naming(logical_id)
        if naming.name_property in properties:
            return str(self.resolve(properties[naming.name_property]))
        if self._resources[logical_id]["Type"] == "AWS::Lambda::EventSourceMapping":
            return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._stack_name}/{logical_id}"))
        name = f"{self._stack_name}-{logical_id}"
        needs_lower = self._resources[logical_id]["Type"] == "AWS::S3::Bucket"
        return name.lower() if needs_lower else name

    def _alias_arn(self, properties: Mapping[str, Any]) -> str:
        """What a reference to an alias gives: its ARN, which is its function's with its name."""
        function, alias = properties["FunctionName"]["Ref"], properties["Name"]
        return f"{self.arn(function)}:{self.resolve(alias)}"

    def arn(self, logical_id: str) -> str:
        """ARN that local mode gives a resource."""
        template = self._naming(logical_id).arn
        return template.format(region=REGION, account=ACCOUNT, name=self.name(logical_id))

    def _naming(self, logical_id: str) -> _Naming:
        kind = self._resources[logical_id]["Type"]
        if kind not in _NAMINGS:
            msg = (
                f"resource {logical_id}: local mode does not know what a reference to {kind} gives"
            )
            raise NotEmulated(msg)
        return _NAMINGS[kind]

    def _resolve_mapping(self, value: dict[str, Any]) -> Any:
        name = next(iter(value), "")
        if len(value) == 1 and (name in self._functions or name.startswith("Fn::")):
            if name not in self._functions:
                known = ", ".join(sorted(self._functions))
                msg = f"intrinsic function {name}: local mode does not know it; expected {known}"
                raise NotEmulated(msg)
            return self._functions[name](value[name])
        resolved = {key: self.resolve(each) for key, each in value.items()}
        return {key: each for key, each in resolved.items() if each is not _ABSENT}

    def _ref(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        self._require_resource(name)
        return self.name(name)

    def _get_att(self, path: list[str] | str) -> str:
        logical_id, attribute = path.split(".", 1) if isinstance(path, str) else path
        self._require_resource(logical_id)
        if attribute != "Arn":
            msg = f"{logical_id}.{attribute}: local mode knows the attribute Arn only"
            raise NotEmulated(msg)
        return self.arn(logical_id)

    def _sub(self, value: str | list[Any]) -> str:
        text, local = (value, {}) if isinstance(value, str) else value
        return _PLACEHOLDER.sub(lambda found: self._placeholder(found, local), text)

    def _placeholder(self, found: re.Match[str], local: Mapping[str, Any]) -> str:
        literal, name = found.groups()
        if literal:
            return f"${{{name}}}"
        if name in local:
            return str(self.resolve(local[name]))
        return str(self._get_att(name) if "." in name else self._ref(name))

    def _join(self, value: list[Any]) -> str:
        return str(value[0]).join(str(each) for each in self.resolve(value[1]))

    def _if(self, value: list[Any]) -> Any:
        return self.resolve(value[1] if self.condition(value[0]) else value[2])

    def _require_resource(self, name: str) -> None:
        if name not in self._resources:
            msg = f"reference to {name!r}: no such parameter or resource in the template"
            raise NotEmulated(msg)


def parameter_values(template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Value of every parameter of a template: what was given, else its default.

    Raises:
        NotEmulated: A given parameter does not exist, or one without default was not given.
    """
    declared: Mapping[str, Any] = template.get("Parameters", {})
    for name in parameters.keys() - declared.keys():
        msg = f"parameter {name!r}: expected one of {', '.join(sorted(declared))}"
        raise NotEmulated(msg)
    values = {name: parameters.get(name, each.get("Default")) for name, each in declared.items()}
    for name, value in values.items():
        if value is None:
            msg = f"parameter {name!r}: it has no default; expected a value"
            raise NotEmulated(msg)
    return values
