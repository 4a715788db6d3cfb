"""A lane delivers part of a shard, one batch after the other: cutting, retries, bisecting.

A shard has as many lanes as the mapping's parallelization factor. What fails every retry goes to
the failure destination, and the lane moves on. Local mode's own: the wait between retries, which
AWS does not say.
Source: AWS Lambda Developer Guide, "Using Lambda to process records from Amazon Kinesis Data
Streams", with its pages on batching, partial batch response and discarded batches.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.local.delivery import Delivery, Draws, Invocation
from headrace.local.failures import RETRIES_EXHAUSTED, TOO_OLD, FailedBatch
from headrace.local.records import StreamRecord, kinesis_event
from headrace.local.runtime import MOST_PAYLOAD_BYTES, FunctionFailed

if TYPE_CHECKING:
    from headrace.local.resources import StreamMapping
    from headrace.ports import Clock

Invoke: TypeAlias = Callable[[dict[str, Any]], Any]

READ_AGAIN_SECONDS = 0.2  # a shard takes five reads a second
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 1.0
_US_PER_SECOND = 1_000_000
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


@dataclass(frozen=True, slots=True)
class Target:
    """Where lanes deliver to, and how.

    Attributes:
        mapping: The settings.
        invoke: Calls the function; raises FunctionFailed where the function did.
        give_up: Sends a batch to the failure destination.
        note: Told of every invocation.
        count: Told of every record that was given up or filtered.
        clock: Time and waiting.
        draws: What is left to chance.
    """

    mapping: StreamMapping
    invoke: Invoke
    give_up: Callable[[FailedBatch], object]
    note: Callable[[Invocation], None]
    count: Callable[[Delivery], None]
    clock: Clock
    draws: Draws


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records that are delivered together.

    Attributes:
        records: In order.
        invocations: How often the function saw them.
        retries: How many of the mapping's retries they have used up; a split uses none.
        repeated: Whether the function has acknowledged them before.
        raised: Whether the function raised, the last time.
        doomed: Why they are to be given up.
    """

    records: tuple[StreamRecord, ...]
    invocations: int = 0
    retries: int = 0
    repeated: bool = False
    raised: bool = False
    doomed: str | None = None


