"""What comes in, what the definition makes of it, and how large the deployment must be.

May import tables, definition and, of the stores, how many writes are under way together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from headrace.adapters.lean_writes import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.definition import Definition
    from headrace.offline.plan.tables import Figures, PriceTable

MONTH_SECONDS = 730 * 3_600
MB, GB = 1_000_000, 1_000_000_000
_US, _MS = 1_000_000, 1_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes in.

    Attributes:
        events_per_second: Scored events, on average.
        requests_per_second: Scores that are asked for, on average.
        peak: Peak over average.
        entities: Entity -> how many there are.
    """

    events_per_second: float
    requests_per_second: float
    peak: float
    entities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Settings:
    """What template.yaml says.

    Attributes:
        shards: ``StreamShards``.
        retention_hours: ``StreamRetentionHours``.
        parallelization: ``ParallelizationFactor`` of the mapping.
        batch_size: ``BatchSize``.
        window_seconds: ``BatchWindowSeconds``.
        memory_mb: ``MemorySize`` of the functions.
        architecture: ``Architecture``.
        api_rate: ``ApiRequestsPerSecond``.
        store_budget_ms: ``StoreBudgetMs``.
        score_days: ``ScoreRetentionDays``.
        log_days: ``LogRetentionDays``.
        runs_per_month: Of ``BatchSchedule``.
        segments: ``BatchSegments``.
        alarm_metrics: Metrics that alarms read.
    """

    shards: int
    retention_hours: int
    parallelization: int
    batch_size: int
    window_seconds: float
    memory_mb: int
    architecture: str
    api_rate: float
    store_budget_ms: float
    score_days: float
    log_days: float
    runs_per_month: float
    segments: int
    alarm_metrics: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a definition matters here.

    Attributes:
        records: Records on the stream for each scored event: its own, and its label's.
        scored_entities: Entities whose states a scored event reads.
        states: States that an event and its label touch.
        batch_entity: Who has batch scores.
    """

    records: int
    scored_entities: tuple[str, ...]
    states: int
    batch_entity: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that a plan is made of."""

    traffic: Traffic
    settings: Settings
    shape: Shape
    figures: Figures
    table: PriceTable

    @property
    def entities(self) -> int:
        """Entities of all kinds."""
        return sum(self.traffic.entities.values())

    @property
    def event_us(self) -> float:
        """Time of the stream function for one event with its label and their states and scores.

        A label's record is taken to cost as much as an event's, which is too much. States are put
        some at a time: one takes its CPU, or its share of the wait for them where that is longer.
        """
        share_us = self.figures["store_ms"] * _US / _MS / AT_ONCE
        per_state = self.figures["get_state_us"] + max(self.figures["put_state_us"], share_us)
        per_record = self.shape.records * self.figures["handler_us"]
        return per_record + self.shape.states * per_state + 2 * self.figures["put_score_us"]

    @property
    def request_seconds(self) -> float:
        """How long a request occupies a function."""
        return self.figures["request_us"] / _US + self.figures["store_ms"] / _MS

    def units(self, name: str) -> float:
        """Units of an event for its states, as measured, by the states that it touches here."""
        return self.figures[name] * self.shape.states / self.figures["states_of_units"]

    def state_read_units(self) -> float:
        """Units for one state."""
        return self.figures["read_units"] / self.figures["states_of_units"]

    def state_write_units(self) -> float:
        """Units for one state."""
        return self.figures["state_write_units"] / self.figures["states_of_units"]


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large the deployment must be at the peak.

    Attributes:
        shards: Of the stream.
        parallelization: Batches of a shard at a time.
        stream_concurrency: Invocations of the stream function at a time.
        request_concurrency: Of the request function.
        invocations_per_second: Of the stream function, on average.
        batch_seconds: How long one takes, on average.
    """

    shards: int
    parallelization: int
    stream_concurrency: int
    request_concurrency: int
    invocations_per_second: float
    batch_seconds: float


def shape_of(definition: Definition) -> Shape:
    """What of a definition matters here."""
    label = definition.label.source
    scored = tuple(dict.fromkeys(view.entity.name for view in definition.scored_views))
    has_own_label = label is not definition.scored
    labelled = {view.entity for view in definition.views if view.source is label}
    return Shape(
        records=1 + has_own_label,
        scored_entities=scored,
        states=len(scored) + (len(labelled) if has_own_label else 0),
        batch_entity=definition.batch_entity.name,
    )


def sized(found: Deployment) -> Sizing:
    """As many shards and batches at a time as the peak needs, and never fewer than the template.

    Shards go by records and bytes first; then batches of a shard run side by side, up to ten; then
    shards are added.
    """
    traffic, settings, figures = found.traffic, found.settings, found.figures
    records = traffic.events_per_second * found.shape.records
    peak = records * traffic.peak
    of_stream = max(
        peak / found.table.quota("shard_records"),
        peak * figures["event_bytes"] / found.table.quota("shard_bytes"),
    )
    workers = (
        traffic.events_per_second * traffic.peak * found.event_us / _US / figures["busy_share"]
    )
    most = found.table.quota("parallelization")
    shards = max(settings.shards, ceil(of_stream), ceil(workers / most))
    parallelization = max(settings.parallelization, ceil(workers / shards))
    invocations = _invocations(records, shards * parallelization, settings)
    work = traffic.events_per_second * found.event_us / _US
    waits = 3 * figures["store_ms"] / _MS  # reads, then states, then scores
    requests = traffic.requests_per_second * traffic.peak * found.request_seconds
    return Sizing(
        shards=shards,
        parallelization=parallelization,
        stream_concurrency=shards * parallelization,
        request_concurrency=ceil(requests / figures["busy_share"]),
        invocations_per_second=invocations,
        batch_seconds=work / invocations + waits if invocations else 0.0,
    )


def _invocations(records: float, lanes: int, settings: Settings) -> float:
    """A second: a batch ends when it is full or its window is over, and no poll is oftener."""
    window = max(settings.window_seconds, 1.0)
    return max(records / settings.batch_size, min(records, lanes / window))
