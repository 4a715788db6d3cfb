"""The fallback path: a batch score for every entity whose real-time score will not last.

A run walks the state table in segments and notes after every page how far it got, so that the
next invocation goes on where a time-out cut it. Who may go on is said in ``runs``, what a page
becomes in ``fallback``. May import what scoring may.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headrace.errors import StoreUnavailable
from headrace.fallback import Fallback
from headrace.ports import Segment
from headrace.runs import (
    CURRENT,
    Counts,
    Order,
    Progress,
    Report,
    Step,
    part_name,
    part_taken_up,
    taken_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ports import Clock, ScoreStore, StateStore
    from headrace.scoring import Scorer

SEGMENTS = 8
"""Into how many parts one function cuts a run that it does alone."""

_CLAIMS = 4
"""How often an invocation tries to take up a run that others want too."""

_TRIES = 2
"""How often one invocation tries the page of a segment that fails."""


class End(StrEnum):
    """How an invocation ended."""

    COMPLETE = "complete"  # all that was asked for is done
    REPEATED = "repeated"  # it had been done before
    UNFINISHED = "unfinished"  # time ran out or pages failed: it must be invoked again
    GAVE_WAY = "gave_way"  # a newer run, or another invocation, has it


class Ran(NamedTuple):
    """What an invocation did.

    Attributes:
        end: How it ended.
        report: Of the run or part, all invocations together; None where it never began.
        done: What this invocation added to it.
        error: What a store said, where pages failed.
    """

    end: End
    report: Report | None
    done: Counts = Counts()
    error: str = ""


class _Checkpoint:
    """A run's noted progress, for as long as nobody else takes the run."""

    def __init__(self, scores: ScoreStore, name: str, clock: Clock, owner: str) -> None:
        self._scores, self._name, self._clock, self._owner = scores, name, clock, owner
        self._held: bytes | None = None

    def read(self) -> Progress | None:
        """What is noted; to be replaced by the next note."""
        self._held = self._scores.get_progress(self._name)
        return None if self._held is None else msgspec.json.decode(self._held, type=Progress)

    def note(self, progress: Progress) -> Progress | None:
        """Note progress; as it was noted, or None where another invocation has taken the run.

        Raises:
            StoreUnavailable: It may or may not have been noted.
        """
        noted = msgspec.structs.replace(progress, owner=self._owner, noted=self._clock.now())
        data = msgspec.json.encode(noted)
        for _ in range(_CLAIMS):
            if self._scores.put_progress(self._name, data, self._held):
                self._held = data
                return noted
            stored = self.read()
            if stored is None or stored.owner != self._owner:
                return None
            # Its own: the answer to an earlier note was lost.
        return None


def read_progress(scores: ScoreStore, name: str) -> Progress | None:
    """What is noted of a run or part.

    Raises:
        StoreUnavailable: The scores cannot be read.
    """
    stored = scores.get_progress(name)
    return None if stored is None else msgspec.json.decode(stored, type=Progress)


def read_parts(scores: ScoreStore, whole: Progress) -> list[Progress | None]:
    """Progress of each part of a run; None where it has not begun in this run.

    Raises:
        StoreUnavailable: The scores cannot be read.
    """
    names = [part_name(each, whole.segments) for each in range(whole.segments)]
    found = [read_progress(scores, name) for name in names]
    return [part if part and part.as_of == whole.as_of else None for part in found]


def read_reports(scores: ScoreStore) -> tuple[Report | None, Report | None]:
    """The latest complete run, and the one that is not complete where there is a later one.

    Raises:
        StoreUnavailable: The scores cannot be read.
    """
    whole = read_progress(scores, CURRENT)
    if whole is None or whole.closed:
        return (whole.report if whole else None), None
    under_way = whole.summed(read_parts(scores, whole)) if whole.in_parts else whole
    return whole.last, under_way.report


