"""What a month costs at each stage, line by line. May import sizing and tables.

Every line says its quantity, its price's name and where the quantity comes from. What is not in
it: the nightly job of your own, free tiers, taxes, support, and traffic that leaves the region.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from headrace.offline.plan.sizing import GB, MONTH_SECONDS, sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.offline.plan.sizing import Deployment

_US = 1_000_000
_PUT_UNIT_BYTES, _WRITE_UNIT_BYTES = 25_600, 1_024
_DAY_SECONDS, _DAYS = 86_400, 30.4
_LOOK_UP_UNITS = 1.0  # last and batch score, half a unit each
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a month's bill.

    Attributes:
        what: In words.
        quantity: Of a month.
        price: Name in the table of prices.
        usd: Of a month.
        basis: Where the quantity comes from.
    """

    what: str
    quantity: float
    price: str
    usd: float
    basis: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the stages from batch to real time.

    Attributes:
        number: 1 to 3.
        name: What it is.
        scores: Scores given in a month.
        lines: The bill.
    """

    number: int
    name: str
    scores: float
    lines: tuple[Line, ...]

    @property
    def usd(self) -> float:
        """Of a month."""
        return sum(line.usd for line in self.lines)

    @property
    def usd_per_million(self) -> float | None:
        """For a million scores; None where none are given."""
        return self.usd / self.scores * 1e6 if self.scores else None


def stages(found: Deployment) -> tuple[Stage, ...]:
    """The bills of the three stages at the same traffic."""
    asked = found.traffic.requests_per_second * MONTH_SECONDS
    scored = found.traffic.events_per_second * MONTH_SECONDS
    bills: tuple[tuple[str, float, Callable[[_Bill], None]], ...] = (
        ("all batch: scores looked up", asked, _all_batch),
        ("batch features, model on request", asked, _batch_features),
        ("real-time features and model", scored + asked, _real_time),
    )
    made = []
    for number, (name, scores, write) in enumerate(bills, 1):
        bill = _Bill(found)
        write(bill)
        made.append(Stage(number, name, scores, tuple(bill.lines)))
    return tuple(made)


class _Bill:
    """Collects lines."""

    def __init__(self, found: Deployment) -> None:
        self.found = found
        self.lines: list[Line] = []

    def add(self, what: str, quantity: float, price: str, basis: str) -> None:
        usd = self.found.table.price(price).usd(quantity)
        self.lines.append(Line(what, quantity, price, usd, basis))

    def compute(self, what: str, seconds: float, basis: str) -> None:
        """A month's seconds of functions."""
        settings = self.found.settings
        gb_seconds = seconds * settings.memory_mb / 1_024
        price = f"lambda_gb_second_{settings.architecture}"
        self.add(what, gb_seconds, price, f"{basis}; MemorySize {settings.memory_mb}")

    def stored(self, what: str, size: float, basis: str) -> None:
        """Bytes in a table that can be recovered to a point in time."""
        self.add(what, size / GB, "dynamodb_storage", basis)
        self.add(f"{what}, recovery", size / GB, "dynamodb_recovery", basis)

    def logs(self, size: float, basis: str) -> None:
        """Bytes that are logged in a month."""
        self.add("logs", size / GB, "log_ingested", basis)
        kept = self.found.settings.log_days / _DAYS
        self.add("logs kept", size / GB * kept, "log_stored", "LogRetentionDays")


def _all_batch(bill: _Bill) -> None:
    _nightly_features(bill)
    _batch_run(bill)
    figures, asked = bill.found.figures, bill.found.traffic.requests_per_second * MONTH_SECONDS
    reads = bill.found.state_read_units() + _LOOK_UP_UNITS
    bill.add("look-ups read", asked * reads, "dynamodb_read_unit",
             "the entity's state, last and batch score")  # fmt: skip
    bill.add("look-ups mark the score as read", asked * figures["run_write_units"],
             "dynamodb_write_unit", "run_write_units")  # fmt: skip
    _endpoint(bill)
    _watched(bill)


def _batch_features(bill: _Bill) -> None:
    _nightly_features(bill)
    found = bill.found
    asked = found.traffic.requests_per_second * MONTH_SECONDS
    reads = len(found.shape.scored_entities) * (1 + found.state_read_units())
    bill.add("requests read rows", asked * reads, "dynamodb_read_unit",
             "a row and a state of each entity of the event, in one request")  # fmt: skip
    _endpoint(bill)
    _watched(bill)


def _real_time(bill: _Bill) -> None:
    _stream(bill)
    _stream_units(bill)
    _kept(bill)
    found = bill.found
    asked = found.traffic.requests_per_second * MONTH_SECONDS
    bill.add("requests read states",
             asked * len(found.shape.scored_entities) * found.state_read_units(),
             "dynamodb_read_unit", "read_units, by state")  # fmt: skip
    _endpoint(bill)
    _batch_run(bill)
    _watched(bill)


