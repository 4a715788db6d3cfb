"""Names that a definition's own functions use of events and features, and that there are not.

At run time a name that is not there is a missing value, in every event: what a function with a
misspelt one computes would be imputed for ever, and no error would say so. So functions are read
when the definition is loaded. What cannot be read (no source, a lambda amid other code) is passed
over. May import source_mistakes and definition.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

from headrace.definition import Rule
from headrace.source_mistakes import expected_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.definition import Definition, Source


class _Names(NamedTuple):
    """What a function uses of its parameters: attributes of the first, keys of the second."""

    attributes: dict[str, None]
    keys: dict[str, None]


def function_mistakes(definition: Definition) -> Iterator[str]:
    """Every name that request features, filters and rules use and that there is not."""
    known = list(definition.stored_features)
    for function in definition.request_features:
        place, names = f"request feature {function.__name__!r}", _names(function)
        yield from _of_event(place, names, definition.scored)
        for key in names.keys:
            if key not in known:
                yield f"{place}: features[{key!r}] is unknown; {expected_of(key, known)}"
        known.append(function.__name__)
    for view in definition.views:
        if isinstance(view.where, FunctionType):
            yield from _of_event(f"view {view.name!r}: where", _names(view.where), view.source)
    for source in definition.sources:
        for rule in (each for each in source.rules if isinstance(each, Rule)):
            place = f"source {source.name!r}: rule {getattr(rule.holds, '__name__', '?')!r}"
            yield from _of_event(place, _names(rule.holds), source)


def _of_event(place: str, names: _Names, source: Source) -> Iterator[str]:
    known = [source.id, source.time, *source.entities, *source.fields]
    for name in names.attributes:
        if name not in known and not name.startswith("__"):
            what = f"{place}: event.{name}, but {source.name!r} has no such field"
            yield f"{what}; {expected_of(name, known)}"


def _names(function: object) -> _Names:
    """The names that a function of (event) or (event, features) uses of these."""
    found = _Names({}, {})
    tree = _parsed(function)
    if tree is None:
        return found
    parameters: Sequence[str | None] = [*(each.arg for each in tree.args.args[:2]), None, None]
    event, features = parameters[:2]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            if node.id in (event, features):
                return _Names({}, {})  # from here on it stands for something else
        elif isinstance(node, ast.Attribute) and _is(node.value, event):
            found.attributes[node.attr] = None
        elif isinstance(node, ast.Subscript) and _is(node.value, features):
            _note_text(found.keys, node.slice)
        elif isinstance(node, ast.Call) and _is_get(node.func, features) and node.args:
            _note_text(found.keys, node.args[0])
    return found


def _parsed(function: object) -> ast.FunctionDef | None:
    """The function's syntax tree; None where its source cannot be had."""
    if not isinstance(function, FunctionType):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, ValueError):
        return None
    first = tree.body[0]
    return first if isinstance(first, ast.FunctionDef) else None


def _is(node: ast.expr, name: str | None) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_get(node: ast.expr, name: str | None) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "get" and _is(node.value, name)


def _note_text(names: dict[str, None], node: ast.expr) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        names[node.value] = None
