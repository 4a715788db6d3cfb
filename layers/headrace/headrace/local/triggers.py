"""The Kinesis event source mapping, played with the template's own settings.

Each shard is delivered in order and at least once. A function that raises gets its batch again,
in halves where the mapping bisects; one that reports a failed record gets the batch again from
that record on. What fails every retry goes to the failure destination, and the shard moves on.
Local mode's own: the wait between retries (AWS does not say), and that the shards are those
that the stream had at the start.
Source: AWS Lambda Developer Guide, "Using Lambda to process records from Kinesis".
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.errors import Unavailable
from headrace.local.failures import RETRIES_EXHAUSTED, TOO_OLD, FailedBatch, keep_failed_batch
from headrace.local.records import Arrival, ShardReader, StreamRecord, kinesis_event, list_shards
from headrace.local.runtime import MOST_PAYLOAD_BYTES, FunctionFailed

if TYPE_CHECKING:
    from headrace.local.resources import StreamMapping
    from headrace.ports import Clock

Invoke: TypeAlias = Callable[[dict[str, Any]], Any]

POLL_SECONDS = 1.0  # Lambda polls a shard once a second
_READ_AGAIN_SECONDS = 0.2  # a shard takes five reads a second
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 1.0
_US_PER_SECOND = 1_000_000
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a trigger has done.

    Attributes:
        records: Records that the function acknowledged.
        batches: Invocations with records that it had not seen.
        retries: Invocations with records that it had.
        failed: Records that went to the failure destination.
    """

    records: int = 0
    batches: int = 0
    retries: int = 0
    failed: int = 0

    def plus(self, other: Delivery, sign: int = 1) -> Delivery:
        """Sum of both; with sign -1, the difference."""
        return Delivery(
            self.records + sign * other.records,
            self.batches + sign * other.batches,
            self.retries + sign * other.retries,
            self.failed + sign * other.failed,
        )


