"""Score Kinesis events; a failed batch is retried from its first unprocessed record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import bootstrap
from headrace.adapters.kinesis import decode_records, failures
from headrace.adapters.telemetry import logger, metrics, note_outcome, note_records

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_MS = 20_000
"""Time that a portion of a batch must have; with less, the rest is left for the next delivery."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Kinesis records in; the sequence number of the first failure, if any, out."""
    left_ms = context.get_remaining_time_in_millis
    reserve_ms = min(RESERVE_MS, left_ms() // 2)
    records = decode_records(event)
    note_records(records)
    outcome = bootstrap.stream_scorer().score(records, lambda: left_ms() > reserve_ms)
    note_outcome(outcome)
    return failures(outcome)


bootstrap.begin(bootstrap.stream_scorer)
