"""What a redrive did, or would do. May import ports and events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from headrace.events import us_to_text

if TYPE_CHECKING:
    from headrace.ports import Quarantined, Unreadable

MOST_SHOWN = 100
"""Refusals, and unreadable objects, that are told one by one."""


class StillRefused(msgspec.Struct, frozen=True):
    """A record that the definition refuses now; ``kept_as`` is the reason that it was kept for."""

    position: str
    kept_as: str
    reason: str
    message: str


@dataclass(slots=True)
class Row:
    """Records of one reason and day of arrival.

    Attributes:
        reason: What they were kept for.
        day: Of arrival, such as ``2025-05-01``.
        records: All of them.
        accepted: Valid and without a score: they are scored, or folded where they only feed state.
        known: Valid, but their event has a score already; left alone.
        refused: Refused by the definition as it is now.
    """

    reason: str
    day: str
    records: int = 0
    accepted: int = 0
    known: int = 0
    refused: int = 0


@dataclass(slots=True)
class Redriven:
    """What a redrive did, or what one would do.

    Attributes:
        rows: By reason and day.
        objects: Kept objects that were gone through.
        put_away: Of them, those that are done and were put away.
        scored: Events whose score was stored.
        folded: Events that changed state.
        late: Accepted events too late to change state; of a plan, by their arrival alone.
        aged: Accepted events so old that state may have given up what their longest windows need.
        refused: The first records that are still refused, at most MOST_SHOWN.
        unreadable: Keys of objects that hold no records, with the reason; at most MOST_SHOWN.
        stopped: Why it stopped early; "" where it went through.
        kept_anew: (position, reason) of records that were kept under another reason on the way,
            not to be met again.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    objects: int = 0
    put_away: int = 0
    scored: int = 0
    folded: int = 0
    late: int = 0
    aged: int = 0
    refused: list[StillRefused] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    stopped: str = ""

    kept_anew: set[tuple[str, str]] = field(default_factory=set)

    @property
    def records(self) -> int:
        """Records that were gone through."""
        return sum(row.records for row in self.rows.values())

    def row(self, reason: str, arrival: int) -> Row:
        """The row of a reason and an arrival time, microseconds UTC."""
        day = us_to_text(arrival)[:10]
        return self.rows.setdefault((reason, day), Row(reason, day))

    def note_refused(self, refused: StillRefused) -> None:
        """Remember a record that is still refused, unless there are enough to show."""
        if len(self.refused) < MOST_SHOWN:
            self.refused.append(refused)

    def note_unreadable(self, unreadable: Unreadable) -> None:
        """Remember an object that holds no records, unless there are enough to show."""
        if len(self.unreadable) < MOST_SHOWN:
            self.unreadable.append(unreadable)

    def note_kept_anew(self, refused: Quarantined, kept_as: str) -> None:
        """Remember a record that lies under another reason than it came from."""
        reason = refused.faults[0].reason
        if reason != kept_as:
            self.kept_anew.add((refused.record.position, reason))
