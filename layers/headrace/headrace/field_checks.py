"""One field of an event: what it may hold, and what is wrong with a value.

May import fields and errors.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from headrace.errors import Fault
from headrace.fields import Field, Flag, Invalid, Number

MAX_ID_LENGTH = 256
LARGEST_NUMBER = 1e100  # of a field without bounds: sums of squares still fit a float
_SHOWN = 60
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

Id = (
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
)


class Checked(NamedTuple):
    """What became of a value.

    Attributes:
        value: Of the field's type; None where it is missing.
        fault: What is wrong with it; None where nothing is.
        outcome: What becomes of it then.
    """

    value: Any
    fault: Fault | None = None
    outcome: str = Invalid.QUARANTINE


class FieldCheck:
    """A field made ready to check values of it.

    Attributes:
        required: Whether an event without it is refused.
        strict: The type that a valid value has, for msgspec.
        expected: The same in words.
    """

    def __init__(self, name: str, kind: Field | type) -> None:
        """Take a field of a source, ``datetime`` for its time, or ``int`` for an id."""
        self.name, self._kind = name, kind
        self._outcome: str = Invalid.QUARANTINE
        self.required, self._from_text = True, False
        self._loose: Any
        self.strict: Any
        if kind is datetime:
            self._loose, self.strict = datetime, Annotated[datetime, Meta(tz=True)]
            self.expected = "ISO 8601 with a UTC offset, such as '2024-05-01T12:00:00Z'"
        elif isinstance(kind, type):
            self._loose, self.strict = int | str, Id
            self.expected = f"an integer of 64 bits or text of 1 to {MAX_ID_LENGTH} characters"
        else:
            self._loose, self.strict = _types(kind)
            self.expected = _description(kind)
            self.required, self._outcome = kind.required, kind.if_invalid
            self._from_text = isinstance(kind, Number) and kind.from_text

    def check(self, value: Any) -> Checked:
        """Convert a value that is there, and say what is wrong with it."""
        if self._from_text and isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        typed, reason = self._convert(value)
        if not reason:
            return Checked(typed)
        message = f"{self.name} is {shown(value)}; expected {self.expected}"
        fault = Fault(reason, self.name, message)
        if self._outcome == Invalid.ACCEPT and reason == "out_of_bounds" and _storable(typed):
            return Checked(typed, fault, self._outcome)
        return Checked(None, fault, Invalid(self._outcome).of_no_value)

    def _convert(self, value: Any) -> tuple[Any, str]:
        """The value in its type, and the reason why it is not valid, or ""."""
        try:
            typed = msgspec.convert(value, self._loose)
        except msgspec.ValidationError:
            return None, "wrong_type"
        if self._kind is datetime and typed.tzinfo is None:
            return None, "naive_time"
        try:
            return msgspec.convert(value, self.strict), ""
        except msgspec.ValidationError:
            return typed, "out_of_bounds"


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _storable(value: Any) -> bool:
    return not isinstance(value, float) or abs(value) <= LARGEST_NUMBER


def _types(kind: Field) -> tuple[Any, Any]:
    """A field's type without and with its bounds."""
    if isinstance(kind, Number):
        low = -LARGEST_NUMBER if kind.at_least is None else kind.at_least
        high = LARGEST_NUMBER if kind.at_most is None else kind.at_most
        return float, Annotated[float, Meta(ge=low, le=high)]
    if isinstance(kind, Flag):
        return bool | Literal[0, 1], bool | Literal[0, 1]
    if kind.one_of:
        return str, Literal[kind.one_of]
    return str, Annotated[str, Meta(max_length=kind.max_length)]


def _description(kind: Field) -> str:
    if isinstance(kind, Number):
        bounds = [
            f"at least {kind.at_least:g}" if kind.at_least is not None else "",
            f"at most {kind.at_most:g}" if kind.at_most is not None else "",
        ]
        what = "a number, or text that is one," if kind.from_text else "a number"
        return " ".join([what, " and ".join(filter(None, bounds))]).strip(" ,")
    if isinstance(kind, Flag):
        return "true or false (or 1 or 0)"
    if kind.one_of:
        return f"one of {', '.join(map(repr, kind.one_of))}"
    return f"text of at most {kind.max_length} characters"
