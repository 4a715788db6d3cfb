"""What Powertools' decorators do for a function, paid for where there is something to tell.

Of most requests no line is written and no metric told, but the decorators put the context together,
search the event and flush each time. May import api and telemetry.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST

from headrace.adapters.api import problem_of
from headrace.adapters.telemetry import logger, metrics
from headrace.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headrace.adapters.api import Answer
    from headrace.errors import HeadraceError

    Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


@logger.inject_lambda_context(clear_state=True, correlation_id_path=API_GATEWAY_REST)
def _describe(event: dict[str, Any], context: LambdaContext) -> None:
    """Let every line that follows say which invocation it is of."""


class _FirstLine(logging.Filter):
    """Describes an invocation when the first line of it is written; lets all lines through."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: tuple[dict[str, Any], LambdaContext] | None = None
        self._begun = False

    def begin(self, event: dict[str, Any], context: LambdaContext) -> None:
        """Another invocation."""
        if self._begun and not logger.sampling_rate:
            self._waiting = event, context
        else:  # the first one has to be told from the others, and a sample drawn for each
            self._begun, self._waiting = True, None
            _describe(event, context)

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            _describe(*waiting)
        return True


_first_line = _FirstLine()
logger.addFilter(_first_line)


def observed(handler: Handler) -> Handler:
    """A handler of API Gateway's requests with its log lines and metrics.

    Lines have the keys of ``Logger.inject_lambda_context`` and the request's id as correlation id;
    metrics are told at the end, also where the handler fails.
    """

    @wraps(handler)
    def observe(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        _first_line.begin(event, context)
        try:
            return handler(event, context)
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    return observe


def refusal(error: HeadraceError) -> Answer:
    """Problem details of an error that was caught, and a line of one that is the operator's."""
    if isinstance(error, Misconfigured):
        logger.exception("misconfigured")
    return problem_of(error)
