"""Score on schedule every entity that real time has not scored lately: the fallback path."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headrace import bootstrap
from headrace.adapters.telemetry import logger, metrics, note_run
from headrace.errors import RunUnfinished
from headrace.events import time_to_us

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_MS = 30_000
"""Time kept back to finish a page and to note how far the run has come."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A scheduled event in; the run's report out.

    Raises:
        RunUnfinished: So that Lambda invokes again, and the run goes on.
    """
    time = event.get("time")
    as_of = time_to_us(datetime.fromisoformat(time)) if time else bootstrap.now()
    progress = bootstrap.batch_scorer().run(
        as_of, lambda: context.get_remaining_time_in_millis() > RESERVE_MS
    )
    note_run(progress)
    if not progress.complete:
        msg = f"run as of {progress.as_of} stopped in segment {progress.segment}; it will go on"
        raise RunUnfinished(msg)
    report: dict[str, Any] = msgspec.to_builtins(progress)
    return report
