"""Every mistake that a definition can have, in words that name the place and the mend.

May import source_mistakes, function_mistakes, imputation_mistakes, sizes and definition.
"""

from __future__ import annotations

import inspect
from collections import Counter
from datetime import datetime, timedelta
from types import FunctionType, NoneType
from typing import TYPE_CHECKING

from headrace.definition import (
    INDICATOR,
    LIFETIME,
    Aggregate,
    Count,
    Definition,
    DistinctCount,
    Entity,
    First,
    Flag,
    Label,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Source,
    Std,
    Sum,
    Text,
    TimeSinceLast,
    View,
    window_label,
)
from headrace.function_mistakes import function_mistakes
from headrace.imputation_mistakes import imputation_mistakes
from headrace.sizes import MAX_HEAD, MAX_HOP_BYTES, MAX_TILES, hop_bytes_of
from headrace.source_mistakes import NAME, expected_of, source_mistakes
from headrace.table_mistakes import table_mistakes, table_shape_mistakes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECOND = timedelta(seconds=1)
_AGGREGATES = (
    Count, TimeSinceLast, Sum, Mean, Std, Min, Max, First, Last, LastN, DistinctCount,
)  # fmt: skip
_LIST = (list, tuple), "a list"
_TEXT = (str,), "text"
_DURATION = (timedelta,), "a duration, such as days(7)"
_IF_NOT_COMPILED = ("refuse", "scikit-learn")
_DEFINITION_TYPES = {
    "sources": _LIST,
    "views": _LIST,
    "inputs": _LIST,
    "request_features": _LIST,
    "tables": _LIST,
    "scored": ((Source,), "a Source"),
    "batch_entity": ((Entity,), "an Entity"),
    "label": ((Label,), "Label(source, 'field')"),
    "fresh_for": _DURATION,
    "batch_valid_for": _DURATION,
    "imputation": ((dict,), "a dict of feature, input, view or table to policy"),
    "freshness": ((dict,), "a dict of Entity to duration"),
    "if_not_compiled": ((str,), "'refuse' or 'scikit-learn'"),
}
_SOURCE_TYPES = {
    "name": _TEXT,
    "id": ((str,), "the name of a field"),
    "time": ((str,), "the name of a field"),
    "entities": ((dict,), "a dict of field to Entity"),
    "fields": ((dict,), "a dict of field to its type"),
    "lateness": _DURATION,
    "ahead": _DURATION,
    "not_before": ((datetime,), "an aware datetime"),
    "revised_by": ((str,), "the name of a Number field"),
    "rules": _LIST,
}
_VIEW_TYPES = {
    "name": _TEXT,
    "prefix": _TEXT,
    "entity": ((Entity,), "an Entity"),
    "source": ((Source,), "a Source"),
    "aggregates": _LIST,
    "windows": _LIST,
    "delay": _DURATION,
    "hop": ((timedelta, NoneType), "a duration, such as hours(1), or None"),
    "head": ((int,), "a whole number of events"),
}


def mistakes(definition: Definition) -> Iterator[str]:
    """Every mistake in a definition, each with its place and its mend."""
    shapes = list(_shape_mistakes(definition))
    yield from shapes or _meaning_mistakes(definition)


def _shape_mistakes(definition: Definition) -> Iterator[str]:
    """What is not of its type at all: the other checks could not even read it."""
    found = list(_wrong_types("definition", definition, _DEFINITION_TYPES))
    found = found or list(_part_mistakes(definition))
    if found:
        yield from found
        return
    scored = [] if definition.scored in definition.sources else [definition.scored]
    for source in [*definition.sources, *scored]:
        wrong = list(_wrong_types(f"source {source.name!r}", source, _SOURCE_TYPES))
        yield from wrong
        for name, each in () if wrong else source.entities.items():
            if not isinstance(each, Entity):
                place = f"source {source.name!r}: entities[{name!r}]"
                yield f"{place} is {each!r}; expected Entity('lower_case_name')"
    yield from table_shape_mistakes(definition)
    for view in definition.views:
        wrong = list(_wrong_types(f"view {view.name!r}", view, _VIEW_TYPES))
        yield from wrong or _view_shape_mistakes(view)


