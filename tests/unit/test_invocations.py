"""Lines and metrics of invocations: described and told where there is something to tell."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.metrics import MetricUnit

from headrace.adapters.invocations import observed
from headrace.adapters.telemetry import logger, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """Lines as they are printed."""
    lines: list[dict[str, Any]] = []
    formatter = logger.registered_formatter

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(formatter.format(record)))

    handler = Keep()
    logger.addHandler(handler)
    yield lines
    logging.getLogger(logger.service).removeHandler(handler)


def invoke(handler: Any, number: int) -> Any:
    context = SimpleNamespace(
        function_name="function",
        memory_limit_in_mb=1769,
        invoked_function_arn="arn",
        aws_request_id=f"invocation-{number}",
    )
    return handler({"requestContext": {"requestId": f"request-{number}"}}, context)


def test_lines_say_which_request_they_are_of_however_many_went_without(
    told: list[dict[str, Any]],
) -> None:
    @observed
    def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        if context.aws_request_id in ("invocation-3", "invocation-5"):
            logger.warning("first", extra={"own": 1})
            logger.append_keys(kept="until the end")
            logger.warning("second")
        return {}

    for number in range(7):
        assert invoke(lambda_handler, number) == {}
    assert [(line["message"], line["correlation_id"]) for line in told] == [
        (message, f"request-{number}") for number in (3, 5) for message in ("first", "second")
    ]
    assert [line["function_request_id"] for line in told[::2]] == ["invocation-3", "invocation-5"]
    assert [line["cold_start"] for line in told] == [False] * 4
    assert [line.get("kept") for line in told] == [None, "until the end"] * 2
    assert told[0]["own"] == 1


def test_metrics_are_told_where_there_are_any_and_where_the_handler_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    @observed
    def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        number = int(context.aws_request_id[-1])
        if number:
            metrics.add_metric("Met", MetricUnit.Count, number)
        if number > 1:
            raise RuntimeError
        return {}

    metrics.clear_metrics()
    invoke(lambda_handler, 0)
    assert capfd.readouterr().out == ""
    invoke(lambda_handler, 1)
    with pytest.raises(RuntimeError):
        invoke(lambda_handler, 2)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["Met"] for line in lines] == [[1.0], [2.0]]
