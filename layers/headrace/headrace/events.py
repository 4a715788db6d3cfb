"""Bytes to events: decoding, checks, and the reasons for which a record is quarantined.

The fast path is one strict msgspec decode; only a record that it refuses is looked at field by
field, so that every fault is found at once. May import field_checks, definition and errors.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec

from headrace.definition import Definition, Invalid, Rule, Source
from headrace.errors import EventRejected, Fault
from headrace.field_checks import FieldCheck, shown

MAX_EVENT_BYTES = 64 * 1024

REASONS = (
    "too_large",
    "not_utf8",
    "not_json",
    "not_an_object",
    "unknown_source",
    "missing",
    "wrong_type",
    "out_of_bounds",
    "naive_time",
    "absurd_time",
    "broken_rule",
)
"""Why a record can be refused: the closed list behind ``Fault.reason``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_US_PER_SECOND, _SECONDS_PER_DAY = 1_000_000, 86_400
_DIGEST_BYTES = 6
_to_json = msgspec.json.Encoder().encode


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as it came from the stream.

    Attributes:
        data: The event's bytes.
        arrival: Approximate arrival time, microseconds UTC.
        position: Where it is on the stream, such as ``shardId-000000000000:4959...``.
        sequence: Its sequence number.
    """

    data: bytes
    arrival: int
    position: str
    sequence: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """A valid event.

    Attributes:
        source: Where it comes from.
        id: Its id within the source, as text.
        digest: Six bytes of the hash of source and id: what state remembers of it.
        time: Event time, microseconds UTC.
        arrival: Arrival time, microseconds UTC.
        late: Whether it arrived after its source's allowed lateness.
        keys: Entity -> key of its item, such as ``customer#42``.
        fields: The decoded fields under their own names; absent optional ones are None.
        unknown: Fields that the definition does not know and that were passed over.
        invalid: Fields that are absent because what came broke their type, bounds or a rule.
        accepted: Fields and rules whose bounds were broken and that were taken as they came.
    """

    source: Source
    id: str
    digest: bytes
    time: int
    arrival: int
    late: bool
    keys: dict[str, str]
    fields: Any
    unknown: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()


def microseconds(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND


def time_to_us(time: datetime) -> int:
    """An aware time as microseconds UTC since 1970."""
    since = time - _EPOCH  # its parts are whole: quicker than a division by a microsecond
    seconds = since.days * _SECONDS_PER_DAY + since.seconds
    return seconds * _US_PER_SECOND + since.microseconds


def us_to_time(us: int) -> datetime:
    """Microseconds UTC since 1970 as an aware time."""
    return _EPOCH + timedelta(microseconds=us)


def us_to_text(us: int) -> str:
    """Microseconds UTC since 1970 as ISO 8601 text that ends in Z."""
    return _to_json(_EPOCH + timedelta(0, 0, us))[1:-1].decode()  # quicker than isoformat


def _us_shown(us: int) -> str:
    """An instant for a message, which may lie beyond the years that a datetime holds."""
    try:
        return us_to_text(us)
    except OverflowError:
        return "before the year 1" if us < 0 else "after the year 9999"


def id_digest(source: str, event_id: str) -> bytes:
    """Six bytes that stand for a source's event in state (48 bits of BLAKE2b)."""
    return blake2b(f"{source}#{event_id}".encode(), digest_size=_DIGEST_BYTES).digest()


def entity_key(entity: str, entity_id: int | str) -> str:
    """Key of an entity's item, such as ``customer#42``."""
    return f"{entity}#{entity_id}"


def shown_key(key: str) -> str:
    """An item's key for messages, which end in logs: the entity, and a digest of its id."""
    entity, _, entity_id = key.partition("#")
    return f"{entity} {blake2b(entity_id.encode(), digest_size=4).hexdigest()}"


class EventDecoder:
    """Decodes events of one definition; the types are made from it once."""

    def __init__(self, definition: Definition) -> None:
        self._sources = {source.name: _Typed(source) for source in definition.sources}
        union = tuple(typed.struct for typed in self._sources.values())
        self._decode = msgspec.json.Decoder(_union(union)).decode
        self._event_of = {typed.struct: typed.event for typed in self._sources.values()}

    def fields_type(self, source: Source) -> Any:
        """The type of a source's decoded fields, for events that were checked elsewhere."""
        return self._sources[source.name].struct

    def decode(self, data: bytes, arrival: int) -> Event:
        """Decode and check one event.

        Args:
            data: UTF-8 JSON with a ``source`` field, at most 64 KiB.
            arrival: Arrival time, microseconds UTC.

        Raises:
            EventRejected: With every fault that the event has.
        """
        if len(data) > MAX_EVENT_BYTES:
            message = f"event: got {len(data):,} bytes; expected at most {MAX_EVENT_BYTES:,}"
            raise EventRejected([Fault("too_large", "", message)])
        try:
            fields = self._decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return self._decode_slowly(data, arrival)
        return self._event_of[type(fields)](fields, arrival)

    def _decode_slowly(self, data: bytes, arrival: int) -> Event:
        values = _parse_object(data)
        name = values.pop("source", None)
        typed = self._sources.get(name) if isinstance(name, str) else None
        if typed is None:
            known = ", ".join(repr(each) for each in self._sources)
            message = f"event: source is {shown(name)}; expected one of {known}"
            raise EventRejected([Fault("unknown_source", "source", message)])
        return typed.checked(values, arrival)


