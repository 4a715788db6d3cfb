"""The mistakes that a definition's imputation can have. May import definition and policies."""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, get_args

from headrace.definition import (
    INDICATOR,
    Constant,
    Definition,
    FirstOf,
    LastKnown,
    RunningMean,
    window_label,
)
from headrace.fields import Entity, Flag, Text
from headrace.policies import Fitted, FromEntity, Policy, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICIES = get_args(Policy)


def imputation_mistakes(definition: Definition) -> Iterator[str]:
    """Every mistake in what the definition says of imputation."""
    views = {view.name: view.features for view in definition.views}
    views |= {table.name: table.features for table in definition.tables}
    known = {*definition.columns, *views}
    named = {**definition.imputation, "default": definition.default_imputation}
    for name, policy in named.items():
        if name == "default":
            yield from _policy_mistakes("default_imputation", definition, (name,), policy)
        elif name in known:
            columns = views.get(name, (name,))
            yield from _policy_mistakes(f"imputation of {name!r}", definition, columns, policy)
        else:
            yield f"imputation: {name!r} is {_kind_of(definition, name)}"


def _kind_of(definition: Definition, name: str) -> str:
    """What a name is that no policy can be for, and what to do."""
    if name in definition.inputs and name.endswith(INDICATOR):
        return "an indicator, which is never absent; leave it out"
    if isinstance(definition.scored.fields.get(name), Text):
        return "text, which is no model's input; leave it out"
    if name in definition.scored.fields:
        return "a field, but no input; add it to inputs or leave it out"
    return "neither feature, input, view nor table; mend the name"


def _policy_mistakes(
    place: str, definition: Definition, columns: tuple[str, ...], policy: object
) -> Iterator[str]:
    if not isinstance(policy, _POLICIES):
        yield f"{place}: {_no_policy(policy)}"
        return
    if isinstance(policy, FirstOf) and not isinstance(policy.policies, (list, tuple)):
        yield f"{place}: {policy!r}; expected FirstOf([...]), with a list of policies"
        return
    tried = steps(policy)
    if not tried or any(isinstance(each, FirstOf) for each in tried):
        yield f"{place}: {policy!r}; expected FirstOf([...]) of single policies, at least one"
        return
    if isinstance(tried[-1], FromEntity):
        last = f"{tried[-1]!r} may find nothing"
        yield f"{place}: {last}; put it into FirstOf([...]) before one that always answers"
    for each in tried[:-1]:
        if isinstance(each, _POLICIES) and not isinstance(each, FromEntity):
            yield f"{place}: {each!r} always answers; nothing after it in FirstOf is ever tried"
    for each in tried:
        yield from _step_mistakes(place, definition, columns, each)


def _step_mistakes(
    place: str, definition: Definition, columns: tuple[str, ...], policy: Policy
) -> Iterator[str]:
    if not isinstance(policy, _POLICIES):
        yield f"{place}: {_no_policy(policy)}"
    elif isinstance(policy, Constant) and not _finite(policy.value):
        yield f"{place}: {policy!r}; expected a finite number"
    elif isinstance(policy, Fitted):
        yield from _group_mistakes(place, definition, policy)
    elif isinstance(policy, (LastKnown, RunningMean)) and not _typed(policy):
        yield f"{place}: {policy!r}; expected an Entity and a duration, such as days(7)"
    elif isinstance(policy, (LastKnown, RunningMean)) and set(columns) - {*_fields(definition)}:
        name = type(policy).__name__
        yield f"{place}: {name} is of a field of the event; name it for fields, one by one"
    elif isinstance(policy, FromEntity):
        for column in columns:
            yield from _feature_mistakes(place, definition, column, policy)


def _fields(definition: Definition) -> Iterator[str]:
    """Columns that are fields of the scored source."""
    return (name for name in definition.columns if name in definition.scored.fields)


def _typed(policy: LastKnown | RunningMean) -> bool:
    return isinstance(policy.entity, Entity) and isinstance(policy.within, timedelta)


def _no_policy(given: object) -> str:
    call = f"{given.__name__}(...)" if isinstance(given, type) and given in _POLICIES else ""
    return f"{given!r}; expected {call or 'Constant(x), TrainingMean() ...'}"


def _group_mistakes(place: str, definition: Definition, policy: Fitted) -> Iterator[str]:
    source = definition.scored
    groups = [n for n, kind in source.fields.items() if isinstance(kind, (Text, Flag))]
    groups += source.entities
    if policy.by and policy.by not in groups:
        known = ", ".join(groups)
        yield f"{place}: by is {policy.by!r}; expected a Text, Flag or entity field: {known}"
    if policy.by and policy.least < 1:
        yield f"{place}: least is {policy.least}; expected 1 or more rows of a group"


def _feature_mistakes(
    place: str, definition: Definition, column: str, policy: FromEntity
) -> Iterator[str]:
    found = definition.feature_for(column, policy)
    if found == column:
        yield f"{place}: {policy!r} is the column itself; expected another feature"
    elif found is None and isinstance(policy, (LastKnown, RunningMean)):
        what = "Last" if isinstance(policy, LastKnown) else "Mean"
        window, source = window_label(policy.within), definition.scored.name
        yield (
            f"{place}: no feature for {type(policy).__name__}; expected a view of "
            f"{policy.entity.name!r} over {source!r} without delay and filter, with "
            f"{what}({column!r}) and the window {window}: add it"
        )
    elif found is None:
        yield f"{place}: {policy!r} is no windowed feature of the scored source; mend the name"


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)
