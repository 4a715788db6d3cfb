"""What a deployed stack says of itself: the names that its functions have in their environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_OUTPUTS = {
    "HEADRACE_STATE_TABLE": "StateTableName",
    "HEADRACE_FEATURE_TABLE": "FeatureTableName",
    "HEADRACE_SCORE_TABLE": "ScoreTableName",
    "HEADRACE_QUARANTINE_BUCKET": "QuarantineBucketName",
    "HEADRACE_STREAM": "StreamName",
}
_PARAMETERS = {"HEADRACE_SCORE_RETENTION_DAYS": "ScoreRetentionDays"}


def stack_environment(client: Callable[[str], Any], name: str) -> dict[str, str]:
    """Variables of a stack that was deployed from template.yaml, from its outputs and parameters.

    Args:
        client: Makes a client of an AWS service, by its name.
        name: The stack's name.

    Raises:
        Unavailable: CloudFormation did not tell: no such stack, no credentials, no permission.
        SettingsError: The stack lacks an output.
    """
    outputs, given = _described(client, name)
    lacking = sorted(set(_OUTPUTS.values()) - outputs.keys())
    if lacking:
        msg = f"stack {name!r}: no outputs {', '.join(lacking)}; expected a stack of template.yaml"
        raise SettingsError(msg)
    return {variable: outputs[output] for variable, output in _OUTPUTS.items()} | {
        variable: given[parameter]
        for variable, parameter in _PARAMETERS.items()
        if parameter in given
    }


def stack_output(client: Callable[[str], Any], name: str, output: str, template: str) -> str:
    """One output of a stack.

    Args:
        client: Makes a client of an AWS service, by its name.
        name: The stack's name.
        output: The output's.
        template: File that a stack with this output is deployed from.

    Raises:
        Unavailable: See ``stack_environment``.
        SettingsError: The stack has no such output.
    """
    outputs, _ = _described(client, name)
    if output not in outputs:
        msg = f"stack {name!r}: no output {output}; expected a stack of {template}"
        raise SettingsError(msg)
    return outputs[output]


def _described(client: Callable[[str], Any], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Outputs and parameters of a stack."""
    try:
        (stack,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except AWS_ERRORS as error:
        msg = f"stack {name!r} cannot be described: {error_code(error)}: {error}"
        raise Unavailable(msg) from error
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    return outputs, given
