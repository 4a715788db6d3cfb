"""One shard of a stream under a mapping: reading, filtering, and its lanes in turn.

Records of one partition key go to one lane, so that their order is kept however many lanes there
are. Lanes are concurrent in that none waits for another; two invocations never overlap: they are
played one after the other, in turn or in the order of a seed. Local mode's own: which hash of the
key chooses the lane, and how far other lanes may go on while one retries.
Source: AWS Compute Blog, "New AWS Lambda scaling controls for Kinesis and DynamoDB event
sources", on order within a partition key under a parallelization factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import md5
from typing import TYPE_CHECKING

from headrace.local.delivery import Delivery
from headrace.local.filters import passing
from headrace.local.lanes import READ_AGAIN_SECONDS, Lane
from headrace.local.records import MOST_RECORDS_PER_READ

if TYPE_CHECKING:
    from headrace.local.filters import RecordFilter
    from headrace.local.lanes import Target
    from headrace.local.records import ListedShard, ShardReader


@dataclass(slots=True)
class Shard:
    """Delivers one shard, a step at a time.

    Attributes:
        listed: What Kinesis says of it.
        reader: Reads it.
        filter: Which records the function is to get.
        target: Where they are delivered to.
        paused_until: Microseconds UTC; it is left alone after something did not answer.
    """

    listed: ListedShard
    reader: ShardReader
    filter: RecordFilter
    target: Target
    paused_until: int = 0
    _lanes: list[Lane] = field(init=False)
    _turn: int = 0

    def __post_init__(self) -> None:
        count = self.target.mapping.parallelization
        self._lanes = [Lane(self.target, self.listed.shard, number) for number in range(count)]

    @property
    def done(self) -> bool:
        """Whether all of it was delivered and nothing can come."""
        return self.reader.ended and self.drained

    @property
    def drained(self) -> bool:
        """Whether it is closed and all of it was delivered: its children may begin."""
        return self.reader.read_out and all(lane.empty for lane in self._lanes)

    def step(self, window_seconds: float) -> float | None:
        """Deliver one batch, or say in how many seconds to come again; None: nothing is left.

        Raises:
            StreamUnavailable: Kinesis did not answer.
            StoreUnavailable: The failure destination did not take a batch.
        """
        if self._may_read():
            self._read()
        more = self.reader.behind and self._may_read()
        waits = [READ_AGAIN_SECONDS] if more else []
        for lane in self._in_turn():
            seconds = lane.due(window_seconds, more)
            if seconds == 0:
                self._turn = lane.number + 1
                lane.deliver()
                return 0.0
            if seconds is not None:
                waits.append(seconds)
        return min(waits, default=None)

    def _in_turn(self) -> list[Lane]:
        after = self._turn % len(self._lanes)
        return self.target.draws.order(self._lanes[after:] + self._lanes[:after])

    def _may_read(self) -> bool:
        """Whether a lane could do with more, and no other lane is too far behind."""
        most = max(MOST_RECORDS_PER_READ, self.target.mapping.batch_size * len(self._lanes))
        waiting = sum(lane.waiting for lane in self._lanes)
        return waiting < most and any(lane.hungry for lane in self._lanes)

    def _read(self) -> None:
        records = self.reader.read()
        passed = passing(records, self.filter)
        if len(passed) < len(records):
            self.target.count(Delivery(filtered=len(records) - len(passed)))
        for record in passed:
            self._lanes[lane_of(record.partition_key, len(self._lanes))].put(record)


def lane_of(partition_key: str, lanes: int) -> int:
    """Number of the lane that a partition key goes to, from 0."""
    if lanes == 1:
        return 0
    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest()) % lanes
