"""What a batch run is: how far it has come, who may go on with it, and what it reports.

The rules are here and have no store: who begins, resumes, takes over or gives way, and until when
an entity's real-time score must stay fresh to be passed over. May import events and errors.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headrace.events import time_to_us, us_to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

CURRENT = "current"
"""Names the run over all segments; a part of it is named by ``part_name``."""

MAX_SEGMENTS = 1_000
"""So many parts does the state machine's list of them hold (States.ArrayRange)."""

ALIVE_US = 5 * 60 * 1_000_000
"""A run that has noted nothing for so long is not under way any more.

Lambda invokes again one and two minutes after a failure, the state machine within one.
"""

SCHEDULED_KEPT = 8
"""Scheduled runs whose times are kept: a week of daily ones has seven gaps between them."""

_US_PER_SECOND = 1_000_000


class Trigger(StrEnum):
    """What started a run."""

    SCHEDULE = "schedule"
    DEMAND = "demand"  # an alarm or a person


class Step(StrEnum):
    """What one invocation is to do."""

    RUN = "run"  # all segments
    OPEN = "open"  # begin a run whose parts others do
    PART = "part"  # one segment of it
    CLOSE = "close"  # sum the parts up


class Start(NamedTuple):
    """A run that is asked for.

    Attributes:
        as_of: Its time, microseconds UTC; None takes up what is unfinished, else means now.
        trigger: What asks for it.
    """

    as_of: int | None
    trigger: Trigger = Trigger.DEMAND


class Order(NamedTuple):
    """What an invocation of the batch function is told.

    Attributes:
        step: What to do.
        start: Which run.
        segments: Into how many parts the run is cut; None leaves it to the function.
        segment: Which of them; with ``Step.PART`` only.
    """

    step: Step
    start: Start
    segments: int | None = None
    segment: int | None = None

    @property
    def sums_up(self) -> bool:
        """Whether it only says what others have done."""
        return self.step is Step.CLOSE


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to entities.

    Attributes:
        entities: Met.
        scored: Batch scores written.
        fresh: Passed over: the real-time score stays fresh until the next run.
        unreadable: Passed over: the state cannot be read.
        lacking: Passed over: a required value is absent, and nothing may stand in for it.
        failed: Passed over: features or model raised.
        replaced: Batch scores of former runs that were replaced.
        read: Of those, how many had ever been read.
    """

    entities: int = 0
    scored: int = 0
    fresh: int = 0
    unreadable: int = 0
    lacking: int = 0
    failed: int = 0
    replaced: int = 0
    read: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return self._with(other, 1)

    def minus(self, other: Counts) -> Counts:
        """What is here beyond the other."""
        return self._with(other, -1)

    def _with(self, other: Counts, sign: int) -> Counts:
        return Counts(
            **{
                name: getattr(self, name) + sign * getattr(other, name)
                for name in Counts.__struct_fields__
            }
        )


class Report(Counts, frozen=True, kw_only=True):
    """A run in figures; the whole of it, also where it was resumed or done in parts.

    Attributes:
        as_of: The run's time, ISO 8601, UTC.
        trigger: What started it.
        complete: Whether every segment has been done.
        segments: Into how many parts the state table was cut.
        segments_left: How many of them are not done.
        resumed: How often the run, or one of its parts, was taken up again.
        seconds: From its start to what it noted last.
        read_share: Of the batch scores replaced, the share that had been read; None without any.
    """

    as_of: str
    trigger: Trigger
    complete: bool
    segments: int
    segments_left: int
    resumed: int
    seconds: float
    read_share: float | None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A run's checkpoint: of the whole, or of one part.

    Attributes:
        as_of: The run's time, ISO 8601, UTC.
        trigger: What started it.
        segments: Into how many parts the state table is cut.
        left: Segments that are not done, in the order in which they will be.
        cursors: Begun segment -> where it goes on.
        in_parts: The segments are done by others, who note their progress under their own names.
        closed: All is done and reported.
        period: Microseconds until the next run has come by, as observed; None where nothing tells.
        owner: The invocation that noted this; who finds another one stops.
        started: When the run began, microseconds UTC.
        noted: When this was noted, microseconds UTC.
        resumed: How often it was taken up again.
        counts: What has been done.
        scheduled: Times of the latest complete scheduled runs, oldest first.
        last: The run before, where this one is not closed.
    """

    as_of: str
    trigger: Trigger = Trigger.DEMAND
    segments: int = 1
    left: tuple[int, ...] = ()
    cursors: dict[int, str] = {}
    in_parts: bool = False
    closed: bool = False
    period: int | None = None
    owner: str = ""
    started: int = 0
    noted: int = 0
    resumed: int = 0
    counts: Counts = Counts()
    scheduled: tuple[str, ...] = ()
    last: Report | None = None

    @property
    def time(self) -> int:
        """The run's time, microseconds UTC."""
        return text_to_us(self.as_of)

    @property
    def report(self) -> Report:
        """What this says, for people."""
        counts = self.counts
        return Report(
            **msgspec.structs.asdict(counts),
            as_of=self.as_of,
            trigger=self.trigger,
            complete=self.closed,
            segments=self.segments,
            segments_left=len(self.left),
            resumed=self.resumed,
            seconds=(self.noted - self.started) / _US_PER_SECOND,
            read_share=counts.read / counts.replaced if counts.replaced else None,
        )

    @property
    def latest_complete(self) -> Report | None:
        """The report of the latest run that was completed."""
        return self.report if self.closed else self.last

    def summed(self, parts: Sequence[Progress | None]) -> Progress:
        """What the parts together have done of this run, by their numbers."""
        begun = [part for part in parts if part is not None]
        counts = Counts()
        for part in begun:
            counts = counts.plus(part.counts)
        return msgspec.structs.replace(
            self,
            left=tuple(n for n, part in enumerate(parts) if part is None or not part.closed),
            counts=counts,
            noted=max([self.noted, *(part.noted for part in begun)]),
            resumed=sum(part.resumed for part in begun),
        )

    def ended(self) -> Progress:
        """Closed, and remembered among the scheduled runs where it is one."""
        times = self.scheduled
        if self.trigger is Trigger.SCHEDULE:
            times = (*times, self.as_of)[-SCHEDULED_KEPT:]
        return msgspec.structs.replace(self, closed=True, scheduled=times, last=None)


