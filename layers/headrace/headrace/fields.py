"""Types and bounds of an event's fields: a part of what users write. May import nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric field with inclusive bounds, in the unit that the producer sends."""

    at_least: float | None = None
    at_most: float | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that is true or false, or 1 or 0."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A text field, at most ``max_length`` characters, optionally one of a few values."""

    max_length: int = 256
    one_of: tuple[str, ...] = ()
    required: bool = False


Field = Number | Flag | Text
