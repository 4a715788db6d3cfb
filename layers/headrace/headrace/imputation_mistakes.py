"""The mistakes that a definition's imputation can have. May import definition and policies."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, get_args

from headrace.definition import Constant, Definition, FirstOf, LastKnown, RunningMean, window_label
from headrace.fields import Flag, Text
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
        columns = views.get(name, (name,))
        if name != "default" and name not in known:
            yield f"imputation: {name!r} is neither feature, input nor view; mend the name"
        else:
            yield from _policy_mistakes(f"imputation of {name!r}", definition, columns, policy)


def _policy_mistakes(
    place: str, definition: Definition, columns: tuple[str, ...], policy: object
) -> Iterator[str]:
    if not isinstance(policy, _POLICIES):
        yield f"{place}: {policy!r}; expected Constant(x), TrainingMean() ..."
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
        yield f"{place}: {policy!r}; expected Constant(x), TrainingMean() ..."
    elif isinstance(policy, Constant) and not _finite(policy.value):
        yield f"{place}: {policy!r}; expected a finite number"
    elif isinstance(policy, Fitted):
        yield from _group_mistakes(place, definition, policy)
    elif isinstance(policy, FromEntity):
        for column in columns:
            yield from _feature_mistakes(place, definition, column, policy)


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
