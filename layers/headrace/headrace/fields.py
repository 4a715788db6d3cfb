"""What an event brings: entities, and types, bounds and rules of its fields; users write it.

May import nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that events are about and that has state: a customer, a terminal."""

    name: str


class Invalid(StrEnum):
    """What becomes of a value that breaks its field's type or bounds, or of a broken rule."""

    QUARANTINE = "quarantine"  # the event is refused
    MISSING = "missing"  # the value is absent with cause invalid; the event is scored
    ACCEPT = "accept"  # it is taken as it came, and counted; of a wrong type it is missing

    @property
    def of_no_value(self) -> Invalid:
        """The same for what has no value that could be accepted."""
        return Invalid.MISSING if self is Invalid.ACCEPT else self


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric field with inclusive bounds, in the unit that the producer sends.

    A JSON number; with ``from_text`` also text that is one, such as "12.50": digits with an
    optional sign, fraction and exponent, nothing around it. True and false are no numbers.
    """

    at_least: float | None = None
    at_most: float | None = None
    required: bool = False
    if_invalid: str = Invalid.QUARANTINE
    from_text: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that is true or false, or 1 or 0."""

    required: bool = False
    if_invalid: str = Invalid.QUARANTINE


@dataclass(frozen=True, slots=True)
class Text:
    """A text field, at most ``max_length`` characters, optionally one of a few values."""

    max_length: int = 256
    one_of: tuple[str, ...] = ()
    required: bool = False
    if_invalid: str = Invalid.QUARANTINE


Field = Number | Flag | Text


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between the fields of an event.

    Attributes:
        holds: A named function of the event; only the answer False breaks the rule. Where it
            raises, as over an absent field, the rule does not apply.
        if_broken: What becomes of the event then.
        fields: The fields that are missing then, where that is what becomes of it.
    """

    holds: Callable[[Any], bool]
    if_broken: str = Invalid.QUARANTINE
    fields: tuple[str, ...] = ()
