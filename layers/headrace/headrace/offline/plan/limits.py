"""What breaks first as traffic grows, and what moves it. May import sizing and tables.

Everything grows together: events, requests and entities. The deployment stays as it was sized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.offline.plan.sizing import sized

if TYPE_CHECKING:
    from headrace.offline.plan.sizing import Deployment, Sizing

GROWTH = (1, 10, 100, 1_000)
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that ends.

    Attributes:
        name: What ends.
        used: At the peak of the planned traffic.
        limit: Where it ends.
        unit: Of both.
        moved_by: The setting or request that moves it.
        effect: What is seen when it is reached.
        ceiling: The most that use can become, whatever the traffic; None where there is none.
    """

    name: str
    used: float
    limit: float
    unit: str
    moved_by: str
    effect: str
    ceiling: float | None = None

    @property
    def breaks_at(self) -> float | None:
        """Times the planned traffic at which it is reached; None where it never is."""
        if not self.used or (self.ceiling is not None and self.ceiling < self.limit):
            return None
        return self.limit / self.used

    def holds(self, growth: float) -> bool:
        """Whether it is not reached at so many times the planned traffic."""
        return self.breaks_at is None or growth <= self.breaks_at


def limits(found: Deployment) -> list[Limit]:
    """Every limit, the one that is reached first at the top."""
    size = sized(found)
    every = [*_of_stream(found, size), *_of_functions(found, size), *_of_endpoint(found),
             *_of_tables(found), *_of_hot_entity(found, size)]  # fmt: skip
    return sorted(every, key=lambda each: each.breaks_at or float("inf"))


def _of_stream(found: Deployment, size: Sizing) -> list[Limit]:
    events = found.traffic.events_per_second * found.traffic.peak
    records, quota = events * found.shape.records, found.table.quota
    throttled = "producers are throttled; put again, or events are lost"
    return [
        Limit("records on the stream", records, size.shards * quota("shard_records"),
              "records/s", "StreamShards", throttled),
        Limit("bytes on the stream", records * found.figures["event_bytes"],
              size.shards * quota("shard_bytes"), "bytes/s", "StreamShards", throttled),
        Limit("stream function per shard", events * found.event_us / _US, size.stream_concurrency,
              "batches at a time", "ParallelizationFactor up to 10, then StreamShards",
              "scores come later and later: ScoreLag and the iterator age grow"),
    ]  # fmt: skip


def _of_functions(found: Deployment, size: Sizing) -> list[Limit]:
    events = found.traffic.events_per_second * found.traffic.peak
    requests = found.traffic.requests_per_second * found.traffic.peak
    used = events * found.event_us / _US + requests * found.request_seconds
    concurrency = found.table.quota("lambda_concurrency")
    count = found.traffic.entities[found.shape.batch_entity]
    parts = max(found.settings.segments, 1)
    return [
        Limit("Lambda concurrency of the account", used / found.figures["busy_share"], concurrency,
              "executions at a time", "quota request to AWS; reserved concurrency shares it out",
              "requests are refused with 429 or 5xx, batches wait"),
        Limit("batch run in one invocation", count * found.figures["run_us"] / _US,
              parts * found.table.quota("function_seconds"), "s", "BatchSegments",
              "runs go on in the next invocation and take longer; batch scores age"),
    ]  # fmt: skip


def _of_endpoint(found: Deployment) -> list[Limit]:
    requests = found.traffic.requests_per_second * found.traffic.peak
    refused = "requests are refused with 429"
    return [
        Limit("rate of the API's stage", requests, found.settings.api_rate, "requests/s",
              "ApiRequestsPerSecond and ApiBurstRequests", refused),
        Limit("rate of the account's APIs", requests, found.table.quota("api_rate"), "requests/s",
              "quota request to AWS", refused),
    ]  # fmt: skip


def _of_tables(found: Deployment) -> list[Limit]:
    events = found.traffic.events_per_second * found.traffic.peak
    requests = found.traffic.requests_per_second * found.traffic.peak
    reads = events * found.units("read_units")
    reads += requests * len(found.shape.scored_entities) * found.state_read_units()
    scores = found.figures["score_write_units"] + found.figures["last_write_units"]
    quota = found.table.quota
    late = "batches are retried and wait"
    below = _below(found)
    moved = "table quota, request to AWS; warm throughput before a jump"
    return [
        Limit("writes of the state table", events * found.units("state_write_units"),
              quota("table_write_units"), "units/s", moved, late),
        Limit("reads of the state table", reads, quota("table_read_units"), "units/s", moved,
              f"{late}; {below}"),
        Limit("writes of the score table", events * scores, quota("table_write_units"), "units/s",
              moved, late),
    ]  # fmt: skip


def _of_hot_entity(found: Deployment, size: Sizing) -> list[Limit]:
    """The busiest entity: however busy, it is written once per batch of each lane."""
    share, quota = found.figures["hottest_share"], found.table.quota
    events = found.traffic.events_per_second * found.traffic.peak * share
    requests = found.traffic.requests_per_second * found.traffic.peak * share
    window = max(found.settings.window_seconds, 1.0)
    most = size.stream_concurrency / window * found.state_write_units()
    below = _below(found)
    return [
        Limit("writes of the busiest entity", events * found.state_write_units(),
              quota("item_write_units"), "units/s", "a hop view, and a partition key that keeps "
              "the entity on one shard", "writers lose races and fold again", most),
        Limit("reads of the busiest entity", (events + requests) * found.state_read_units(),
              quota("item_read_units"), "units/s", "a hop view (fewer units each); the same "
              "partition key", f"throttled; {below}"),
    ]  # fmt: skip


def _below(found: Deployment) -> str:
    """What requests do that their reads keep waiting."""
    budget = found.settings.store_budget_ms
    return f"requests fall to the last score after StoreBudgetMs {budget:g}"
