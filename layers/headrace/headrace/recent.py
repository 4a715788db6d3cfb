"""Which events an entity met lately, in the order in which it met them.

Rows are sorted by event time and know nothing of arrival. An event that is delivered again must
get the features that it had, without what came after it: this says what that was. It also knows
an event whose row has gone into a tile. May import nothing of the project.
"""

from __future__ import annotations

from array import array
from heapq import merge
from operator import itemgetter

DIGEST_BYTES = 6
MOST = 512
"""Events that are remembered; a little more than a batch."""

MOST_OF_A_BATCH = 4_096
"""The same, after a batch that brings one entity more than that."""

SECONDS = 3_600
"""For how long, in arrival time, after the batch that brought them."""

_US_PER_SECOND = 1_000_000


class Recent:
    """Id digests and arrival times of events, oldest first.

    Attributes:
        arrivals: Unix seconds.
        digests: Six bytes each.
    """

    __slots__ = ("_before", "arrivals", "digests")

    def __init__(
        self, arrivals: bytes = b"", digests: bytearray | None = None, before: int | None = None
    ) -> None:
        self.arrivals = array("I", arrivals)
        self.digests = bytearray() if digests is None else digests
        self._before = len(self.arrivals) if before is None else before  # those of earlier batches

    def note(self, digest: bytes, arrival: int) -> None:
        """Add an event; ``arrival`` in microseconds UTC."""
        self.arrivals.append(arrival // _US_PER_SECOND)
        self.digests += digest

    def joined(self, other: Recent) -> Recent:
        """What either remembers, by arrival; of what both do, what the other says."""
        theirs = other.pairs()
        known = {digest for _, digest in theirs}
        mine = [pair for pair in self.pairs() if pair[1] not in known]
        found = Recent()
        for arrival, digest in merge(mine, theirs, key=itemgetter(0)):
            found.arrivals.append(arrival)
            found.digests += digest
        found._before = len(found.arrivals)
        return found

    def pairs(self) -> list[tuple[int, bytes]]:
        """Arrival (Unix seconds) and digest of each, in their order."""
        digests = bytes(self.digests)
        return [
            (arrival, digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
            for number, arrival in enumerate(self.arrivals)
        ]

    def after(self, digest: bytes) -> list[bytes] | None:
        """What came after this event; None where the event is not known."""
        place = self.digests.find(digest)
        while place >= 0 and place % DIGEST_BYTES:
            place = self.digests.find(digest, place + 1)
        if place < 0:
            return None
        rest = bytes(self.digests[place + DIGEST_BYTES :])
        return [rest[at : at + DIGEST_BYTES] for at in range(0, len(rest), DIGEST_BYTES)]

    def trim(self) -> None:
        """Forget what can hardly be delivered again: never this batch, however long it spans."""
        arrivals = self.arrivals
        if not arrivals:
            return
        oldest = max(arrivals) - SECONDS
        most = MOST if len(arrivals) - self._before <= MOST else MOST_OF_A_BATCH
        keep = max(0, len(arrivals) - most)
        while keep < self._before and arrivals[keep] < oldest:
            keep += 1
        if keep:
            del arrivals[:keep]
            del self.digests[: keep * DIGEST_BYTES]
