"""What the batch function may be told, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.adapters.runs import decode_order
from headrace.errors import RunRejected
from headrace.events import time_to_us
from headrace.runs import MAX_SEGMENTS, Order, Start, Step, Trigger
from tests.fakes import HOUR, NOON

AT = time_to_us(datetime(2025, 5, 1, 3, tzinfo=UTC))
SCHEDULED = {
    "version": "0",
    "id": "89d1a02d-5ec7-412e-82f5-13505f849b41",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2025-05-01T03:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/nightly"],
    "detail": {},
}
# As in the CloudWatch User Guide, "Alarm events and EventBridge", shortened.
ALARMED = {
    "version": "0",
    "id": "2dde0eb1-528b-d2d5-9ca6-6d590caf2329",
    "detail-type": "CloudWatch Alarm State Change",
    "source": "aws.cloudwatch",
    "account": "123456789012",
    "time": "2025-05-01T03:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:headrace-PriorRung"],
    "detail": {
        "alarmName": "headrace-PriorRung",
        "state": {"value": "ALARM", "timestamp": "2025-05-01T03:00:00.000+0000"},
        "previousState": {"value": "OK"},
    },
}


@pytest.mark.parametrize(
    ("event", "order"),
    [
        (SCHEDULED, Order(Step.RUN, Start(AT, Trigger.SCHEDULE))),
        (ALARMED, Order(Step.RUN, Start(AT, Trigger.DEMAND))),
        ({}, Order(Step.RUN, Start(None))),
        ({"as_of": "2025-05-01T05:00:00+02:00"}, Order(Step.RUN, Start(AT))),
        (
            {"as_of": "2025-05-01T03:00:00Z", "segment": 2, "segments": 16},
            Order(Step.PART, Start(AT), 16, 2),
        ),
        (
            {
                "as_of": "2025-05-01T03:00:00Z",
                "segments": 16,
                "step": "open",
                "trigger": "schedule",
            },
            Order(Step.OPEN, Start(AT, Trigger.SCHEDULE), 16),
        ),
        (
            {"as_of": "2025-05-01T03:00:00Z", "segments": 1, "step": "close"},
            Order(Step.CLOSE, Start(AT), 1),
        ),
    ],
)
def test_order_is_read(event: dict[str, Any], order: Order) -> None:
    assert decode_order(event, NOON) == order


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"as_of": "2025-05-01"}, "as_of: got '2025-05-01'; expected ISO 8601 with a UTC offset"),
        ({"as_of": 17}, "as_of: got 17; expected ISO 8601"),
        ({"as_of": "2025-05-01T14:00:00Z"}, "over an hour ahead; expected a time that has come"),
        ({"segment": 16}, "segment: got 16; expected a whole number, 0 to 15"),
        ({"segment": -1}, "segment: got -1; expected a whole number"),
        ({"segment": True}, "segment: got True; expected a whole number"),
        ({"segment": "2"}, "segment: got '2'; expected a whole number"),
        ({"segments": 0}, "segments: got 0; expected a whole number, 1 to 1,000"),
        ({"segments": MAX_SEGMENTS + 1}, "segments: got 1001; expected"),
        ({"segments": None}, "segments: not given; a run in parts needs it"),
        ({"as_of": None}, "as_of: not given; a run in parts needs it"),
        ({"trigger": "cron"}, "trigger: got 'cron'; expected schedule or demand"),
        ({"trigger": ["demand"]}, "trigger: got ['demand']; expected schedule or demand"),
        ({"step": {}}, "step: got {}; expected open or close, and no segment"),
        ({"step": "begin"}, "step: got 'begin'; expected open or close, and no segment"),
        ({"step": "open"}, "step: got 'open'; expected open or close, and no segment"),
    ],
)
def test_order_that_cannot_be_done_is_refused_with_what_was_expected(
    change: dict[str, Any], told: str
) -> None:
    event = {"as_of": "2025-05-01T03:00:00Z", "segment": 2, "segments": 16, **change}
    with pytest.raises(RunRejected) as refused:
        decode_order(event, NOON)
    assert told in str(refused.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(RunRejected) as refused:
        decode_order({"as_of": "now", "segment": "x", "segments": -3}, NOON)
    assert [each.split(":")[0] for each in refused.value.mistakes] == [
        "as_of", "segments", "segment",
    ]  # fmt: skip


def test_clock_of_the_sender_may_be_a_little_ahead() -> None:
    order = decode_order({"as_of": "2025-05-01T12:59:59Z"}, NOON)
    assert order.start.as_of is not None
    assert NOON < order.start.as_of < NOON + HOUR