def _part_mistakes(definition: Definition) -> Iterator[str]:
    """What stands among sources, views or request features and is none."""
    parts = (
        ("sources", definition.sources, Source, "Source(...)"),
        ("views", definition.views, View, "View(...)"),
        (
            "request_features",
            definition.request_features,
            FunctionType,
            "a named function of (event, features)",
        ),
    )
    for name, among, kind, expected in parts:
        for each in among:
            if not isinstance(each, kind):
                yield f"{name}: {each!r}; expected {expected}"


def _view_shape_mistakes(view: View) -> Iterator[str]:
    for aggregate in view.aggregates:
        if not isinstance(aggregate, _AGGREGATES):
            what = f"view {view.name!r}: {aggregate!r} is no aggregate"
            yield f"{what}; expected Count(), Mean('field') and so on"
    for window in view.windows:
        if not isinstance(window, timedelta):
            yield f"view {view.name!r}: window {window!r}; expected a duration, such as days(7)"


def _wrong_types(
    place: str, of: object, types: Mapping[str, tuple[tuple[type, ...], str]]
) -> Iterator[str]:
    for name, (kinds, expected) in types.items():
        if not isinstance(getattr(of, name), kinds):
            yield f"{place}: {name} is {getattr(of, name)!r}; expected {expected}"


def _meaning_mistakes(definition: Definition) -> Iterator[str]:
    for source in definition.sources:
        yield from source_mistakes(source)
    for kind, names in (
        ("sources", [source.name for source in definition.sources]),
        ("views", [view.name for view in definition.views]),
        ("features", [*(name for view in definition.views for name in view.features),
                      *(name for table in definition.tables for name in table.features),
                      *(getattr(f, "__name__", "?") for f in definition.request_features)]),
    ):  # fmt: skip
        for name, times in Counter(names).items():
            if times > 1:
                yield f"{kind}: {name!r} is there {times} times; names must be unique"
    if definition.scored not in definition.sources:
        yield f"scored: {definition.scored.name!r} is not among sources; add it there"
    for view in definition.views:
        yield from _view_mistakes(view, definition)
    yield from _size_mistakes(definition)
    yield from table_mistakes(definition)
    yield from _input_mistakes(definition)
    yield from function_mistakes(definition)
    yield from imputation_mistakes(definition)
    yield from _scoring_mistakes(definition)


def _view_mistakes(view: View, definition: Definition) -> Iterator[str]:
    place = f"view {view.name!r}"
    if not NAME.match(view.name):
        yield f"{place}: expected lower case letters, digits and underscores as its name"
    if view.source not in definition.sources:
        yield f"{place}: source {view.source.name!r} is not among sources; add it there"
    if view.entity not in view.source.entities.values():
        known = ", ".join(entity.name for entity in view.source.entities.values())
        yield f"{place}: {view.source.name!r} has no {view.entity.name!r}; it has {known}"
    if not view.aggregates or not view.windows:
        yield f"{place}: expected at least one aggregate and one window"
    if view.where is not None and view.source.revised_by:
        yield f"{place}: where on a source with revised_by; a revised event could not leave it"
    for aggregate in view.aggregates:
        yield from _aggregate_mistakes(place, view, aggregate)
    yield from _window_mistakes(place, view)


def _aggregate_mistakes(place: str, view: View, aggregate: Aggregate) -> Iterator[str]:
    if isinstance(aggregate, TimeSinceLast) and view.include_current and not view.delay:
        yield f"{place}: TimeSinceLast would always be 0; set include_current=False"
    if isinstance(aggregate, LastN) and not 1 <= aggregate.n <= 100:
        yield f"{place}: LastN n is {aggregate.n}; expected 1 to 100"
    if not aggregate.field:
        return
    kind = view.source.fields.get(aggregate.field)
    countable = isinstance(aggregate, DistinctCount)
    if kind is None and not (countable and aggregate.field in view.source.entities):
        known = ", ".join([*view.source.fields, *(view.source.entities if countable else ())])
        yield f"{place}: {view.source.name!r} has no field {aggregate.field!r}; it has {known}"
    elif isinstance(kind, Text) and not countable:
        yield f"{place}: {aggregate.kind} of text {aggregate.field!r}; expected a Number or Flag"


