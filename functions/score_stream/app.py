"""Score Kinesis events; a failed batch is retried from its first unprocessed record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import bootstrap
from headrace.adapters.kinesis import decode_records, failures
from headrace.adapters.telemetry import logger, metrics, note_outcome

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Kinesis records in; the sequence number of the first failure, if any, out."""
    outcome = bootstrap.stream_scorer().score(decode_records(event))
    note_outcome(outcome)
    return failures(outcome)
