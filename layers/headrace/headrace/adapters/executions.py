"""Executions of a state machine: started, and looked at until they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING, SUCCEEDED = "RUNNING", "SUCCEEDED"


class Execution(NamedTuple):
    """How far an execution is.

    Attributes:
        status: As Step Functions says it.
        done: Label of each map that has begun -> items done, and items in all.
        output: Of one that succeeded, JSON.
        failure: Why one did not succeed.
    """

    status: str
    done: dict[str, tuple[int, int]]
    output: str
    failure: str


class StateMachine:
    """One state machine.

    Args:
        client: Of Step Functions.
        arn: The state machine's.
    """

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self._arn = client, arn

    def start(self, order: Mapping[str, Any]) -> str:
        """Start an execution; its ARN. Named here, so that a request that is repeated starts one.

        Raises:
            Unavailable: Step Functions did not take it.
        """
        text = msgspec.json.encode(order).decode()
        try:
            told = self._client.start_execution(
                stateMachineArn=self._arn, name=uuid4().hex, input=text
            )
        except AWS_ERRORS as error:
            msg = f"{self._arn} cannot be started: {error_code(error)}: {error}"
            raise Unavailable(msg) from error
        return str(told["executionArn"])

    def look(self, execution: str) -> Execution:
        """How far an execution is.

        Raises:
            Unavailable: Step Functions did not tell.
        """
        try:
            told = self._client.describe_execution(executionArn=execution)
            runs = self._client.list_map_runs(executionArn=execution)["mapRuns"]
            counts = {_label(each["mapRunArn"]): self._counts(each["mapRunArn"]) for each in runs}
        except AWS_ERRORS as error:
            msg = f"{execution} cannot be described: {error_code(error)}: {error}"
            raise Unavailable(msg) from error
        failure = ": ".join(told[name] for name in ("error", "cause") if told.get(name))
        return Execution(told["status"], counts, told.get("output", ""), failure)

    def _counts(self, run: str) -> tuple[int, int]:
        counts = self._client.describe_map_run(mapRunArn=run)["itemCounts"]
        return counts["succeeded"], counts["total"]


def _label(run: str) -> str:
    """Of the ARN of a map run, which is arn:...:mapRun:machine/Label:id."""
    return run.rpartition(":")[0].rpartition("/")[2]
