"""Load the newest files of the definition's tables: batch features, on a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import table_bootstrap
from headrace.adapters.telemetry import logger, metrics, note_loads
from headrace.errors import LoadUnfinished
from headrace.table_load import LoadEnd

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_MS = 30_000
"""Time kept back to finish a chunk of rows and to note how far the load has come."""


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """A scheduled event in, which says nothing; how each table's load ended out.

    Raises:
        LoadUnfinished: So that Lambda invokes again: cut loads go on, failed ones are tried again.
    """
    loads = table_bootstrap.table_loader().run(
        lambda: context.get_remaining_time_in_millis() > RESERVE_MS
    )
    note_loads(loads)
    undone = [each for each in loads if each.end in {LoadEnd.UNFINISHED, LoadEnd.FAILED}]
    if undone:
        told = (f"{each.table}: {each.error or 'time ran out; it will go on'}" for each in undone)
        raise LoadUnfinished("; ".join(told))
    return {each.table: str(each.end) for each in loads}