def _window_mistakes(place: str, view: View) -> Iterator[str]:
    for window in view.windows:
        if window < _SECOND:
            yield f"{place}: window {window}; expected at least one second"
        elif view.hop and window != LIFETIME and window % view.hop:
            hop, label = window_label(view.hop), window_label(window)
            yield f"{place}: window {label} is no multiple of hop {hop}; choose a hop that divides"
    if view.delay < timedelta(0):
        yield f"{place}: delay is {view.delay}; expected 0 or more"
    if view.delay and not view.include_current:
        yield f"{place}: a delayed window never holds the current event; drop include_current"
    if view.where is not None and not isinstance(view.where, FunctionType):
        yield f"{place}: where is {view.where!r}; expected a function of the event"
    if not 1 <= view.head <= MAX_HEAD:
        yield f"{place}: head is {view.head}; expected 1 to {MAX_HEAD:,} events"
    if view.hop is not None:
        yield from _hop_mistakes(place, view, view.hop)


def _hop_mistakes(place: str, view: View, hop: timedelta) -> Iterator[str]:
    if hop < _SECOND:
        yield f"{place}: hop is {hop}; expected at least one second"
    elif view.retention / hop > MAX_TILES:
        tiles = int(view.retention / hop)
        yield f"{place}: {tiles:,} tiles; expected at most {MAX_TILES:,}: choose a longer hop"


def _size_mistakes(definition: Definition) -> Iterator[str]:
    sizes = Counter({view.entity.name: 0 for view in definition.views})
    for view in definition.views:
        if view.hop and view.hop >= _SECOND:
            sizes[view.entity.name] += hop_bytes_of(view)
    for name, size in sizes.items():
        if size > MAX_HOP_BYTES:
            yield (
                f"views of {name!r}: tiles and heads of {size:,} bytes; expected at most "
                f"{MAX_HOP_BYTES:,}: choose longer hops, smaller heads or fewer aggregates"
            )


def _input_mistakes(definition: Definition) -> Iterator[str]:
    numeric = [n for n, kind in definition.scored.fields.items() if not isinstance(kind, Text)]
    known = [*definition.stored_features, *definition.request_feature_names, *numeric]
    for name in known:
        if name.endswith(INDICATOR):
            yield f"{name!r}: ends in {INDICATOR}, as inputs do that say what is absent; rename it"
    if not definition.inputs:
        yield "inputs: empty; expected the names of the model's inputs, in order"
    for name, times in Counter(definition.inputs).items():
        if isinstance(definition.scored.fields.get(name), Text):
            yield f"inputs: {name!r} is text, and a model takes numbers; use it by a feature"
        elif name.removesuffix(INDICATOR) not in known:
            yield f"inputs: {name!r} is unknown; {expected_of(name, known)}"
        if times > 1:
            yield f"inputs: {name!r} is there {times} times; name each input once"
    yield from _request_feature_mistakes(definition)


def _request_feature_mistakes(definition: Definition) -> Iterator[str]:
    for function in definition.request_features:
        if function.__name__ == "<lambda>":
            yield f"request_features: {function!r}; expected a named function of (event, features)"
        elif len(inspect.signature(function).parameters) != 2:
            yield f"request feature {function.__name__!r}: expected two parameters, event, features"
        elif function.__name__ in definition.scored.fields:
            yield f"request feature {function.__name__!r}: is a field's name too; rename it"


def _scoring_mistakes(definition: Definition) -> Iterator[str]:
    if definition.batch_entity not in definition.scored.entities.values():
        known = ", ".join(entity.name for entity in definition.scored.entities.values())
        yield f"batch_entity: {definition.batch_entity.name!r}; expected one of {known}"
    for entity, age in definition.freshness.items():
        if entity not in definition.scored.entities.values():
            yield f"freshness: {entity!r} is no entity of the scored source; mend it"
        elif not isinstance(age, timedelta) or age <= timedelta(0):
            yield f"freshness of {entity.name!r}: {age!r}; expected a duration of more than 0"
    if definition.scored.revised_by:
        yield "scored: its source has revised_by; the first score of an event stays, so drop it"
    label = definition.label
    if not isinstance(label.source.fields.get(label.field), Flag):
        yield f"label: {label.field!r} of {label.source.name!r}; expected the name of a Flag field"
    for name in ("fresh_for", "batch_valid_for"):
        if getattr(definition, name) <= timedelta(0):
            yield f"{name}: {getattr(definition, name)}; expected more than 0"
    if definition.if_not_compiled not in _IF_NOT_COMPILED:
        expected = " or ".join(map(repr, _IF_NOT_COMPILED))
        yield f"if_not_compiled: {definition.if_not_compiled!r}; expected {expected}"
