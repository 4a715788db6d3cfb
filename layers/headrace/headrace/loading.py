"""Load a definition file: find every mistake in it at once, and give it a stable hash.

May import mistakes, definition and errors only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import inspect
import json
import sys
import textwrap
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from headrace.definition import LIFETIME, Definition
from headrace.errors import DefinitionError
from headrace.mistakes import mistakes

if TYPE_CHECKING:
    from collections.abc import Callable


def load_definition(path: Path) -> Definition:
    """Run a definition file and return its variable ``definition``, checked.

    Args:
        path: A Python file that assigns a ``Definition`` to ``definition``.

    Raises:
        DefinitionError: The file cannot be run, or the definition has mistakes (all of them).
    """
    spec = importlib.util.spec_from_file_location("headrace_definition", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DefinitionError([f"{path.name}: no such file; expected a Python definition file"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and inspect look their module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise DefinitionError([f"{path.name}: {_where(error, path)}{_what(error)}"]) from error
    return checked(getattr(module, "definition", None))


def checked(definition: object) -> Definition:
    """Return the definition, or raise with every mistake in it.

    Raises:
        DefinitionError: With one message per mistake: place, what is wrong, how to mend it.
    """
    if not isinstance(definition, Definition):
        got = type(definition).__name__
        msg = f"variable `definition`: got {got}; expected `definition = Definition(...)`"
        raise DefinitionError([msg])
    try:
        found = list(mistakes(definition))
    except Exception as error:  # what the checks themselves stumble over is of a wrong type
        msg = f"definition: {error!r}; expected the types that headrace.definition declares"
        raise DefinitionError([msg]) from error
    if found:
        raise DefinitionError(found)
    return definition


def definition_hash(definition: Definition) -> str:
    """Sixteen hex digits that change when, and only when, the definition's meaning may change.

    Covers all values and the source text of functions with the module-level names they use;
    neither comments and layout of the rest of the file nor its path.
    """
    text = json.dumps(_canonical(definition), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def function_digest(function: Callable[..., Any]) -> str:
    """Sixteen hex digits that change when what a function does may change."""
    return hashlib.sha256(
        json.dumps(_function_text(cast("FunctionType", function), set())).encode()
    ).hexdigest()[:16]


def _where(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"line {lines[-1]}: " if lines else ""


def _what(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.text:
        return f"{error.msg}: {error.text.strip()}"
    return f"{type(error).__name__}: {error}"


def _canonical(value: Any) -> Any:
    if isinstance(value, FunctionType):
        return {"function": _function_text(value, set())}
    if dataclasses.is_dataclass(value):
        said = {
            each.name: _canonical(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if not _is_default(each, getattr(value, each.name))
        }
        return {type(value).__name__: said}
    if isinstance(value, msgspec.Struct):
        return {type(value).__name__: _said(value)}
    if isinstance(value, timedelta):
        return "lifetime" if value == LIFETIME else value // timedelta(microseconds=1)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(each) for each in value]
    return float(value) if isinstance(value, float) else value


def _said(value: msgspec.Struct) -> dict[str, Any]:
    """Options that were not left alone, as of dataclasses."""
    names, defaults = value.__struct_fields__, value.__struct_defaults__
    left_alone = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    found = {name: getattr(value, name) for name in names}
    return {
        name: _canonical(each)
        for name, each in found.items()
        if name not in left_alone or each != left_alone[name]
    }


def _is_default(part: dataclasses.Field[Any], value: Any) -> bool:
    """Whether an option was left alone: those that a later version adds must not change hashes."""
    if part.default_factory is not dataclasses.MISSING:
        return bool(value == part.default_factory())
    if isinstance(value, list):  # an empty list says no more than an empty tuple
        value = tuple(value)
    return part.default is not dataclasses.MISSING and bool(value == part.default)


def _function_text(function: FunctionType, seen: set[int]) -> list[str]:
    """The function's source and, following names, what else of its module it uses."""
    seen.add(id(function))
    texts = [textwrap.dedent(inspect.getsource(function))]
    for name, used in sorted(_used(function).items()):
        texts += _used_text(name, used, function.__module__, seen)
    return texts


def _used(function: FunctionType) -> dict[str, Any]:
    """Name -> value of the globals, enclosing variables and defaults that a function uses."""
    names = [n for n in _names(function.__code__) if function.__globals__.get(n) is not None]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return (
        {name: function.__globals__[name] for name in names}
        | {name: cell.cell_contents for name, cell in cells}
        | {f"default {number}": value for number, value in enumerate(defaults)}
    )


def _used_text(name: str, used: Any, home: str, seen: set[int]) -> list[str]:
    """What a value says of the definition's meaning; never anything like an address."""
    if isinstance(used, FunctionType):
        return [] if used.__module__ != home or id(used) in seen else _function_text(used, seen)
    if isinstance(used, dict):
        pairs = [[repr(key), *_used_text("", each, home, seen)] for key, each in used.items()]
        return [f"{name}={sorted(pairs)}"]
    if isinstance(used, (set, frozenset)):
        return [f"{name}={sorted(map(repr, used))}"]
    if isinstance(used, (list, tuple)) and any(map(callable, used)):
        return [f"{name}={[_used_text('', each, home, seen) for each in used]}"]
    if isinstance(used, (ModuleType, type)) or " at 0x" in repr(used):
        return []
    return [f"{name}={used!r}"]


def _names(code: CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_names, inner))
