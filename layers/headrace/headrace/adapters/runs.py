"""What the batch function is told: by a schedule, an alarm, the state machine or a person."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from headrace.errors import RunRejected
from headrace.events import microseconds, time_to_us
from headrace.runs import MAX_SEGMENTS, Order, Start, Step, Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEDULED = "Scheduled Event"
_AHEAD = microseconds(timedelta(hours=1))


def decode_order(event: Mapping[str, Any], now: int) -> Order:
    """Read an event; keys that it does not know are left alone, as EventBridge sends many.

    ``time`` or ``as_of`` says which run, ``trigger`` what asks for it (a scheduled rule's own event
    says so itself). ``segment`` and ``segments`` name one part, ``segments`` and ``step`` the
    beginning or the end of a run in parts.

    Args:
        event: What the function is invoked with.
        now: Microseconds UTC.

    Raises:
        RunRejected: With every mistake.
    """
    mistakes: list[str] = []
    scheduled = event.get("detail-type") == _SCHEDULED
    given = event.get("trigger", Trigger.SCHEDULE if scheduled else Trigger.DEMAND)
    if given not in list(Trigger):
        mistakes.append(f"trigger: got {given!r}; expected {' or '.join(Trigger)}")
    as_of = _as_of(event, now, mistakes)
    step = _step(event, mistakes)
    segments = _number(event, "segments", (1, MAX_SEGMENTS), mistakes)
    most = (segments or MAX_SEGMENTS) - 1
    segment = _number(event, "segment", (0, most), mistakes)
    if step is not Step.RUN and not mistakes:
        needed = {"as_of": as_of, "segments": segments}
        mistakes += [
            f"{key}: not given; a run in parts needs it" for key in needed if needed[key] is None
        ]
    if mistakes:
        raise RunRejected(mistakes)
    if step is Step.RUN:
        segments = None  # the function cuts a run that it does alone by itself
    return Order(step, Start(as_of, Trigger(given)), segments, segment)


def _step(event: Mapping[str, Any], mistakes: list[str]) -> Step:
    if "step" not in event:
        return Step.PART if "segment" in event else Step.RUN
    given = event["step"]
    if given not in [Step.OPEN, Step.CLOSE] or "segment" in event:
        mistakes.append(f"step: got {given!r}; expected open or close, and no segment")
        return Step.RUN
    return Step(given)


def _as_of(event: Mapping[str, Any], now: int, mistakes: list[str]) -> int | None:
    key = "as_of" if "as_of" in event else "time"
    given = event.get(key)
    if given is None:
        return None
    try:
        time = datetime.fromisoformat(given)
        as_of = time_to_us(time)
    except (TypeError, ValueError):
        expected = "ISO 8601 with a UTC offset, such as '2026-05-01T03:00:00Z'"
        mistakes.append(f"{key}: got {given!r}; expected {expected}")
        return None
    if key == "as_of" and as_of > now + _AHEAD:
        # No run before that time would be taken any more.
        mistakes.append(f"{key}: got {given!r}, over an hour ahead; expected a time that has come")
    return as_of


def _number(
    event: Mapping[str, Any], key: str, bounds: tuple[int, int], mistakes: list[str]
) -> int | None:
    given = event.get(key)
    if given is None:
        return None
    least, most = bounds
    if type(given) is not int or not least <= given <= most:
        mistakes.append(f"{key}: got {given!r}; expected a whole number, {least} to {most:,}")
        return None
    return given