class _Typed:
    """One source with the msgspec types made from it."""

    def __init__(self, source: Source) -> None:
        self.source, self._rules = source, source.rules
        self._checks = {
            source.id: FieldCheck(source.id, int),
            source.time: FieldCheck(source.time, datetime),
            **{name: FieldCheck(name, int) for name in source.entities},
            **{name: FieldCheck(name, kind) for name, kind in source.fields.items()},
        }
        checks = self._checks.values()
        self.struct = msgspec.defstruct(
            f"{source.name}_event",
            [(check.name, check.strict) for check in checks if check.required]
            + [(check.name, check.strict | None, None) for check in checks if not check.required],
            tag=source.name,
            tag_field="source",
            forbid_unknown_fields=True,
            frozen=True,
            kw_only=True,
            gc=False,
        )
        self._earliest = time_to_us(source.not_before)
        self._ahead = microseconds(source.ahead)
        self._lateness = microseconds(source.lateness)
        entities = enumerate(source.entities.values(), 2)  # places in what follows
        self._entities = [(each.name, f"{each.name}#", place) for place, each in entities]
        self._of_fields = attrgetter(source.time, source.id, *source.entities)
        # What every digest of the source begins with, hashed once: see ``id_digest``.
        self._hash = blake2b(f"{source.name}#".encode(), digest_size=_DIGEST_BYTES)

    def event(self, fields: Any, arrival: int, unknown: tuple[str, ...] = ()) -> Event:
        """The event of valid fields."""
        found = self._of_fields(fields)
        at, event_id = found[0], str(found[1])
        time = time_to_us(at)
        if not self._earliest <= time <= arrival + self._ahead:
            raise EventRejected([self._absurd(f"event {event_id!r}", time, arrival)])
        if at.tzinfo is not UTC and at.utcoffset():
            # Functions of the event see one time, whatever its producer's zone.
            fields = msgspec.structs.replace(fields, **{self.source.time: at.astimezone(UTC)})
        keys = {}
        for entity, prefix, place in self._entities:
            keys[entity] = f"{prefix}{found[place]}"
        hashed = self._hash.copy()
        hashed.update(event_id.encode())
        late = arrival - time > self._lateness
        event = Event(
            self.source, event_id, hashed.digest(), time, arrival, late, keys, fields, unknown
        )
        return self._ruled(event) if self._rules else event

    def checked(self, values: dict[str, Any], arrival: int) -> Event:
        """Convert each field by itself; every fault at once, unknown fields passed over."""
        unknown = tuple(sorted(name for name in values if name not in self._checks))
        label = f"event {shown(values.get(self.source.id))}"
        found: dict[str, Any] = {}
        faults: list[Fault] = []
        invalid: list[str] = []
        accepted: list[str] = []
        for name, check in self._checks.items():
            value = values.get(name)
            if value is None:
                if check.required:
                    message = f"{label}: {name} is missing; expected {check.expected}"
                    faults.append(Fault("missing", name, message))
                continue
            found[name], fault, outcome = check.check(value)
            if fault and outcome == Invalid.QUARANTINE:
                faults.append(Fault(fault.reason, name, f"{label}: {fault.message}"))
            elif fault:
                (accepted if outcome == Invalid.ACCEPT else invalid).append(name)
        at = found.get(self.source.time)
        if faults and at is not None:
            time = time_to_us(at)
            if not self._earliest <= time <= arrival + self._ahead:
                faults.append(self._absurd(label, time, arrival))
        if faults:
            raise EventRejected(faults)
        event = self.event(self.struct(**found), arrival, unknown)
        return msgspec.structs.replace(
            event,
            invalid=tuple(dict.fromkeys((*invalid, *event.invalid))),
            accepted=(*accepted, *event.accepted),
        )

    def _ruled(self, event: Event) -> Event:
        """The event after the source's rules."""
        broken = [rule for rule in self._rules if _breaks(rule, event.fields)]
        refused = [rule for rule in broken if rule.if_broken == Invalid.QUARANTINE]
        if refused:
            names = [rule.holds.__name__ for rule in refused]
            message = f"event {event.id!r}: breaks the rule {{}}; expected it to hold"
            raise EventRejected([Fault("broken_rule", n, message.format(n)) for n in names])
        missing = [
            name for rule in broken if rule.if_broken == Invalid.MISSING for name in rule.fields
        ]
        return msgspec.structs.replace(
            event,
            fields=msgspec.structs.replace(event.fields, **dict.fromkeys(missing)),
            invalid=tuple(dict.fromkeys(missing)),
            accepted=tuple(r.holds.__name__ for r in broken if r.if_broken == Invalid.ACCEPT),
        )

    def _absurd(self, label: str, time: int, arrival: int) -> Fault:
        latest = us_to_text(arrival + self._ahead)
        message = (
            f"{label}: {self.source.time} is {_us_shown(time)}; expected a time from "
            f"{us_to_text(self._earliest)} to {latest}, its arrival plus {self.source.ahead}"
        )
        return Fault("absurd_time", self.source.time, message)


def _breaks(rule: Rule, fields: Any) -> bool:
    try:
        return rule.holds(fields) is False
    except Exception:  # noqa: BLE001 - the user's own code, and absent fields: it does not apply
        return False


def _parse_object(data: bytes) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(data.decode())
    except UnicodeDecodeError as error:
        message = f"event: byte {error.start} is not UTF-8; expected JSON in UTF-8"
        raise EventRejected([Fault("not_utf8", "", message)]) from None
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"event: not JSON ({error}); expected a JSON object"
        raise EventRejected([Fault("not_json", "", message)]) from None
    if not isinstance(values, dict):
        message = f"event: got JSON {type(values).__name__}; expected a JSON object"
        raise EventRejected([Fault("not_an_object", "", message)])
    return values


def _union(structs: tuple[Any, ...]) -> Any:
    union = structs[0]
    for struct in structs[1:]:
        union = union | struct
    return union
