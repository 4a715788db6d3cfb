"""What users write: sources, entities, views, request features, imputation, model inputs.

Plain data; ``loading.load_definition`` finds its mistakes and hashes it. May import
aggregate_types, fields and policies, whose names definition files import from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headrace.aggregate_types import (
    Aggregate,
    Count,
    DistinctCount,
    First,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    TimeSinceLast,
)
from headrace.fields import Entity, Field, Flag, Invalid, Number, Rule, Text
from headrace.policies import (
    AsNan,
    Constant,
    Feature,
    FirstOf,
    LastKnown,
    MostFrequent,
    Policy,
    Required,
    RunningMean,
    TrainingMean,
    TrainingMedian,
)
from headrace.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "LIFETIME",
    "Aggregate",
    "AsNan",
    "Constant",
    "Count",
    "Definition",
    "DistinctCount",
    "Entity",
    "Feature",
    "Field",
    "First",
    "FirstOf",
    "Flag",
    "Invalid",
    "Label",
    "Last",
    "LastKnown",
    "LastN",
    "Max",
    "Mean",
    "Min",
    "MostFrequent",
    "Number",
    "Policy",
    "Required",
    "Rule",
    "RunningMean",
    "Source",
    "Std",
    "Sum",
    "Table",
    "Text",
    "TimeSinceLast",
    "TrainingMean",
    "TrainingMedian",
    "View",
    "days",
    "hours",
    "minutes",
    "window_label",
]

LIFETIME = timedelta.max  # a window without a left edge: everything ever seen
INDICATOR = "_is_missing"


def minutes(n: float) -> timedelta:
    """A duration of n minutes."""
    return timedelta(minutes=n)


def hours(n: float) -> timedelta:
    """A duration of n hours."""
    return timedelta(hours=n)


def days(n: float) -> timedelta:
    """A duration of n days."""
    return timedelta(days=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A kind of event on the stream; an event names it in its ``source`` field.

    Attributes:
        name: The value of the events' ``source`` field.
        id: The field that identifies an event within the source (integer or text).
        time: The field with the event time, ISO 8601 with a UTC offset.
        entities: Field that holds an entity's id -> the entity. All are required.
        fields: Field -> its type and bounds.
        lateness: Arrival minus event time up to which an event still changes state.
        ahead: How far event time may lie after arrival (clock skew of producers).
        not_before: Event times before this are refused as absurd.
        revised_by: Number field; of events with one id, the one with its largest value counts.
        rules: What must hold between the fields of an event.
    """

    name: str
    id: str
    time: str
    entities: Mapping[str, Entity]
    fields: Mapping[str, Field] = field(default_factory=dict)
    lateness: timedelta = timedelta(days=1)
    ahead: timedelta = timedelta(minutes=5)
    not_before: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    revised_by: str = ""
    rules: Sequence[Rule] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Aggregates of one source's events over windows, for one entity.

    A window of length w with delay d, as of t, covers (t - d - w, t - d].

    Attributes:
        name: Unique; names the part of the entity's state.
        entity: Whose events are aggregated.
        source: Where the events come from.
        aggregates: What is computed in each window.
        windows: Lengths; ``LIFETIME`` for everything ever seen.
        delay: How far the window's right edge lies in the past.
        include_current: Whether the event that is scored counts itself (without delay only).
        where: Optional filter, a function of the event; only events for which it is true count.
        hop: None for exact windows. Else left edges move down to multiples of it (right ones
            too, with a delay), and state stays constant-size.
        head: Hop views keep at most this many newest events one by one.
        prefix: First part of the feature names; the view's name where empty.
    """

    name: str
    entity: Entity
    source: Source
    aggregates: Sequence[Aggregate]
    windows: Sequence[timedelta]
    delay: timedelta = timedelta(0)
    include_current: bool = True
    where: Callable[[Any], bool] | None = None
    hop: timedelta | None = None
    head: int = 1024
    prefix: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the view's features: by window, then by aggregate."""
        return tuple(
            name
            for window in self.windows
            for aggregate in self.aggregates
            for name in self.feature_names(aggregate, window)
        )

    def feature_names(self, aggregate: Aggregate, window: timedelta) -> tuple[str, ...]:
        """``<prefix>_<field>_<aggregate>_<window>``; LastN has one name per rank."""
        if not isinstance(aggregate, Aggregate):
            msg = (
                f"view {self.name!r}: aggregate {aggregate!r}; expected Count(), Mean('field') ..."
            )
            raise TypeError(msg)
        parts = [self.prefix or self.name, aggregate.field, aggregate.kind]
        stem = "_".join(part for part in parts if part)
        label = window_label(window)
        if isinstance(aggregate, LastN):
            return tuple(f"{stem}_{rank}_{label}" for rank in range(1, aggregate.n + 1))
        return (f"{stem}_{label}",)

    @property
    def retention(self) -> timedelta:
        """Longest finite window + delay + allowed lateness: how long rows are needed."""
        finite = (window for window in self.windows if window != LIFETIME)
        return max(finite, default=timedelta(0)) + self.delay + self.source.lateness