@dataclass(slots=True)
class Lane:
    """Delivers its part of a shard in order, a step at a time."""

    target: Target
    shard: str
    number: int
    _read: deque[StreamRecord] = field(default_factory=deque)
    _cut: list[_Batch] = field(default_factory=list)  # the next one is the last
    _window_starts: int = 0
    _retry_at: int = 0

    @property
    def waiting(self) -> int:
        """Records that are in no batch yet."""
        return len(self._read)

    @property
    def empty(self) -> bool:
        """Whether everything that was put was delivered or given up."""
        return not self._read and not self._cut

    @property
    def hungry(self) -> bool:
        """Whether more records would be of use now."""
        return not self._cut and self._fitting() == len(self._read) < self._batch_size

    @property
    def _batch_size(self) -> int:
        return self.target.mapping.batch_size

    def put(self, record: StreamRecord) -> None:
        """Add a record behind the others."""
        if not self._read:
            self._window_starts = self.target.clock.now()
        self._read.append(record)

    def due(self, window_seconds: float, more: bool) -> float | None:
        """In how many seconds to deliver; 0 now, None while there is nothing.

        Args:
            window_seconds: How long a batch may wait to fill.
            more: Whether there is more to read at once.
        """
        if self._cut or self._cut_batch(window_seconds, more):
            return max(self._seconds_until(self._retry_at), 0.0)
        if not self._read:
            return None
        return max(self._seconds_until(self._window_ends(window_seconds)), READ_AGAIN_SECONDS)

    def _seconds_until(self, instant: int) -> float:
        return (instant - self.target.clock.now()) / _US_PER_SECOND

    def _window_ends(self, window_seconds: float) -> int:
        return self._window_starts + round(window_seconds * _US_PER_SECOND)

    def _cut_batch(self, window_seconds: float, more: bool) -> bool:
        """Cut a batch if it is full, holds 6 MB, or has waited for as long as the window."""
        size = self._fitting()
        now = self.target.clock.now()
        full = size == self._batch_size or size < len(self._read)
        # Without a window there is nothing to wait for but what can be read at once.
        over = now >= self._window_ends(window_seconds) and not (more and not window_seconds)
        if not self._read or not (full or over):
            return False
        self._cut.append(_Batch(tuple(self._read.popleft() for _ in range(size))))
        self._window_starts = now  # of what stays
        return True

    def _fitting(self) -> int:
        """How many of the waiting records fit into one batch."""
        total = 0
        for count, record in enumerate(self._read):
            total += record.payload_bytes
            if count == self._batch_size or (count and total > MOST_PAYLOAD_BYTES):
                return count
        return len(self._read)

    def deliver(self) -> None:
        """Invoke the function with the batch that is due, or give the batch up.

        Raises:
            StoreUnavailable: The failure destination did not take it; the batch is kept.
        """
        self._set_too_old_apart()
        batch = self._cut[-1]
        if batch.doomed:
            self._give_up(batch, batch.doomed)
        else:
            self._invoke(batch)

    def _set_too_old_apart(self) -> None:
        batch, limit = self._cut[-1], self.target.mapping.max_record_age_seconds
        if limit is None or batch.doomed:
            return
        oldest = self.target.clock.now() / _US_PER_SECOND - limit
        old = tuple(takewhile(lambda record: record.stored < oldest, batch.records))
        if old:
            self._put_back(replace(batch, records=batch.records[len(old) :]))
            self._cut.append(replace(batch, records=old, doomed=TOO_OLD))

    def _give_up(self, batch: _Batch, condition: str) -> None:
        count = len(batch.records)
        _LOG.error("%d records of %s are given up: %s", count, self.shard, condition)
        now = self.target.clock.now() / _US_PER_SECOND
        self.target.give_up(
            FailedBatch(batch.records, condition, batch.invocations, now, batch.raised)
        )
        self._cut.pop()
        self.target.count(Delivery(failed=count))

    def _invoke(self, batch: _Batch) -> None:
        raised, good = False, None
        try:
            event = kinesis_event(self.target.mapping.stream_name, batch.records)
            good = _acknowledged(self.target.mapping, batch, self.target.invoke(event))
        except FunctionFailed as error:
            _LOG.warning("a batch of %d records failed: %s", len(batch.records), error)
            raised = True
        self._note(batch, good or 0)
        seen = replace(batch, invocations=batch.invocations + 1, raised=raised)
        done, rest = batch.records[: good or 0], batch.records[good or 0 :]
        if good is None and self.target.mapping.bisect and len(rest) > 1:
            self._bisect(seen)
        else:
            self._retry(replace(seen, records=rest))
        if done and not batch.repeated and self.target.draws.repeats():
            self._cut.append(_Batch(done, repeated=True))

    def _note(self, batch: _Batch, good: int) -> None:
        self.target.note(
            Invocation(
                shard=self.shard,
                lane=self.number,
                records=batch.records,
                attempt=batch.invocations,
                repeated=batch.repeated,
                acknowledged=good,
                ended=self.target.clock.now(),
            )
        )

    def _bisect(self, batch: _Batch) -> None:
        middle = len(batch.records) // 2
        self._put_back(replace(batch, records=batch.records[middle:]))
        self._cut.append(replace(batch, records=batch.records[:middle]))

    def _retry(self, batch: _Batch) -> None:
        """Deliver what is left of the batch once more, or never again."""
        if batch.retries == self.target.mapping.max_retries:
            self._put_back(replace(batch, doomed=RETRIES_EXHAUSTED))
            return
        if batch.records:
            doublings = min(batch.retries, 10)  # retries may be without end
            seconds = min(_FIRST_RETRY_SECONDS * 2**doublings, _LONGEST_RETRY_SECONDS)
            self._retry_at = self.target.clock.now() + round(seconds * _US_PER_SECOND)
        self._put_back(replace(batch, retries=batch.retries + 1))

    def _put_back(self, batch: _Batch) -> None:
        """Put what is left of the batch in its place."""
        self._cut.pop()
        if batch.records:
            self._cut.append(batch)


def _acknowledged(mapping: StreamMapping, batch: _Batch, response: Any) -> int | None:
    """How many records stand before the first failed one; None: the whole batch failed.

    Source: AWS Lambda Developer Guide, "Configuring partial batch response with Kinesis Data
    Streams and Lambda": the lowest sequence number counts.
    """
    if not mapping.reports_item_failures or response is None:
        return len(batch.records)
    if not isinstance(response, dict):
        return None
    places = {record.sequence_number: at for at, record in enumerate(batch.records)}
    failures = response.get("batchItemFailures") or []
    if not isinstance(failures, list):
        return None
    failed = [places.get(_identifier(each), -1) for each in failures]
    if -1 in failed:
        return None  # as AWS does with an identifier that it does not know
    return min(failed, default=len(batch.records))


def _identifier(failure: Any) -> str:
    return str(failure.get("itemIdentifier")) if isinstance(failure, dict) else ""