def part_name(segment: int, segments: int) -> str:
    """Names a part, such as ``3/16``."""
    return f"{segment}/{segments}"


def text_to_us(text: str) -> int:
    """ISO 8601 with an offset as microseconds UTC."""
    return time_to_us(datetime.fromisoformat(text))


def period_to_next(former: Progress | None, start: Start) -> int | None:
    """How long it may be until the next scheduled run has come by, as the former ones tell.

    The longest gap between the latest scheduled runs, the one that ends with this run included
    where it is scheduled itself. A run on demand ends no gap: the next one comes when the schedule
    says, however lately it ran. The longest, not the latest, because a schedule may pause over
    weekends, and because too long a period only scores an entity that need not be. The time that
    the last run took comes on top: an entity may be the last one that the next run meets.

    Returns:
        Microseconds; None without two scheduled runs.
    """
    if former is None:
        return None
    times = [text_to_us(each) for each in former.scheduled]
    if start.trigger is Trigger.SCHEDULE and start.as_of is not None:
        times.append(start.as_of)
    gap = max((later - earlier for earlier, later in pairwise(times)), default=None)
    last = former.latest_complete
    return None if gap is None or last is None else gap + round(last.seconds * _US_PER_SECOND)


def taken_up(
    stored: Progress | None, start: Start, segments: int, now: int, noted: int
) -> Progress | None:
    """What an invocation over all segments goes on with; None where there is nothing for it to do.

    The same run is resumed where it stopped. An older one gets no further hearing. A newer one
    begins with what its predecessor has left, so that no segment starves where every run is cut,
    and then goes through the others too; a scheduled one takes over whatever is under way, one on
    demand gives way to it, since that brings what is asked for.

    Args:
        stored: The latest run.
        start: The run that is asked for.
        segments: Into how many parts a new run is cut.
        now: Microseconds UTC.
        noted: When the latest run, or a part of it, was noted last.
    """
    under_way = stored is not None and not stored.closed and now - noted < ALIVE_US
    if start.as_of is None:
        if stored is not None and not stored.closed:
            return None if under_way else _resumed(stored)
        start = start._replace(as_of=now)
    if stored is None:
        return _begun(None, start, segments, now)
    if stored.time == start.as_of and (stored.closed or stored.segments == segments):
        return None if stored.closed else _resumed(stored)
    if stored.time > (start.as_of or 0) or (under_way and start.trigger is Trigger.DEMAND):
        return None
    return _begun(stored, start, segments, now)


def part_taken_up(
    stored: Progress | None, whole: Progress | None, order: Order, now: int
) -> Progress | None:
    """What the invocation for one part goes on with; None where there is nothing to do.

    Args:
        stored: The part's progress.
        whole: The latest run.
        order: The part that is asked for.
        now: Microseconds UTC.
    """
    as_of = order.start.as_of if order.start.as_of is not None else now
    if whole is not None and whole.time > as_of:
        return None
    if stored is not None and stored.time >= as_of:
        return None if stored.closed or stored.time > as_of else _resumed(stored)
    known = whole is not None and whole.time == as_of
    return Progress(
        as_of=us_to_text(as_of),
        trigger=order.start.trigger,
        segments=order.segments or 1,
        left=(order.segment or 0,),
        period=whole.period if whole and known else period_to_next(whole, order.start),
        started=now,
        noted=now,
    )


def _resumed(stored: Progress) -> Progress:
    return msgspec.structs.replace(stored, resumed=stored.resumed + 1)


def _begun(former: Progress | None, start: Start, segments: int, now: int) -> Progress:
    as_of = start.as_of if start.as_of is not None else now
    left: tuple[int, ...] = ()
    if former is not None and former.segments == segments and not former.in_parts:
        left = former.left
    return Progress(
        as_of=us_to_text(as_of),
        trigger=start.trigger,
        segments=segments,
        left=(*left, *(each for each in range(segments) if each not in left)),
        period=period_to_next(former, start),
        started=now,
        noted=now,
        scheduled=former.scheduled if former else (),
        last=former.latest_complete if former else None,
    )