class BatchScorer:
    """Runs the batch path."""

    def __init__(
        self, scorer: Scorer, states: StateStore, scores: ScoreStore, clock: Clock
    ) -> None:
        self._fallback = Fallback(scorer)
        self._states, self._scores, self._clock = states, scores, clock
        self._random = Random()

    def obey(self, order: Order, time_is_left: Callable[[], bool]) -> Ran:
        """Do what an invocation is told.

        Args:
            order: A whole run, or a step of one that is done in parts.
            time_is_left: Asked before every page.

        Raises:
            StoreUnavailable: The run's progress cannot be read or noted. What was noted stays.
        """
        if order.step is Step.PART:
            return self._run_part(order, time_is_left)
        if order.step is Step.CLOSE:
            return self._close(order)
        checkpoint, progress = self._claim(order)
        if progress is None:
            return self._left_alone(checkpoint, order)
        if order.step is Step.OPEN:
            return Ran(End.COMPLETE, progress.report)
        return self._walk(checkpoint, progress, time_is_left)

    # Who does it

    def _checkpoint(self, name: str) -> _Checkpoint:
        owner = f"{self._random.getrandbits(64):016x}"
        return _Checkpoint(self._scores, name, self._clock, owner)

    def _claim(self, order: Order) -> tuple[_Checkpoint, Progress | None]:
        """Take up or begin a run over all segments; None where there is nothing to do."""
        checkpoint = self._checkpoint(CURRENT)
        in_parts, segments = order.step is Step.OPEN, order.segments or SEGMENTS
        for _ in range(_CLAIMS):
            stored = checkpoint.read()
            now, noted = self._clock.now(), self._noted(stored)
            progress = taken_up(stored, order.start, segments, now, noted)
            if progress is None:
                break
            claimed = checkpoint.note(msgspec.structs.replace(progress, in_parts=in_parts))
            if claimed is not None:
                return checkpoint, claimed
        return checkpoint, None

    def _left_alone(self, checkpoint: _Checkpoint, order: Order) -> Ran:
        stored = checkpoint.read()
        if stored is None:
            return Ran(End.GAVE_WAY, None)
        done = stored.closed and stored.time == order.start.as_of
        return Ran(End.REPEATED if done else End.GAVE_WAY, stored.report)

    def _noted(self, whole: Progress | None) -> int:
        """When a run was noted last; of one in parts, when any of them was."""
        if whole is None:
            return 0
        if whole.closed or not whole.in_parts:
            return whole.noted
        parts = read_parts(self._scores, whole)
        return max([whole.noted, *(part.noted for part in parts if part)])

    # A run in parts

    def _run_part(self, order: Order, time_is_left: Callable[[], bool]) -> Ran:
        name = part_name(order.segment or 0, order.segments or 1)
        checkpoint = self._checkpoint(name)
        for _ in range(_CLAIMS):
            whole, stored = read_progress(self._scores, CURRENT), checkpoint.read()
            progress = part_taken_up(stored, whole, order, self._clock.now())
            if progress is None:
                return _part_left_alone(stored, order)
            claimed = checkpoint.note(progress)
            if claimed is not None:
                ran = self._walk(checkpoint, claimed, time_is_left)
                # Whoever waits for this part must wait for the invocation that has it now.
                return ran._replace(end=End.UNFINISHED) if ran.end is End.GAVE_WAY else ran
        return Ran(End.UNFINISHED, None)

    def _close(self, order: Order) -> Ran:
        """Sum the parts up; a run all of whose parts are done is complete."""
        checkpoint, whole = self._checkpoint(CURRENT), None
        for _ in range(_CLAIMS):
            whole = checkpoint.read()
            if whole is None or whole.time != order.start.as_of:
                break
            if whole.closed:
                return Ran(End.REPEATED, whole.report)
            summed = whole.summed(read_parts(self._scores, whole))
            noted = checkpoint.note(summed if summed.left else summed.ended())
            if noted is not None:
                end = End.COMPLETE if noted.closed else End.UNFINISHED
                return Ran(end, noted.report)
        return Ran(End.GAVE_WAY, whole.report if whole else None)

    # The walk

    def _walk(
        self, checkpoint: _Checkpoint, progress: Progress, time_is_left: Callable[[], bool]
    ) -> Ran:
        """Go through the segments that are left; a page that fails holds up its own one only."""
        before, error = progress.counts, ""
        queue, tries = deque(progress.left), Counter[int]()
        while queue and time_is_left():
            number = queue[0]
            try:
                noted = checkpoint.note(self._page(progress, number))
            except StoreUnavailable as unavailable:
                error = str(unavailable)
                tries[number] += 1
                queue.popleft()
                if tries[number] < _TRIES:
                    queue.append(number)
                continue
            if noted is None:
                return Ran(End.GAVE_WAY, progress.report, progress.counts.minus(before))
            progress = noted
            if number not in progress.left:
                queue.popleft()
        return self._ended(checkpoint, progress, before, error)

    def _ended(
        self, checkpoint: _Checkpoint, progress: Progress, before: Counts, error: str
    ) -> Ran:
        done = progress.counts.minus(before)
        if progress.left:
            return Ran(End.UNFINISHED, progress.report, done, error)
        try:
            closed = checkpoint.note(progress.ended())
        except StoreUnavailable as unavailable:
            return Ran(End.UNFINISHED, progress.report, done, str(unavailable))
        if closed is None:
            return Ran(End.GAVE_WAY, progress.report, done)
        return Ran(End.COMPLETE, closed.report, done)

    def _page(self, progress: Progress, number: int) -> Progress:
        """Score a page of one segment and store its scores."""
        segment = Segment(number, progress.segments)
        page = self._states.scan(self._fallback.entity, segment, progress.cursors.get(number))
        scores, counts = self._fallback.score(page.items, progress.time, progress.period)
        replaced = self._scores.put_batch(scores)
        cursors = {each: at for each, at in progress.cursors.items() if each != number}
        left = progress.left
        if page.cursor is None:
            left = tuple(each for each in left if each != number)
        else:
            cursors[number] = page.cursor
        found = Counts(replaced=replaced.scores, read=replaced.read)
        return msgspec.structs.replace(
            progress, left=left, cursors=cursors, counts=progress.counts.plus(counts).plus(found)
        )


def _part_left_alone(stored: Progress | None, order: Order) -> Ran:
    if stored is not None and stored.closed and stored.time == order.start.as_of:
        return Ran(End.REPEATED, stored.report)
    return Ran(End.GAVE_WAY, None)
