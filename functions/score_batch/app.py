"""Score every entity that real time will not keep fresh until the next run: the fallback path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace import bootstrap
from headrace.adapters.runs import decode_order
from headrace.adapters.telemetry import logger, metrics, note_run
from headrace.batch import End
from headrace.errors import RunUnfinished

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_MS = 30_000
"""Time kept back to finish a page and to note how far the run has come."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """What is to be run in; how it ended, and the report of the run or part, out.

    Raises:
        RunRejected: The event says what cannot be done.
        RunUnfinished: So that Lambda or the state machine invokes again, and the run goes on.
    """
    order = decode_order(event, bootstrap.now())
    ran = bootstrap.batch_scorer().obey(
        order, lambda: context.get_remaining_time_in_millis() > RESERVE_MS
    )
    note_run(order, ran)
    if ran.end is End.UNFINISHED and not order.sums_up:
        raise RunUnfinished(ran.error or "time ran out; the run will go on where it stopped")
    report = {} if ran.report is None else msgspec.to_builtins(ran.report)
    return {"end": str(ran.end), **report}


bootstrap.begin(bootstrap.batch_scorer)
