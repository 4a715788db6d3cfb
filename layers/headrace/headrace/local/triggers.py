"""The Kinesis event source mapping, played with the template's own settings: START HERE.

A `StreamTrigger` finds the shards of a stream, a `Shard` reads one and hands its records to
lanes, a `Lane` delivers them batch by batch. Everything waits on the clock that is handed in, so
that under one that stands still unless told to wait every run is the same and takes no time. What
is played and what is not, with the test that shows it, is in infra/local-aws.md.
Source: AWS Lambda Developer Guide, "Using Lambda to process records from Amazon Kinesis Data
Streams"; on shards, Amazon Kinesis Data Streams Developer Guide, "Consider data routing, data
persistence, and shard state after a reshard". Local mode's own: how often shards are listed.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.errors import Unavailable
from headrace.local import NotEmulated
from headrace.local.delivery import Chance, Delivery, Draws, Invocation, Tally
from headrace.local.failures import FailedBatch, keep_failed_batch, send_failed_batch
from headrace.local.filters import RecordFilter
from headrace.local.lanes import Invoke, Target
from headrace.local.records import Arrival, ShardReader, ShardStart, list_shards
from headrace.local.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.local.records import ListedShard
    from headrace.local.resources import StreamMapping
    from headrace.ports import Clock

__all__ = ["Chance", "Delivery", "Invocation", "Invoke", "StreamTrigger"]

POLL_SECONDS = 1.0  # Lambda polls a shard once a second
LIST_SECONDS = 10.0
_US_PER_SECOND = 1_000_000
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


class StreamTrigger:
    """Delivers a stream to a function.

    Args:
        mapping: The settings.
        invoke: Calls the function; raises FunctionFailed where the function did.
        kinesis: Client to read with.
        s3: Client to keep failed batches with.
        clock: Time and waiting.
        arrival: Gives records another arrival time than the stream's, for replays.
        messages: Client of SQS or SNS, where the failure destination is a queue or a topic.
        chance: Draws who is next and what comes twice; None goes in turn, without repeats.
        observe: Told of every invocation.

    Raises:
        StreamUnavailable: Kinesis did not answer.
        NotEmulated: A filter is wrong, or ``messages`` is missing.
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
        messages: Any = None,
        chance: Chance | None = None,
        observe: Callable[[Invocation], None] | None = None,
    ) -> None:
        self._mapping, self._kinesis, self._clock = mapping, kinesis, clock
        self._arrival, self._observe = arrival, observe
        self._filter = RecordFilter(mapping.filters)
        self._lock = threading.Lock()
        self._tally, self._draws = Tally(), Draws(chance)
        self._target = Target(
            mapping=mapping,
            invoke=invoke,
            give_up=_failure_destination(mapping, s3, messages),
            note=self._note,
            count=self._tally.add,
            clock=clock,
            draws=self._draws,
        )
        self._shards: dict[str, Shard] = {}
        self._listed_at = clock.now()
        for listed in list_shards(kinesis, mapping.stream_name):
            self._add(listed, mapping.starting_position)

    @property
    def delivered(self) -> Delivery:
        """Everything delivered so far."""
        return self._tally.total

    def drain(self) -> Delivery:
        """Deliver until nothing is left, cutting batches at once; what this call delivered.

        Raises:
            StreamUnavailable: Kinesis did not answer; what was read is kept for the next call.
            StoreUnavailable: A failed batch could not be kept.
        """
        with self._lock:
            self._tally.restart()
            self._find_shards()
            idle: set[str] = set()
            while going := [shard for shard in self._going() if shard.listed.shard not in idle]:
                self._drain_one(going, idle)
            return self._tally.recent

    def _drain_one(self, going: list[Shard], idle: set[str]) -> None:
        """Deliver the next batch of any shard, or wait until there may be one."""
        waits = []
        for shard in self._draws.order(going):
            seconds = shard.step(0.0)
            if shard.done:
                self._find_shards()  # its children
            if seconds is None:
                idle.add(shard.listed.shard)
            if not seconds:
                return
            waits.append(seconds)
        self._clock.sleep(min(waits))

    def run(self, stop: threading.Event) -> None:
        """Deliver with the mapping's batching window until told to stop; for a thread."""
        while not stop.is_set():
            stop.wait(self._round())

    def run_until(self, instant: int) -> Delivery:
        """Deliver with the batching window until the clock shows an instant; what was delivered.

        What does not answer is tried again after a second, as ``run`` does.

        Args:
            instant: Microseconds UTC.
        """
        with self._lock:
            self._tally.restart()
        while (left := instant - self._clock.now()) > 0:
            if seconds := self._round():
                self._clock.sleep(min(seconds, left / _US_PER_SECOND))
        return self._tally.recent

    def _round(self) -> float:
        """One step of each shard; in how many seconds to come again."""
        with self._lock:
            if self._seconds_until(self._listed_at) <= -LIST_SECONDS:
                self._find_shards_if_answered()
            shards = self._draws.order(self._going())
            return min([POLL_SECONDS, *(self._step(shard) for shard in shards)])

    def _step(self, shard: Shard) -> float:
        if (pause := self._seconds_until(shard.paused_until)) > 0:
            return pause
        try:
            seconds = shard.step(self._mapping.window_seconds)
        except Unavailable as error:
            _LOG.warning("delivery waits a second: %s", error)
            shard.paused_until = self._clock.now() + round(POLL_SECONDS * _US_PER_SECOND)
            return POLL_SECONDS
        if shard.done:
            self._find_shards_if_answered()
            return 0.0  # its children may begin
        return POLL_SECONDS if seconds is None else seconds

    def _seconds_until(self, instant: int) -> float:
        return (instant - self._clock.now()) / _US_PER_SECOND

    def _find_shards_if_answered(self) -> None:
        try:
            self._find_shards()
        except Unavailable as error:
            _LOG.warning("new shards are looked for later: %s", error)

    def _going(self) -> list[Shard]:
        """Shards with something to deliver, now or later: not before their parents are through.

        A parent that Kinesis no longer lists was trimmed, and holds nobody up.
        """
        waiting_for = {each for each, shard in self._shards.items() if not shard.drained}
        return [
            shard
            for shard in self._shards.values()
            if not shard.done and not waiting_for.intersection(shard.listed.parents)
        ]

    def _find_shards(self) -> None:
        """Note which shards have been closed and which are new."""
        for listed in list_shards(self._kinesis, self._mapping.stream_name):
            if listed.shard not in self._shards:
                # What is new since the start is not passed over.
                start = self._mapping.starting_position
                self._add(listed, "TRIM_HORIZON" if start == "LATEST" else start)
            self._shards[listed.shard].reader.closed = listed.closed
        self._listed_at = self._clock.now()

    def _add(self, listed: ListedShard, start: str) -> None:
        at = self._mapping.starting_timestamp
        settled = self._clock.now() / _US_PER_SECOND if at is None else at
        reader = ShardReader(
            self._kinesis,
            self._mapping.stream_name,
            listed.shard,
            ShardStart(start, settled),
            self._arrival,
            closed=listed.closed,
        )
        reader.open()
        self._shards[listed.shard] = Shard(listed, reader, self._filter, self._target)

    def _note(self, invocation: Invocation) -> None:
        self._tally.add(invocation.delivery)
        if self._observe:
            self._observe(invocation)


def _failure_destination(
    mapping: StreamMapping, s3: Any, messages: Any
) -> Callable[[FailedBatch], object]:
    if mapping.failure_destination is None:
        return lambda failed: None
    if mapping.failure_service == "s3":
        return partial(keep_failed_batch, s3, mapping)
    if messages is None:
        msg = (
            f"mapping {mapping.uuid}: failure destination is {mapping.failure_destination}; hand "
            f"StreamTrigger a boto3 client of {mapping.failure_service} as `messages`"
        )
        raise NotEmulated(msg)
    return partial(send_failed_batch, messages, mapping)
