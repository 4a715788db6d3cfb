"""`headrace backfill --on aws`: starts the state machine of infra/backfill.yaml and waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.adapters import aws
from headrace.adapters.cloudformation import stack_output
from headrace.adapters.executions import RUNNING, SUCCEEDED, StateMachine
from headrace.adapters.objects import split
from headrace.cli.terminal import err, fail
from headrace.offline.backfill_cloud import Report

if TYPE_CHECKING:
    from headrace.adapters.executions import Execution
    from headrace.offline.backfill_plan import Order

TEMPLATE = "infra/backfill.yaml"
_OUTPUT = "BackfillStateMachineArn"
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 10.0
_BACK_OFF = 1.5


def backfill_on_aws(stack: str, order: Order, concurrency: int) -> dict[str, Any]:
    """Run a backfill of a deployed stack to its end; its report as of one on this machine.

    Raises:
        Misconfigured: An address is none of S3, or the stack is another one.
        Unavailable: AWS did not take it or did not tell.
    """
    for uri in filter(None, (order.events, order.labels, order.out)):
        split(uri)
    arn = stack_output(aws.client, stack, _OUTPUT, TEMPLATE)
    machine = StateMachine(aws.client("stepfunctions"), arn)
    execution = machine.start({"order": order, "concurrency": concurrency})
    err.print(f"Started {execution}; it goes on if you leave.", highlight=False, soft_wrap=True)
    found = _ended(machine, execution)
    if found.status != SUCCEEDED:
        fail(
            f"{found.status}: {found.failure or 'no reason was told'}; once the cause is mended, "
            f"what was done stays done: aws stepfunctions redrive-execution "
            f"--execution-arn {execution}"
        )
    report = msgspec.json.decode(found.output, type=Report)
    return {**msgspec.to_builtins(report), "differences": {}}


def _ended(machine: StateMachine, execution: str) -> Execution:
    seconds = _FIRST_SECONDS
    with err.status("Plan") as status:
        while (found := machine.look(execution)).status == RUNNING:
            told = [f"{label} {done:,} of {all_:,}" for label, (done, all_) in found.done.items()]
            status.update(", ".join(told) or "Plan")
            time.sleep(seconds)
            seconds = min(seconds * _BACK_OFF, _LONGEST_SECONDS)
    return found
