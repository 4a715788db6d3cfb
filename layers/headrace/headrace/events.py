"""Bytes to events: decoding, checks, and the reasons for which a record is quarantined.

The fast path is one strict msgspec decode; only a record that it refuses is looked at field by
field, so that every fault is found at once. May import definition and errors.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headrace.definition import Definition, Flag, Number, Source
from headrace.definition import Field as FieldKind
from headrace.errors import EventRejected, Fault

MAX_EVENT_BYTES = 64 * 1024
MAX_ID_LENGTH = 256
LARGEST_NUMBER = 1e100  # of a field without bounds: sums of squares still fit a float
_SHOWN = 60

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
)
"""Why a record can be refused: the closed list behind ``Fault.reason``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Id = (
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
)


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


class Event(msgspec.Struct, frozen=True):
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


def microseconds(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND


def time_to_us(time: datetime) -> int:
    """An aware time as microseconds UTC since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def us_to_time(us: int) -> datetime:
    """Microseconds UTC since 1970 as an aware time."""
    return _EPOCH + timedelta(microseconds=us)


def us_to_text(us: int) -> str:
    """Microseconds UTC since 1970 as ISO 8601 text that ends in Z."""
    return us_to_time(us).isoformat().replace("+00:00", "Z")


def _us_shown(us: int) -> str:
    """An instant for a message, which may lie beyond the years that a datetime holds."""
    try:
        return us_to_text(us)
    except OverflowError:
        return "before the year 1" if us < 0 else "after the year 9999"


def id_digest(source: str, event_id: str) -> bytes:
    """Six bytes that stand for a source's event in state (48 bits of BLAKE2b)."""
    return blake2b(f"{source}#{event_id}".encode(), digest_size=6).digest()


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
        self._by_struct = {typed.struct: typed for typed in self._sources.values()}

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
        return self._by_struct[type(fields)].event(fields, arrival, ())

    def _decode_slowly(self, data: bytes, arrival: int) -> Event:
        values = _parse_object(data)
        name = values.pop("source", None)
        typed = self._sources.get(name) if isinstance(name, str) else None
        if typed is None:
            known = ", ".join(repr(each) for each in self._sources)
            message = f"event: source is {_shown(name)}; expected one of {known}"
            raise EventRejected([Fault("unknown_source", "source", message)])
        fields, unknown = typed.check(values, arrival)
        return typed.event(fields, arrival, unknown)


class _Typed:
    """One source with the msgspec types made from it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loose: dict[str, Any] = {source.id: int | str, source.time: datetime}
        self.strict: dict[str, Any] = {
            source.id: Id,
            source.time: Annotated[datetime, Meta(tz=True)],
        }
        self.required = {source.id, source.time, *source.entities}
        for name in source.entities:
            self.loose[name], self.strict[name] = int | str, Id
        for name, kind in source.fields.items():
            self.loose[name], self.strict[name] = _types(kind)
            if kind.required:
                self.required.add(name)
        self.struct = msgspec.defstruct(
            f"{source.name}_event",
            [(name, kind) for name, kind in self.strict.items() if name in self.required]
            + [(n, k | None, None) for n, k in self.strict.items() if n not in self.required],
            tag=source.name,
            tag_field="source",
            forbid_unknown_fields=True,
            frozen=True,
            kw_only=True,
        )
        self._earliest = time_to_us(source.not_before)
        self._ahead = microseconds(source.ahead)
        self._lateness = microseconds(source.lateness)
        self._entities = [(name, entity.name) for name, entity in source.entities.items()]

    def event(self, fields: Any, arrival: int, unknown: tuple[str, ...]) -> Event:
        at = getattr(fields, self.source.time)
        time = (at - _EPOCH) // _MICROSECOND
        event_id = str(getattr(fields, self.source.id))
        if not self._earliest <= time <= arrival + self._ahead:
            raise EventRejected([self._absurd(f"event {event_id!r}", time, arrival)])
        if at.utcoffset():  # functions of the event see one time, whatever its producer's zone
            fields = msgspec.structs.replace(fields, **{self.source.time: at.astimezone(UTC)})
        keys = {entity: f"{entity}#{getattr(fields, name)}" for name, entity in self._entities}
        digest = id_digest(self.source.name, event_id)
        late = arrival - time > self._lateness
        return Event(self.source, event_id, digest, time, arrival, late, keys, fields, unknown)

    def _absurd(self, label: str, time: int, arrival: int) -> Fault:
        latest = us_to_text(arrival + self._ahead)
        message = (
            f"{label}: {self.source.time} is {_us_shown(time)}; expected a time from "
            f"{us_to_text(self._earliest)} to {latest}, its arrival plus {self.source.ahead}"
        )
        return Fault("absurd_time", self.source.time, message)

    def check(self, values: dict[str, Any], arrival: int) -> tuple[Any, tuple[str, ...]]:
        """Convert each field by itself; every fault at once, unknown fields passed over."""
        unknown = tuple(sorted(name for name in values if name not in self.strict))
        label = f"event {_shown(values.get(self.source.id))}"
        found, faults = {}, []
        for name in self.strict:
            value = values.get(name)
            if value is None:
                if name in self.required:
                    message = f"{label}: {name} is missing; expected {self._expected(name)}"
                    faults.append(Fault("missing", name, message))
                continue
            try:
                found[name] = self._convert(name, value)
            except EventRejected as error:
                faults += [Fault(f.reason, name, f"{label}: {f.message}") for f in error.faults]
        if faults and self.source.time in found:
            time = time_to_us(found[self.source.time])
            if not self._earliest <= time <= arrival + self._ahead:
                faults.append(self._absurd(label, time, arrival))
        if faults:
            raise EventRejected(faults)
        return self.struct(**found), unknown

    def _convert(self, name: str, value: Any) -> Any:
        message = f"{name} is {_shown(value)}; expected {self._expected(name)}"
        try:
            typed = msgspec.convert(value, self.loose[name])
        except msgspec.ValidationError:
            raise EventRejected([Fault("wrong_type", name, message)]) from None
        if name == self.source.time and typed.tzinfo is None:
            raise EventRejected([Fault("naive_time", name, message)])
        try:
            return msgspec.convert(value, self.strict[name])
        except msgspec.ValidationError:
            raise EventRejected([Fault("out_of_bounds", name, message)]) from None

    def _expected(self, name: str) -> str:
        if name == self.source.time:
            return "ISO 8601 with a UTC offset, such as '2024-05-01T12:00:00Z'"
        if name in self.source.fields:
            return _description(self.source.fields[name])
        return f"an integer of 64 bits or text of 1 to {MAX_ID_LENGTH} characters"


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


def _types(kind: FieldKind) -> tuple[Any, Any]:
    if isinstance(kind, Number):
        low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
        high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
        return float, Annotated[float, Meta(ge=low, le=high)]
    if isinstance(kind, Flag):
        return bool | Literal[0, 1], bool | Literal[0, 1]
    if kind.one_of:
        return str, Literal[kind.one_of]
    return str, Annotated[str, Meta(max_length=kind.max_length)]


def _description(kind: FieldKind) -> str:
    if isinstance(kind, Number):
        bounds = [
            f"at least {kind.at_least:g}" if kind.at_least is not None else "",
            f"at most {kind.at_most:g}" if kind.at_most is not None else "",
        ]
        return " ".join(["a number", " and ".join(filter(None, bounds))]).strip()
    if isinstance(kind, Flag):
        return "true or false (or 1 or 0)"
    if kind.one_of:
        return f"one of {', '.join(map(repr, kind.one_of))}"
    return f"text of at most {kind.max_length} characters"


def _union(structs: tuple[Any, ...]) -> Any:
    union = structs[0]
    for struct in structs[1:]:
        union = union | struct
    return union


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