class StreamTrigger:
    """Delivers a stream to a function.

    Args:
        mapping: The settings.
        invoke: Calls the function; raises FunctionFailed where the function did.
        kinesis: Client to read with.
        s3: Client to keep failed batches with.
        clock: Time and waiting.
        arrival: Gives records another arrival time than the stream's, for replays.

    Raises:
        StreamUnavailable: Kinesis did not answer.
    """

    def __init__(
        self,
        mapping: StreamMapping,
        invoke: Invoke,
        *,
        kinesis: Any,
        s3: Any,
        clock: Clock,
        arrival: Arrival | None = None,
    ) -> None:
        self._window_seconds = mapping.window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        start = mapping.starting_position
        self._shards = [
            _Shard(
                mapping,
                ShardReader(kinesis, mapping.stream_name, shard, start, arrival),
                invoke,
                s3,
                clock,
            )
            for shard in list_shards(kinesis, mapping.stream_name)
        ]
        for shard in self._shards:
            shard.reader.open()

    @property
    def delivered(self) -> Delivery:
        """Everything delivered so far."""
        total = Delivery()
        for shard in self._shards:
            total = total.plus(shard.delivered)
        return total

    def drain(self) -> Delivery:
        """Deliver until nothing is left, cutting batches at once; what this call delivered.

        Raises:
            StreamUnavailable: Kinesis did not answer; what was read is kept for the next call.
            StoreUnavailable: A failed batch could not be kept.
        """
        with self._lock:
            before = self.delivered
            for shard in self._shards:
                while (seconds := shard.step(0.0)) is not None:
                    if seconds:
                        self._clock.sleep(seconds)
            return self.delivered.plus(before, -1)

    def run(self, stop: threading.Event) -> None:
        """Deliver with the mapping's batching window until told to stop; for a thread."""
        while not stop.is_set():
            stop.wait(self._round())

    def _round(self) -> float:
        with self._lock:
            try:
                due = [shard.step(self._window_seconds) for shard in self._shards]
            except Unavailable as error:
                _LOG.warning("delivery waits a second: %s", error)
                return POLL_SECONDS
        return min([POLL_SECONDS, *(seconds for seconds in due if seconds is not None)])


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records that are delivered together.

    Attributes:
        records: In order.
        invocations: How often the function saw them.
        retries: How many of the mapping's retries they have used up; a split uses none.
    """

    records: tuple[StreamRecord, ...]
    invocations: int = 0
    retries: int = 0


@dataclass(slots=True)
class _Shard:
    """Delivers one shard, a step at a time."""

    mapping: StreamMapping
    reader: ShardReader
    invoke: Invoke
    s3: Any
    clock: Clock
    delivered: Delivery = field(default_factory=Delivery)
    _read: deque[StreamRecord] = field(default_factory=deque)
    _cut: list[_Batch] = field(default_factory=list)  # the next one is the last
    _window_starts: int = 0
    _retry_at: int = 0

    def step(self, window_seconds: float) -> float | None:
        """Deliver one batch, or say in how many seconds to come again; None: nothing is left."""
        if not self._cut and not self._cut_batch(window_seconds):
            if self._read:
                ends = self._window_starts + round(window_seconds * _US_PER_SECOND)
                return max(self._seconds_until(ends), _READ_AGAIN_SECONDS)
            return _READ_AGAIN_SECONDS if self.reader.behind else None
        if self._retry_at > self.clock.now():
            return self._seconds_until(self._retry_at)
        if not self._gave_up_too_old(self._cut[-1]):
            self._deliver(self._cut[-1])
        return 0.0

    def _seconds_until(self, instant: int) -> float:
        return (instant - self.clock.now()) / _US_PER_SECOND

    def _cut_batch(self, window_seconds: float) -> bool:
        """Cut a batch if it is full, holds 6 MB, or has waited for as long as the window."""
        waiting = bool(self._read)
        if self._fitting() == len(self._read) < self.mapping.batch_size:
            self._read.extend(self.reader.read())
        now = self.clock.now()
        if not waiting:
            self._window_starts = now
        size = self._fitting()
        full = size == self.mapping.batch_size or size < len(self._read)
        waited = now - self._window_starts
        over = waited >= window_seconds * _US_PER_SECOND and not self.reader.behind
        if not self._read or not (full or over):
            return False
        self._cut.append(_Batch(tuple(self._read.popleft() for _ in range(size))))
        self._window_starts = now  # of what stays
        return True

    def _fitting(self) -> int:
        """How many of the records that were read fit into one batch."""
        total = 0
        for count, record in enumerate(self._read):
            total += record.payload_bytes
            if count == self.mapping.batch_size or (count and total > MOST_PAYLOAD_BYTES):
                return count
        return len(self._read)

    def _gave_up_too_old(self, batch: _Batch) -> bool:
        limit = self.mapping.max_record_age_seconds
        if limit is None:
            return False
        oldest = self.clock.now() / _US_PER_SECOND - limit
        too_old = tuple(takewhile(lambda record: record.stored < oldest, batch.records))
        if too_old:
            self._give_up(replace(batch, records=too_old), TOO_OLD)
            self._put_back(replace(batch, records=batch.records[len(too_old) :]))
        return bool(too_old)

    def _deliver(self, batch: _Batch) -> None:
        try:
            response = self.invoke(kinesis_event(self.mapping.stream_name, batch.records))
            good = self._acknowledged(batch, response)
        except FunctionFailed as error:
            _LOG.warning("a batch of %d records failed: %s", len(batch.records), error)
            good = None
        self._count(batch, good or 0)
        rest = replace(batch, records=batch.records[good or 0 :], invocations=batch.invocations + 1)
        if good is None and self.mapping.bisect and len(rest.records) > 1:
            self._bisect(rest)
        elif not rest.records:
            self._put_back(rest)
        elif rest.retries == self.mapping.max_retries:
            self._give_up(rest, RETRIES_EXHAUSTED)
            self._put_back(replace(rest, records=()))
        else:
            self._retry(rest)

    def _acknowledged(self, batch: _Batch, response: Any) -> int | None:
        """How many records stand before the first failed one; None: the whole batch failed."""
        if not self.mapping.reports_item_failures or response is None:
            return len(batch.records)
        if not isinstance(response, dict):
            return None
        places = {record.sequence_number: at for at, record in enumerate(batch.records)}
        failures = response.get("batchItemFailures") or []
        failed = [places.get(_identifier(each), -1) for each in failures]
        if -1 in failed:
            return None  # as AWS does with an identifier that it does not know
        return min(failed, default=len(batch.records))

    def _bisect(self, batch: _Batch) -> None:
        middle = len(batch.records) // 2
        self._put_back(replace(batch, records=batch.records[middle:]))
        self._cut.append(replace(batch, records=batch.records[:middle]))

    def _retry(self, batch: _Batch) -> None:
        doublings = min(batch.retries, 10)  # retries may be without end
        seconds = min(_FIRST_RETRY_SECONDS * 2**doublings, _LONGEST_RETRY_SECONDS)
        self._retry_at = self.clock.now() + round(seconds * _US_PER_SECOND)
        self._put_back(replace(batch, retries=batch.retries + 1))

    def _put_back(self, batch: _Batch) -> None:
        """Put what is left of the batch in its place."""
        self._cut.pop()
        if batch.records:
            self._cut.append(batch)

    def _give_up(self, batch: _Batch, condition: str) -> None:
        count = len(batch.records)
        _LOG.error("%d records of %s are given up: %s", count, self.reader.shard, condition)
        now = self.clock.now() / _US_PER_SECOND
        failed = FailedBatch(batch.records, condition, batch.invocations, now)
        if self.mapping.failure_bucket:
            keep_failed_batch(self.s3, self.mapping, failed)
        self.delivered = self.delivered.plus(Delivery(failed=count))

    def _count(self, batch: _Batch, good: int) -> None:
        retries = min(batch.invocations, 1)
        counted = Delivery(records=good, batches=1 - retries, retries=retries)
        self.delivered = self.delivered.plus(counted)


def _identifier(failure: Any) -> str:
    return str(failure.get("itemIdentifier")) if isinstance(failure, dict) else ""
