"""Filter criteria of an event source mapping: which records its function gets to see.

A pattern names fields and, for each, rules of which one must hold; all fields must hold, and any
of a mapping's patterns lets a record through. Played are `data` (the record's JSON body) and
`partitionKey`, with the operators that Lambda documents; anything else is refused.
Source: AWS Lambda Developer Guide, "Control which events Lambda sends to your function" and
"Using event filtering with a Kinesis event source"; Amazon EventBridge User Guide, "Comparison
operators for use in event patterns".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from headrace.local import NotEmulated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.local.records import StreamRecord

MOST_FILTERS = 10  # five, and ten on request
_FIELDS = ("data", "partitionKey")
_COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": lambda got, bound: got == bound,
    "<": lambda got, bound: got < bound,
    "<=": lambda got, bound: got <= bound,
    ">": lambda got, bound: got > bound,
    ">=": lambda got, bound: got >= bound,
}


class _Digits(NamedTuple):
    """A number as it was written: to AWS, 300 and 300.0 are not equal."""

    text: str


Test: TypeAlias = Callable[[Any], bool]
# Of the plain values of one field: none where it is absent, several where it is an array.
_Rule: TypeAlias = Callable[["list[Any]"], bool]


class RecordFilter:
    """Lets records through.

    Args:
        patterns: JSON of each pattern; none lets every record through.

    Raises:
        NotEmulated: A pattern is wrong, or asks for what local mode does not play.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MOST_FILTERS:
            msg = f"filter criteria: got {len(patterns)} filters; AWS takes {MOST_FILTERS} at most"
            raise NotEmulated(msg)
        self._patterns = [_compile(pattern) for pattern in patterns]

    def passes(self, record: StreamRecord) -> bool:
        """Whether the function is to get the record.

        A record whose data is not JSON passes no pattern that looks at the data.
        """
        if not self._patterns:
            return True
        body = {"partitionKey": record.partition_key} | _parsed(record.data)
        return any(test(body) for test in self._patterns)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        return {"data": _parse_json(data.decode())}
    except (ValueError, RecursionError):
        return {}


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_int=_Digits, parse_float=_Digits, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _compile(pattern: str) -> Test:
    try:
        parsed = _parse_json(pattern)
    except ValueError as error:
        msg = f"filter {pattern!r}: it is not JSON ({error})"
        raise NotEmulated(msg) from error
    _require_fields(parsed, pattern)
    return _object(parsed, "filter")


def _require_fields(parsed: Any, pattern: str) -> None:
    if not isinstance(parsed, dict) or not set(parsed) <= {*_FIELDS, "$or"}:
        raise _refused(pattern, "filter", "an object with " + " and ".join(_FIELDS))
    if not isinstance(parsed.get("data", {}), dict):
        # AWS refuses it when the mapping is made.
        raise _refused(parsed["data"], "filter on data", "an object, such as {'amount': [1]}")
    either = parsed.get("$or", [])
    for each in either if isinstance(either, list) else []:
        _require_fields(each, pattern)


def _object(pattern: dict[str, Any], where: str) -> Test:
    """All fields of an object."""
    if not pattern:
        raise _refused(pattern, where, "at least one field")
    tests = [
        _either(part, where) if name == "$or" else _field(name, part, f"{where} on {name}")
        for name, part in pattern.items()
    ]
    return lambda value: isinstance(value, dict) and all(test(value) for test in tests)


def _either(patterns: Any, where: str) -> Test:
    fields = isinstance(patterns, list) and all(isinstance(each, dict) for each in patterns)
    if not fields or len(patterns) < 2:
        raise _refused(patterns, f"{where}, $or", "two objects or more")
    tests = [_object(each, where) for each in patterns]
    return lambda value: any(test(value) for test in tests)


