"""Holds what comes against what training saw: unit changes, constant sensors, lost fields.

A watch looks at the last hour of one function instance. It only reports: what else an instance
has seen must not decide what becomes of a single event, or scores could not be computed again
and state would depend on where batches are cut. May import reference and events.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from itertools import groupby
from math import exp, lgamma, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

from headrace.reference import LEVELS, FieldReference, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.events import Event

BIN_US = 300_000_000
BINS = 12
_UNITS = (100.0, 1_000.0, 60.0, 3_600.0, 10.0, 1_000_000.0, 1.609344, 2.20462, 3.28084)
FACTORS = tuple(factor for unit in _UNITS for factor in (unit, 1 / unit))
"""What units differ by, the likeliest first: cents, decimal prefixes, minutes, miles, pounds."""

LEVEL = 1e-6
"""How improbable what is seen must be, were it as in training. A field is looked at every five
minutes, 105,000 times a year: one false alarm in ten years of a field and kind."""

LEAST_SHARE = 0.01
"""Smaller shares are not worth an alarm, however certain."""

PORTION, PORTION_US = 500, 10_000_000
"""What a sparse watch looks at together: so many events, or those of so many microseconds."""

LEAST_RATIO = 3.0
_LEAST_EVENTS = 50
_LOW, _HIGH = LEVELS.index(0.001), LEVELS.index(0.999)
_BULK = LEVELS.index(0.01), LEVELS.index(0.99)
_CENTRE = LEVELS.index(0.25), LEVELS.index(0.75)
_TAIL = 0.001


class Kind(StrEnum):
    """What can be wrong with a field as a whole."""

    UNIT_CHANGE = "unit_change"  # values are off by a factor that units differ by
    OUT_OF_RANGE = "out_of_range"  # more values than usual lie outside of what training saw
    CONSTANT = "constant"  # one value only, where there used to be many
    MISSING = "missing"  # the field is absent more often than in training
    INVALID = "invalid"  # it breaks its type or bounds more often


class Finding(NamedTuple):
    """A field is not as it was in training.

    Attributes:
        field: Its name.
        kind: What is wrong.
        since: Arrival time of the events that showed it first, microseconds UTC.
        events: Events in the hour that was looked at.
        share: Share of them that it concerns.
        expected: The share in training.
        factor: For unit changes, what the values are likely off by, as far as these few say.
    """

    field: str
    kind: Kind
    since: int
    events: int
    share: float
    expected: float
    factor: float = 0.0


class _Counts:
    """What five minutes brought of one field."""

    __slots__ = (
        "bulk", "centre", "events", "high", "invalid", "largest", "low", "missing", "smallest"
    )  # fmt: skip

    def __init__(self) -> None:
        self.events = self.missing = self.invalid = self.low = self.high = 0
        self.bulk, self.centre = Counter[float](), Counter[float]()
        self.smallest, self.largest = float("inf"), float("-inf")

    def add(self, other: _Counts) -> None:
        for name in ("events", "missing", "invalid", "low", "high"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bulk += other.bulk
        self.centre += other.centre
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)


class Watch:
    """Watches the fields of one source through one function instance.

    Attributes:
        lasting: (field, kind) -> finding, for what has been wrong within the last hour, with
            its newest figures.
    """

    def __init__(self, reference: Reference) -> None:
        self.lasting: dict[tuple[str, Kind], Finding] = {}
        self._reference = reference
        self._seen: dict[tuple[str, Kind], int] = {}
        self._bins: dict[int, dict[str, _Counts]] = {}

    def note(self, events: Sequence[Event]) -> list[Finding]:
        """Look at events of the scored source, in order of arrival.

        Returns:
            What began to be wrong with them.
        """
        begun: list[Finding] = []
        for number, part in groupby(events, lambda event: event.arrival // BIN_US):
            arrived = list(part)
            counts = self._bins.setdefault(number, {})
            for name, reference in self._reference.items():
                _count(counts.setdefault(name, _Counts()), name, reference, arrived)
            for old in [each for each in self._bins if each <= number - BINS]:
                del self._bins[old]
            begun += self._look(arrived[-1].arrival)
        return begun

    def _look(self, now: int) -> Iterator[Finding]:
        for key in [key for key, seen in self._seen.items() if seen < now - BINS * BIN_US]:
            del self._seen[key], self.lasting[key]
        for name, reference in self._reference.items():
            hour = _Counts()
            for counts in self._bins.values():
                hour.add(counts[name])
            if hour.events < _LEAST_EVENTS:
                continue
            for finding in _findings(name, reference, hour, now):
                key = finding.field, finding.kind
                self._seen[key] = now
                known = self.lasting.get(key)
                self.lasting[key] = finding._replace(since=known.since) if known else finding
                if not known:
                    yield finding


class SparseWatch:
    """A watch of events that come one by one: a look at every one would cost more than its score.

    What the last ten seconds brought to an instance that then ends is not looked at.
    """

    def __init__(self, reference: Reference) -> None:
        self._watch = Watch(reference)
        self._waiting: list[Event] = []

    def note(self, events: Sequence[Event]) -> list[Finding]:
        """As of ``Watch.note``, for 500 events or ten seconds together."""
        self._waiting += events
        waiting = self._waiting
        lasted = waiting[-1].arrival - waiting[0].arrival if waiting else 0
        if len(waiting) < PORTION and lasted < PORTION_US:
            return []
        self._waiting = []
        return self._watch.note(waiting)


def _count(counts: _Counts, name: str, reference: FieldReference, events: Sequence[Event]) -> None:
    values = [value for event in events if (value := getattr(event.fields, name)) is not None]
    counts.events += len(events)
    counts.missing += len(events) - len(values)
    counts.invalid += sum(1 for event in events if event.invalid and name in event.invalid)
    if not reference.quantiles or not values:
        return
    low, high = reference.quantiles[_LOW], reference.quantiles[_HIGH]
    smallest, largest = min(values), max(values)
    counts.smallest = min(counts.smallest, smallest)
    counts.largest = max(counts.largest, largest)
    if smallest < low or largest > high:
        _count_outside(counts, reference, [v for v in values if not low <= v <= high])


def _count_outside(counts: _Counts, reference: FieldReference, values: Sequence[float]) -> None:
    middle = reference.quantiles[LEVELS.index(0.5)]
    first, last = (reference.quantiles[place] for place in _BULK)
    lower, upper = (reference.quantiles[place] for place in _CENTRE)
    for value in values:
        if value > middle:
            counts.high += 1
        else:
            counts.low += 1
        for factor in FACTORS:
            if first <= value / factor <= last:
                counts.bulk[factor] += 1
                counts.centre[factor] += lower <= value / factor <= upper


def _findings(name: str, reference: FieldReference, hour: _Counts, now: int) -> Iterator[Finding]:
    absent = reference.missing - reference.invalid
    for kind, count, of_training in (
        (Kind.MISSING, hour.missing - hour.invalid, absent),
        (Kind.INVALID, hour.invalid, reference.invalid),
    ):
        expected = (of_training + 1) / (reference.events + 1)
        if _too_many(hour.events, count, expected):
            yield Finding(name, kind, now, hour.events, count / hour.events, expected)
    present = hour.events - hour.missing
    if not reference.quantiles or present < _LEAST_EVENTS:
        return
    if hour.smallest == hour.largest and present * _log(reference.commonest) < log(LEVEL):
        yield Finding(name, Kind.CONSTANT, now, present, 1.0, reference.commonest)
    elif off := [f for f in FACTORS if _too_many(present, hour.bulk[f], _TAIL)]:
        factor = _likeliest(off, hour.centre)
        share = hour.bulk[factor] / present
        yield Finding(name, Kind.UNIT_CHANGE, now, present, share, _TAIL, factor)
    elif _too_many(present, hour.low + hour.high, 2 * _TAIL):
        share = (hour.low + hour.high) / present
        yield Finding(name, Kind.OUT_OF_RANGE, now, present, share, 2 * _TAIL)


def _likeliest(factors: Sequence[float], centre: Counter[float]) -> float:
    """The factor that brings values to the middle of training; of about equals, the commonest."""
    most = max(centre[factor] for factor in factors)
    return next(factor for factor in factors if centre[factor] >= most - sqrt(most))


def _too_many(events: int, count: int, expected: float) -> bool:
    share = count / events
    if share < LEAST_SHARE or share < LEAST_RATIO * expected:
        return False
    return upper_tail(events, count, expected) < LEVEL


def upper_tail(n: int, k: int, p: float) -> float:
    """Probability that of n independent events, each with probability p, at least k happen.

    Args:
        n: Events.
        k: At least n * p.
        p: Above 0, below 1.

    >>> round(upper_tail(10, 10, 0.5) * 1024)
    1
    """
    term = exp(
        lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * _log(1 - p)
    )
    total, ratio = term, p / (1 - p)
    while k < n and term > total * 1e-12:
        term *= (n - k) / (k + 1) * ratio
        total += term
        k += 1
    return total


def _log(value: float) -> float:
    return log(value) if value > 0 else float("-inf")
