"""What a trigger has done, as figures and invocation by invocation, and what it leaves to chance.

Imports nothing of AWS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.local.records import StreamRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the function.

    Attributes:
        shard: Where its records lie.
        lane: Which of the shard's concurrent batches it was, from 0.
        records: What the function got, in order.
        attempt: How often it had seen the batch before, from 0.
        repeated: Whether it had acknowledged the records before.
        acknowledged: How many of the records it acknowledged, from the first on.
        ended: Microseconds UTC.
    """

    shard: str
    lane: int
    records: tuple[StreamRecord, ...]
    attempt: int
    repeated: bool
    acknowledged: int
    ended: int

    @property
    def iterator_age_seconds(self) -> float:
        """How old the batch's last record was when the invocation ended.

        Source: AWS Lambda Developer Guide, "Types of metrics for Lambda functions", IteratorAge.
        """
        return self.ended / 1_000_000 - self.records[-1].stored

    @property
    def delivery(self) -> Delivery:
        """The same as figures."""
        age = self.iterator_age_seconds
        if self.repeated:
            return Delivery(repeats=1, iterator_age_seconds=age)
        first = self.attempt == 0
        return Delivery(
            records=self.acknowledged,
            batches=int(first),
            retries=int(not first),
            iterator_age_seconds=age,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a trigger has done.

    Attributes:
        records: Records that the function acknowledged, each counted once.
        batches: Invocations with records that it had not seen.
        retries: Invocations with records that it had.
        failed: Records that went to the failure destination.
        filtered: Records that no filter let through.
        repeats: Invocations with records that the function had acknowledged before.
        iterator_age_seconds: The greatest iterator age; no part of an equality.
    """

    records: int = 0
    batches: int = 0
    retries: int = 0
    failed: int = 0
    filtered: int = 0
    repeats: int = 0
    iterator_age_seconds: float = field(default=0.0, compare=False)

    def plus(self, other: Delivery) -> Delivery:
        """Both together."""
        return Delivery(
            self.records + other.records,
            self.batches + other.batches,
            self.retries + other.retries,
            self.failed + other.failed,
            self.filtered + other.filtered,
            self.repeats + other.repeats,
            max(self.iterator_age_seconds, other.iterator_age_seconds),
        )


@dataclass(slots=True)
class Tally:
    """Adds up deliveries: all of them, and those since the last ``restart``."""

    total: Delivery = field(default_factory=Delivery)
    recent: Delivery = field(default_factory=Delivery)

    def restart(self) -> None:
        """Begin to count recent ones anew."""
        self.recent = Delivery()

    def add(self, delivery: Delivery) -> None:
        """Count one more."""
        self.total = self.total.plus(delivery)
        self.recent = self.recent.plus(delivery)


@dataclass(frozen=True, slots=True)
class Chance:
    """What AWS leaves open, drawn from a seed: the same seed gives the same deliveries.

    Attributes:
        seed: Chooses who is next among shards, and among the concurrent batches of a shard.
        duplicates: Share of acknowledged batches that are delivered once more.

    Source: AWS Lambda Developer Guide, "Using Lambda to process records from Kinesis": event
    source mappings process each event at least once, and duplicate processing can occur.
    """

    seed: int
    duplicates: float = 0.0


class Draws:
    """Draws from a ``Chance``; without one, everything goes in turn and nothing comes twice."""

    def __init__(self, chance: Chance | None) -> None:
        self._random = Random(chance.seed) if chance else None
        self._duplicates = chance.duplicates if chance else 0.0

    def order(self, items: Sequence[T]) -> list[T]:
        """Who comes first, second and so on."""
        if self._random is None or len(items) < 2:
            return list(items)
        return self._random.sample(items, len(items))

    def repeats(self) -> bool:
        """Whether a batch that was acknowledged is delivered once more."""
        return self._random is not None and self._random.random() < self._duplicates