def window_label(window: timedelta) -> str:
    """``1d``, ``12h``, ``15m``, ``90s`` or ``lifetime``: the largest unit that divides evenly.

    >>> window_label(days(7)), window_label(hours(36)), window_label(minutes(1.5))
    ('7d', '36h', '90s')
    """
    if not isinstance(window, timedelta):
        msg = f"window {window!r}; expected a duration, such as days(7)"
        raise TypeError(msg)
    if window == LIFETIME:
        return "lifetime"
    for unit, length in (("d", days(1)), ("h", hours(1)), ("m", minutes(1))):
        if not window % length:
            return f"{window // length}{unit}"
    return f"{window.total_seconds():g}s"


@dataclass(frozen=True, slots=True)
class Label:
    """What the model learns: a flag of a source whose events carry the scored event's id."""

    source: Source
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What turns an event into a score, except the fitted model.

    Attributes:
        sources: Every source on the stream.
        scored: The source whose events are scored; the others only change state.
        views: Windowed features.
        tables: Batch features.
        request_features: Functions of (event, features so far), named as the feature; None, or
            an arithmetic or type error in one, means absent.
        inputs: The model's inputs in order: features, numeric fields of the scored source, or
            ``<either>_is_missing``, 1 where that was absent and 0 elsewhere.
        imputation: Feature, input, view or table name -> policy; a feature's own name goes first.
        default_imputation: Policy of all others.
        batch_entity: The entity for which the scheduled run writes batch scores.
        label: What training learns.
        fresh_for: How long a real-time score is given on look-up and needs no batch score.
        batch_valid_for: A batch score older than this is not given any more.
        freshness: Entity -> how old the newest event that a score uses of it should be at most.
        if_not_compiled: What becomes of a model whose compiled form does not score as it does:
            ``"refuse"`` it, or serve it by ``"scikit-learn"``.
    """

    sources: Sequence[Source]
    scored: Source
    views: Sequence[View]
    inputs: Sequence[str]
    batch_entity: Entity
    label: Label
    request_features: Sequence[Callable[[Any, Mapping[str, float | None]], float | None]] = ()
    imputation: Mapping[str, Policy] = field(default_factory=dict)
    default_imputation: Policy = field(default_factory=TrainingMedian)
    fresh_for: timedelta = timedelta(days=1)
    batch_valid_for: timedelta = timedelta(days=2)
    tables: Sequence[Table] = ()
    freshness: Mapping[Entity, timedelta] = field(default_factory=dict)
    if_not_compiled: str = "refuse"

    @property
    def scored_views(self) -> tuple[View, ...]:
        """The views that an event of the scored source has features from."""
        return tuple(v for v in self.views if v.entity in self.scored.entities.values())

    @property
    def view_features(self) -> tuple[str, ...]:
        """Windowed features of a scored event, in the order of the views."""
        return tuple(name for view in self.scored_views for name in view.features)

    @property
    def stored_features(self) -> tuple[str, ...]:
        """What is known of a scored event's entities: features of views, then of tables."""
        tables = (name for table in self.tables for name in table.features)
        return (*self.view_features, *tables)

    @property
    def request_feature_names(self) -> tuple[str, ...]:
        """Names of the request-time features."""
        return tuple(each.__name__ for each in self.request_features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every name that is imputed: features, then fields that are inputs."""
        features = self.stored_features + self.request_feature_names
        wanted = (name.removesuffix(INDICATOR) for name in self.inputs)
        return tuple(dict.fromkeys((*features, *wanted)))

    @property
    def indicators(self) -> tuple[str, ...]:
        """The inputs that say whether a column was absent."""
        return tuple(name for name in self.inputs if name.endswith(INDICATOR))

    def policy(self, column: str) -> Policy:
        """The imputation policy of a column: its own, its view's or table's, or the default."""
        both: list[View | Table] = [*self.views, *self.tables]
        views = [each.name for each in both if column in each.features]
        named = [name for name in (column, *views) if name in self.imputation]
        return self.imputation[named[0]] if named else self.default_imputation

    def feature_for(self, column: str, policy: Policy) -> str | None:
        """The windowed feature that a policy reads for a column; None where no view has it."""
        if isinstance(policy, Feature):
            return policy.name if policy.name in self.stored_features else None
        if not isinstance(policy, (LastKnown, RunningMean)):
            return None
        wanted = Last(column) if isinstance(policy, LastKnown) else Mean(column)
        for view in self.scored_views:
            plain = view.source is self.scored and not view.delay and view.where is None
            fits = plain and view.entity == policy.entity and policy.within in view.windows
            if fits and wanted in view.aggregates:
                return view.feature_names(wanted, policy.within)[0]
        return None
