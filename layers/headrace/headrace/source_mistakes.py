"""The mistakes that a source of a definition can have. May import definition only."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from datetime import timedelta
from math import isfinite
from types import FunctionType
from typing import TYPE_CHECKING

from headrace.definition import Flag, Invalid, Number, Rule, Source, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_OUTCOMES = ", ".join(Invalid)


def source_mistakes(source: Source) -> Iterator[str]:
    """Every mistake in a source whose parts are of their types."""
    place = f"source {source.name!r}"
    roles = Counter([source.id, source.time, *source.entities, *source.fields, "source"])
    for name, times in roles.items():
        if not NAME.match(name):
            yield f"{place}: field {name!r}; expected lower case letters, digits and underscores"
        if times > 1:
            yield f"{place}: field {name!r} has {times} roles; give each role a field of its own"
    if not NAME.match(source.name):
        yield f"{place}: expected lower case letters, digits and underscores as its name"
    yield from _entity_mistakes(place, source)
    for name, kind in source.fields.items():
        yield from _field_mistakes(f"{place}: field {name!r}", kind)
    for rule in source.rules:
        yield from _rule_mistakes(place, source, rule)
    if source.revised_by and not isinstance(source.fields.get(source.revised_by), Number):
        yield f"{place}: revised_by is {source.revised_by!r}; expected one of its Number fields"
    yield from _time_mistakes(place, source)


def _entity_mistakes(place: str, source: Source) -> Iterator[str]:
    for name, each in source.entities.items():
        if not NAME.match(each.name):
            yield f"{place}: entities[{name!r}] is {each!r}; expected Entity('lower_case_name')"
    for entity, times in Counter(source.entities.values()).items():
        if times > 1:
            yield f"{place}: {times} fields hold a {entity.name!r}; declare an entity for each role"


def _time_mistakes(place: str, source: Source) -> Iterator[str]:
    if not timedelta(0) <= source.lateness <= timedelta(days=366):
        yield f"{place}: lateness is {source.lateness}; expected 0 to 366 days"
    if source.ahead < timedelta(0):
        yield f"{place}: ahead is {source.ahead}; expected 0 or more"
    if source.not_before.tzinfo is None or source.not_before.timestamp() < 0:
        yield f"{place}: not_before is {source.not_before}; expected an aware time from 1970 on"


def _field_mistakes(place: str, kind: object) -> Iterator[str]:
    if not isinstance(kind, (Number, Flag, Text)):
        yield f"{place} is {kind!r}; expected Number(...), Flag() or Text(...)"
        return
    if kind.if_invalid not in list(Invalid):
        yield f"{place}: if_invalid is {kind.if_invalid!r}; expected one of {_OUTCOMES}"
    elif kind.required and kind.if_invalid != Invalid.QUARANTINE:
        yield f"{place}: required, so what is invalid cannot be missing; drop one of both"
    if isinstance(kind, Number) and not all(map(_bound, (kind.at_least, kind.at_most))):
        got = f"{kind.at_least!r} and {kind.at_most!r}"
        yield f"{place}: bounds {got}; expected finite numbers or None"
    elif isinstance(kind, Number) and kind.at_least is not None and kind.at_most is not None:
        if kind.at_least > kind.at_most:
            yield f"{place}: at_least {kind.at_least} is above at_most {kind.at_most}; swap them"
    elif isinstance(kind, Text) and not isinstance(kind.one_of, tuple):
        yield f"{place}: one_of is {kind.one_of!r}; expected a tuple of texts, such as ('a', 'b')"
    elif isinstance(kind, Text) and not all(isinstance(each, str) for each in kind.one_of):
        yield f"{place}: one_of is {kind.one_of!r}; expected texts only, such as ('1', '2')"
    elif isinstance(kind, Text) and kind.max_length < 1:
        yield f"{place}: max_length is {kind.max_length}; expected 1 or more"


def _bound(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and isfinite(value))


def expected_of(name: str, known: Sequence[str]) -> str:
    """What a misspelt name should be: the one that it resembles, or any that there is."""
    from difflib import get_close_matches  # here: few definitions have mistakes

    alike = get_close_matches(name, known, 1, 0.75)
    return f"did you mean {alike[0]!r}?" if alike else f"expected one of {', '.join(known)}"


def _rule_mistakes(place: str, source: Source, rule: object) -> Iterator[str]:
    if not isinstance(rule, Rule):
        yield f"{place}: rule {rule!r}; expected Rule(function of the event)"
        return
    if not isinstance(rule.holds, FunctionType) or rule.holds.__name__ == "<lambda>":
        yield f"{place}: rule {rule.holds!r}; expected a named function of the event"
        return
    place = f"{place}: rule {rule.holds.__name__!r}"
    if len(inspect.signature(rule.holds).parameters) != 1:
        yield f"{place}: expected one parameter, the event"
    if rule.if_broken not in list(Invalid):
        yield f"{place}: if_broken is {rule.if_broken!r}; expected one of {_OUTCOMES}"
    if (rule.if_broken == Invalid.MISSING) != bool(rule.fields):
        yield f"{place}: fields are {rule.fields!r}; expected those that go missing by it"
    if not isinstance(rule.fields, (list, tuple)):
        yield f"{place}: fields is {rule.fields!r}; expected a tuple of names, such as ('amount',)"
        return
    for name in rule.fields:
        kind = source.fields.get(name)
        if kind is None or kind.required:
            yield f"{place}: field {name!r}; expected a field of the source that is not required"