def _nightly_features(bill: _Bill) -> None:
    """What your job computed is written for every entity, whether it is asked for or not."""
    found, figures = bill.found, bill.found.figures
    rows = found.entities * found.settings.runs_per_month
    row_units = ceil(figures["row_bytes"] / _WRITE_UNIT_BYTES)
    basis = "entities, once per run of BatchSchedule; row_bytes"
    bill.add("nightly features written", rows * row_units, "dynamodb_write_unit", basis)
    bill.compute("nightly features loaded", rows * figures["put_score_us"] / _US, "put_score_us")
    bill.stored("nightly features", found.entities * figures["row_bytes"], "row_bytes")
    files = found.entities * figures["row_bytes"] / GB
    bill.add("the job's files", files, "s3_storage", "one night's, row_bytes")


def _batch_run(bill: _Bill) -> None:
    found, figures = bill.found, bill.found.figures
    name = found.shape.batch_entity
    count = found.traffic.entities[name]
    scored = count * found.settings.runs_per_month
    basis = f"every {name}, each run of BatchSchedule"
    bill.add("batch run reads", scored * figures["run_read_units"], "dynamodb_read_unit",
             f"{basis}; run_read_units")  # fmt: skip
    bill.add("batch run writes", scored * figures["run_write_units"], "dynamodb_write_unit",
             f"{basis}; run_write_units")  # fmt: skip
    bill.compute("batch run", scored * figures["run_us"] / _US, f"{basis}; run_us")
    bill.stored("batch scores", count * figures["batch_score_bytes"], "batch_score_bytes")


def _stream(bill: _Bill) -> None:
    found, size = bill.found, sized(bill.found)
    records = found.traffic.events_per_second * found.shape.records * MONTH_SECONDS
    hours = size.shards * MONTH_SECONDS / 3_600
    bill.add("shards", hours, "kinesis_shard_hour", "shards at the peak, see sizing")
    if found.settings.retention_hours > _DAY_HOURS:
        bill.add("shards keep events longer", hours, "kinesis_extended_retention",
                 f"StreamRetentionHours {found.settings.retention_hours}")  # fmt: skip
    bill.add("events put", records * ceil(found.figures["event_bytes"] / _PUT_UNIT_BYTES),
             "kinesis_put_unit", "events and labels; event_bytes")  # fmt: skip
    invocations = size.invocations_per_second * MONTH_SECONDS
    bill.add("stream function called", invocations, "lambda_request",
             "BatchSize, BatchWindowSeconds, ParallelizationFactor, shards")  # fmt: skip
    bill.compute("stream function", invocations * size.batch_seconds,
                 "handler_us, get_state_us, put_state_us, put_score_us, store_ms")  # fmt: skip
    refused = records * found.figures["quarantined_share"]
    bill.add("refused records", refused, "s3_put", "quarantined_share")
    logged = found.figures["batch_log_bytes"] + found.figures["platform_log_bytes"]
    bill.logs(invocations * logged, "batch_log_bytes, platform_log_bytes")


def _stream_units(bill: _Bill) -> None:
    found, figures = bill.found, bill.found.figures
    events = found.traffic.events_per_second * MONTH_SECONDS
    for what, quantity, price, basis in (
        ("states read", found.units("read_units"), "read", "read_units"),
        ("states written", found.units("state_write_units"), "write", "state_write_units"),
        ("scores written", figures["score_write_units"], "write", "score_write_units"),
        ("last scores written", figures["last_write_units"], "write", "last_write_units"),
    ):
        bill.add(what, events * quantity, f"dynamodb_{price}_unit", basis)


def _kept(bill: _Bill) -> None:
    found, figures = bill.found, bill.found.figures
    states = sum(
        count * figures.state_bytes(name) for name, count in found.traffic.entities.items()
    )
    bill.stored("states", states, "ENTITY_state_bytes")
    kept = found.traffic.events_per_second * found.settings.score_days * _DAY_SECONDS
    bill.stored("scores", kept * figures["score_bytes"],
                f"score_bytes, ScoreRetentionDays {found.settings.score_days:g} full")  # fmt: skip


def _endpoint(bill: _Bill) -> None:
    found, figures = bill.found, bill.found.figures
    asked = found.traffic.requests_per_second * MONTH_SECONDS
    bill.add("requests", asked, "api_request", "--requests-per-second")
    bill.add("request function called", asked, "lambda_request", "--requests-per-second")
    bill.compute("request function", asked * found.request_seconds, "request_us, store_ms")
    logged = figures["request_log_bytes"] + figures["platform_log_bytes"]
    bill.logs(asked * logged, "request_log_bytes, platform_log_bytes")


def _watched(bill: _Bill) -> None:
    bill.add("metrics", bill.found.figures["metrics"], "metric", "metrics")
    bill.add("alarms", bill.found.settings.alarm_metrics, "alarm", "alarms of template.yaml")
