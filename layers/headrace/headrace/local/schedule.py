"""EventBridge schedules: when a rate or cron expression fires next, and the event that it sends."""

from __future__ import annotations

import calendar
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headrace.local import NotEmulated
from headrace.local.intrinsics import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.local.resources import Schedule

_RATE = re.compile(r"rate\((?P<value>[1-9][0-9]*) (?P<unit>minute|hour|day)(?P<plural>s?)\)")
_CRON = re.compile(r"cron\((?P<fields>[^()]+)\)")
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>[1-9][0-9]*))?")
_MONTHS = {name.upper(): at for at, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {
    name: at for at, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], start=1)
}
_LAST_YEAR = 2199


def scheduled_event(schedule: Schedule, as_of: datetime) -> dict[str, Any]:
    """What EventBridge sends for a scheduled rule; its time has whole seconds.

    Source: Amazon EventBridge User Guide, "Creating a rule that runs on a schedule".
    """
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": f"{as_of.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [schedule.arn],
        "detail": {},
    }


def next_run(expression: str, after: datetime) -> datetime:
    """When a schedule fires next.

    Args:
        expression: Such as ``rate(1 day)`` or ``cron(15 10 ? * 6L 2019-2022)``, in UTC.
        after: The last time; for a rate, or when the rule was made.

    Raises:
        NotEmulated: It is no expression of EventBridge, or it never fires again.

    Example:
        >>> next_run("rate(5 minutes)", datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
        '2026-01-01T00:05:00+00:00'
        >>> next_run("cron(0 3 ? * MON-FRI *)", datetime(2026, 1, 2, 4, tzinfo=UTC)).isoformat()
        '2026-01-05T03:00:00+00:00'

    Source: Amazon EventBridge User Guide, "Cron expressions" and "Rate expressions".
    """
    rate = _RATE.fullmatch(expression)
    if rate and (rate["value"] == "1") == (rate["plural"] == ""):
        return after + timedelta(**{rate["unit"] + "s": int(rate["value"])})
    cron = _CRON.fullmatch(expression)
    if cron:
        return _Cron.parse(expression, cron["fields"].split()).next_run(after.astimezone(UTC))
    raise _wrong(expression, "rate(1 day), rate(5 minutes) or cron(0 3 * * ? *)")


def _wrong(expression: str, expected: str) -> NotEmulated:
    return NotEmulated(f"schedule {expression!r}: expected {expected}")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a cron expression and what it may hold."""

    expression: str
    text: str
    least: int
    most: int
    names: Mapping[str, int]

    def values(self) -> frozenset[int]:
        return frozenset(value for part in self.text.split(",") for value in self._range(part))

    def _range(self, part: str) -> range:
        found = _PART.fullmatch(part)
        if found is None:
            raise self._refused(part)
        everything = found["first"] == "*"
        first = self.least if everything else self.value(found["first"])
        last = first
        if found["last"]:
            last = self.value(found["last"])
        elif everything or found["step"]:
            last = self.most
        if last < first:
            raise self._refused(part)
        return range(first, last + 1, int(found["step"] or 1))

    def value(self, text: str) -> int:
        value = self.names.get(text.upper(), -1)
        if text.isdecimal():
            value = int(text)
        if not self.least <= value <= self.most:
            raise self._refused(text)
        return value

    def _refused(self, got: str) -> NotEmulated:
        return _wrong(self.expression, f"{self.least} to {self.most} where {got!r} stands")


@dataclass(frozen=True, slots=True)
class _Cron:
    """A parsed expression; one of the two kinds of day is ``?``."""

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: _Field
    months: frozenset[int]
    weekdays: _Field
    years: frozenset[int]

    @classmethod
    def parse(cls, expression: str, fields: list[str]) -> _Cron:
        if len(fields) != _FIELDS or (fields[2] == "?") == (fields[4] == "?"):
            raise _wrong(expression, "six fields, with ? as either day-of-month or day-of-week")

        def field(at: int, least: int, most: int, names: Mapping[str, int]) -> _Field:
            return _Field(expression, fields[at], least, most, names)

        return cls(
            expression,
            tuple(sorted(field(0, 0, 59, {}).values())),
            tuple(sorted(field(1, 0, 23, {}).values())),
            field(2, 1, 31, {}),
            field(3, 1, 12, _MONTHS).values(),
            field(4, 1, 7, _WEEKDAYS),
            field(5, 1970, _LAST_YEAR, {}).values(),
        )

    def next_run(self, after: datetime) -> datetime:
        for day in self._days_from(after.date()):
            for hour in self.hours:
                for minute in self.minutes:
                    run = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                    if run > after:
                        return run
        raise _wrong(self.expression, f"a time after {after.isoformat()}; it never fires again")

    def _days_from(self, first: date) -> Iterator[date]:
        for year in sorted(year for year in self.years if year >= first.year):
            for month in sorted(self.months):
                yield from (day for day in self._days_of(year, month) if day >= first)

    def _days_of(self, year: int, month: int) -> list[date]:
        length = calendar.monthrange(year, month)[1]
        whole = [date(year, month, day) for day in range(1, length + 1)]
        if self.weekdays.text == "?":
            return [day for day in whole if day.day in self._days_of_month(whole)]
        return [day for day in whole if day.day in self._days_by_weekday(whole)]

    def _days_of_month(self, whole: list[date]) -> frozenset[int]:
        if self.days.text == "L":
            return frozenset({len(whole)})
        if self.days.text.endswith("W"):
            wanted = self.days.value(self.days.text[:-1])
            return frozenset({_nearest_weekday(whole, wanted)} if wanted <= len(whole) else ())
        return self.days.values()

    def _days_by_weekday(self, whole: list[date]) -> frozenset[int]:
        text = self.weekdays.text
        if "#" in text:
            name, which = text.split("#", 1)
            same = [day.day for day in whole if _weekday(day) == self.weekdays.value(name)]
            at = int(which) if which in {"1", "2", "3", "4", "5"} else 0
            if not at:
                raise _wrong(self.expression, f"1 to 5 after # where {text!r} stands")
            return frozenset(same[at - 1 : at])
        if text.endswith("L") and text != "L":
            same = [day.day for day in whole if _weekday(day) == self.weekdays.value(text[:-1])]
            return frozenset(same[-1:])
        wanted = frozenset({_WEEKDAYS["SAT"]}) if text == "L" else self.weekdays.values()
        return frozenset(day.day for day in whole if _weekday(day) in wanted)


_FIELDS = 6
_SATURDAY, _SUNDAY = 5, 6


def _weekday(day: date) -> int:
    """Sunday is 1."""
    return (day.weekday() + 1) % 7 + 1


def _nearest_weekday(whole: list[date], wanted: int) -> int:
    """Monday to Friday nearest to a day, in the same month."""
    at = whole[wanted - 1].weekday()
    if at == _SATURDAY:
        return wanted - 1 if wanted > 1 else wanted + 2
    if at == _SUNDAY:
        return wanted + 1 if wanted < len(whole) else wanted - 2
    return wanted
