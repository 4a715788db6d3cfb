"""Make holes in history: absent, negative and textual values, unknown entities, a wrong unit.

By record and by event id, so that the same seed makes the same holes however the records are
cut. May import definition, events and errors.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.definition import Number
from headrace.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.definition import Definition
    from headrace.events import Record

_HOUR_US = 3_600_000_000
_OF_VALUE = ("absent", "negative", "text")
KINDS = (*_OF_VALUE, "unseen", "cents")
UNSEEN = "never-seen-"


@dataclass(frozen=True, slots=True)
class Holes:
    """How many holes a replay has, as shares of the events.

    Attributes:
        absent: The field does not come.
        negative: Its value is negative.
        text: Its value is text that is no number.
        unseen: The event's last entity was never seen before.
        cents: Within one hour, its value is a hundred times what it was.
        hour: When that hour begins, microseconds UTC of arrival; 0 for the first one.
        seed: The same seed makes the same holes.
    """

    absent: float = 0.0
    negative: float = 0.0
    text: float = 0.0
    unseen: float = 0.0
    cents: float = 0.0
    hour: int = 0
    seed: int = 0

    @classmethod
    def parse(cls, text: str, hour: int = 0, seed: int = 0) -> Holes:
        """Shares such as ``absent=0.1,negative=0.01``.

        Raises:
            Misconfigured: An unknown kind, or no share from 0 to 1.
        """
        shares: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            kind, _, share = part.partition("=")
            if kind not in KINDS:
                msg = f"holes: got {kind!r}; expected {', '.join(KINDS)}, each =share"
                raise Misconfigured(msg)
            shares[kind] = _share(kind, share)
        if sum(shares.get(kind, 0) for kind in _OF_VALUE) > 1:
            msg = f"holes: {', '.join(_OF_VALUE)} are more than all events together"
            raise Misconfigured(msg)
        return cls(**shares, hour=hour, seed=seed)

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)


@dataclass(slots=True)
class HoleMaker:
    """Makes the holes of one replay and counts them.

    Attributes:
        definition: Its scored source gets the holes: in its first Number field, and in its last
            entity.
        holes: How many.
        made: Kind -> holes.
    """

    definition: Definition
    holes: Holes
    made: Counter[str] = field(default_factory=Counter)
    _hour: int = 0

    def pierced(self, records: Sequence[Record]) -> list[Record]:
        """The same records with holes."""
        if not self.holes:
            return list(records)
        return [self._pierced(record) for record in records]

    def _pierced(self, record: Record) -> Record:
        source = self.definition.scored
        values: dict[str, Any] = msgspec.json.decode(record.data)
        if values["source"] != source.name:
            return record
        self._hour = self._hour or self.holes.hour or record.arrival
        random = Random(f"{self.holes.seed}#{values[source.id]}")
        self._make(values, random, record.arrival)
        return msgspec.structs.replace(record, data=msgspec.json.encode(values))

    def _make(self, values: dict[str, Any], random: Random, arrival: int) -> None:
        holes, name = self.holes, field_of(self.definition)
        in_hour = self._hour <= arrival < self._hour + _HOUR_US
        of_value, unseen, cents = random.random(), random.random(), random.random()
        value = values.get(name)
        if value is not None:
            if in_hour and cents < holes.cents:
                values[name] = value * 100
                self.made["cents"] += 1
            elif of_value < holes.absent:
                del values[name]
                self.made["absent"] += 1
            elif of_value < holes.absent + holes.negative:
                values[name] = -1 - abs(value)
                self.made["negative"] += 1
            elif of_value < holes.absent + holes.negative + holes.text:
                values[name] = f"{value} EUR"
                self.made["text"] += 1
        if unseen < holes.unseen:
            *_, entity = self.definition.scored.entities
            values[entity] = f"{UNSEEN}{random.getrandbits(48):x}"
            self.made["unseen"] += 1


def field_of(definition: Definition) -> str:
    """The field that gets the holes: the first Number of the scored source.

    Raises:
        Misconfigured: It has none.
    """
    for name, kind in definition.scored.fields.items():
        if isinstance(kind, Number):
            return name
    msg = f"holes: source {definition.scored.name!r} has no Number field to make them in"
    raise Misconfigured(msg)


def _share(kind: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        msg = f"holes: {kind} is {text!r}; expected a share from 0 to 1"
        raise Misconfigured(msg)
    return share