def _field(name: str, part: Any, where: str) -> Test:
    if isinstance(part, dict):
        inner = _object(part, where)
        return lambda value: any(inner(each) for each in _elements(value.get(name)))
    if not isinstance(part, list) or not part:
        raise _refused(part, where, "a list of rules, such as ['a', {'prefix': 'b'}]")
    rules = [_rule(each, where) for each in part]
    return lambda value: any(rule(_leaves(value, name)) for rule in rules)


def _elements(value: Any) -> list[Any]:
    """The value, or what it holds where it is an array: any of them may match."""
    if not isinstance(value, list):
        return [value]
    return [each for element in value for each in _elements(element)]


def _leaves(value: dict[str, Any], name: str) -> list[Any]:
    found = _elements(value[name]) if name in value else []
    return [each for each in found if not isinstance(each, dict)]


def _rule(rule: Any, where: str) -> _Rule:
    if not isinstance(rule, dict):
        if isinstance(rule, list):
            raise _refused(rule, where, "a plain value or an operator")
        return lambda leaves: any(_same(each, rule) for each in leaves)
    if len(rule) != 1 or next(iter(rule)) not in _OPERATORS:
        raise _refused(rule, where, "one of " + ", ".join(sorted(_OPERATORS)))
    ((operator, operand),) = rule.items()
    return _OPERATORS[operator](operand, f"{where}, {operator}")


def _same(got: Any, wanted: Any) -> bool:
    return type(got) is type(wanted) and bool(got == wanted)


def _exists(operand: Any, where: str) -> _Rule:
    if not isinstance(operand, bool):
        raise _refused(operand, where, "true or false")
    return lambda leaves: bool(leaves) == operand


def _anything_but(operand: Any, where: str) -> _Rule:
    but = operand if isinstance(operand, list) else [operand]
    if not but or not all(type(each) in {str, _Digits} for each in but):
        raise _refused(operand, where, "a text, a number or a list of them")
    return lambda leaves: any(not any(_same(got, each) for each in but) for got in leaves)


def _numeric(operand: Any, where: str) -> _Rule:
    pairs = list(zip(operand[::2], operand[1::2], strict=False)) if _paired(operand) else []
    bounds = [(_COMPARISONS.get(op), _number(bound)) for op, bound in pairs]
    known = [(holds, bound) for holds, bound in bounds if holds and bound is not None]
    if not known or len(known) < len(bounds):
        raise _refused(operand, where, "comparisons, such as ['>', 0, '<=', 5]")

    def holds_for(got: Decimal | None) -> bool:
        return got is not None and all(holds(got, bound) for holds, bound in known)

    return lambda leaves: any(holds_for(_number(got)) for got in leaves)


def _number(value: Any) -> Decimal | None:
    """The value of a number; None for anything else, and for an exponent beyond all bounds."""
    try:
        return Decimal(value.text) if isinstance(value, _Digits) else None
    except InvalidOperation:
        return None


def _paired(operand: Any) -> bool:
    return (
        isinstance(operand, list)
        and len(operand) in {2, 4}
        and all(isinstance(each, str) for each in operand[::2])
    )


def _text_rule(holds: Callable[[str, str], bool]) -> Callable[[Any, str], _Rule]:
    def compiled(operand: Any, where: str) -> _Rule:
        if not isinstance(operand, str):
            raise _refused(operand, where, "a text")
        return lambda leaves: any(isinstance(got, str) and holds(got, operand) for got in leaves)

    return compiled


_OPERATORS: dict[str, Callable[[Any, str], _Rule]] = {
    "exists": _exists,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "prefix": _text_rule(str.startswith),
    "suffix": _text_rule(str.endswith),
    "equals-ignore-case": _text_rule(lambda got, wanted: got.lower() == wanted.lower()),
}


def _refused(got: Any, where: str, expected: str) -> NotEmulated:
    return NotEmulated(f"{where}: got {got!r}; local mode plays {expected}")


def passing(records: Iterable[StreamRecord], chosen: RecordFilter) -> list[StreamRecord]:
    """Those of the records that the function is to get, in order."""
    return [record for record in records if chosen.passes(record)]
