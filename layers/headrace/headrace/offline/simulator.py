"""Card transactions made up from a seed: for the demo, for trying things and for tests.

Customers live in towns and pay at terminals nearby, each in a rhythm and an amount of their own.
Fraud comes in three kinds: large amounts on a stolen card, terminals that are compromised for some
weeks, and customers whose credentials leaked for some weeks. May import errors and fraud only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.errors import Misconfigured
from headrace.offline.fraud import DAY, KINDS, Exposure, Ledger, defraud, whole_cents

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

A_MONDAY = datetime(2025, 3, 3, tzinfo=UTC)

_MAP_METRES = 100_000
_TOWN_METRES = 6_000
_CUSTOMERS_PER_TOWN = 100
_HAUNTS = 12
"""Terminals that a customer goes to unless travelling."""
_TRAVELS = 0.03
_PRICE_LEVELS = np.array([0.5, 0.8, 1.0, 1.0, 1.6, 3.0])
_WEEKDAYS = np.array([0.95, 0.9, 0.95, 1.0, 1.2, 1.25, 0.75])
"""Transactions per day against the mean of the week, Monday first."""
_NOON, _EVENING = 12.5 * 3_600, 18.5 * 3_600
_LABEL_SECONDS = (DAY // 4, 6 * DAY + 3 * DAY // 4)
"""A fraud is reported, and a transaction cleared, 0.25 to 6.75 days after it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. Equal plans give equal traffic on every machine.

    Attributes:
        customers: How many; their ids are 0 to customers - 1.
        terminals: How many; their ids are 0 to terminals - 1.
        days: Length of the traffic from ``start``.
        start: First instant; aware, on a whole second.
        seed: Of every random draw; not negative.
        events_per_day: Mean transactions of one customer in one day.
        fraud_share: About this share of the transactions is fraud.
        missing_share: This share of the amounts is absent.

    Raises:
        Misconfigured: A value is out of its bounds; the message names every such value.
    """

    customers: int = 300
    terminals: int = 600
    days: int = 60
    start: datetime = A_MONDAY
    seed: int = 0
    events_per_day: float = 2.0
    fraud_share: float = 0.01
    missing_share: float = 0.01

    def __post_init__(self) -> None:
        mistakes = [*_too_few(self), *_no_shares(self), *_no_start(self.start)]
        if mistakes:
            raise Misconfigured("; ".join(mistakes))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Simulated transactions and what was learned about them later.

    Attributes:
        events: transaction_id, event_time (UTC, whole seconds), customer_id, terminal_id, amount
            (whole cents, null where absent); sorted by event_time and transaction_id.
        labels: transaction_id, label_time, event_time, customer_id, terminal_id, is_fraud (0 or
            1); one for each event, sorted by label_time and transaction_id.
        frauds: transaction_id and kind of each fraud: for telling people, never for a model.
    """

    events: pl.DataFrame
    labels: pl.DataFrame
    frauds: pl.DataFrame


def simulate(plan: Plan) -> Traffic:
    """Draw the traffic of a plan.

    Args:
        plan: What to simulate; a plan with another seed gives other traffic.

    Returns:
        Events, labels and the kinds of fraud, as polars frames.

    Example:
        >>> traffic = simulate(Plan(customers=10, terminals=20, days=7))
        >>> traffic.events.columns
        ['transaction_id', 'event_time', 'customer_id', 'terminal_id', 'amount']
        >>> traffic.events.height == traffic.labels.height
        True
    """
    people, payments, frauds, absences, labels = (
        np.random.Generator(np.random.PCG64(seed))
        for seed in np.random.SeedSequence(plan.seed).spawn(5)
    )
    town = _found(plan, people)
    honest = _pay(plan, town, payments)
    exposure = Exposure(plan.customers, plan.terminals, plan.days * DAY, plan.fraud_share)
    ledger = _order(defraud(honest, exposure, frauds))
    absent = absences.random(ledger.seconds.size) < plan.missing_share
    delays = labels.integers(*_LABEL_SECONDS, size=ledger.seconds.size, endpoint=True)
    return _frames(plan, ledger, absent, delays)


def _too_few(plan: Plan) -> list[str]:
    least = {"customers": 1, "terminals": 1, "days": 1, "seed": 0}
    return [
        f"{name} is {getattr(plan, name)}; expected at least {bound}"
        for name, bound in least.items()
        if getattr(plan, name) < bound
    ]


def _no_shares(plan: Plan) -> list[str]:
    bounds = {"events_per_day": (0, 1_000), "fraud_share": (0, 0.2), "missing_share": (0, 1)}
    return [
        f"{name} is {getattr(plan, name)}; expected {low} to {high}"
        for name, (low, high) in bounds.items()
        if not low <= getattr(plan, name) <= high
    ]


def _no_start(start: datetime) -> list[str]:
    if start.tzinfo is not None and start.microsecond == 0:
        return []
    return [
        f"start is {start.isoformat()!r}; expected a whole second with a UTC offset, "
        f"such as {A_MONDAY.isoformat()!r}"
    ]


@dataclass(frozen=True, slots=True)
class _World:
    """Customers and terminals; one row of each array for each of them."""

    rates: Floats  # transactions per day
    log_amounts: Floats  # of the middle amount in cents
    spreads: Floats  # of the log amounts
    haunts: Ints  # customers x at most _HAUNTS terminals, the nearest first
    prices: Floats  # of the terminals, against the middle amount


def _found(plan: Plan, rng: np.random.Generator) -> _World:
    towns = rng.integers(0, _MAP_METRES, size=(1 + plan.customers // _CUSTOMERS_PER_TOWN, 2))
    homes = _settle(towns, plan.customers, rng)
    shops = _settle(towns, plan.terminals, rng)
    return _World(
        rates=rng.gamma(4.0, plan.events_per_day / 4.0, size=plan.customers),
        log_amounts=rng.normal(np.log(3_500), 0.5, size=plan.customers),
        spreads=rng.uniform(0.3, 0.7, size=plan.customers),
        haunts=_nearest(homes, shops, min(_HAUNTS, plan.terminals)),
        prices=rng.choice(_PRICE_LEVELS, size=plan.terminals),
    )


def _settle(towns: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Places in whole metres, strewn around the towns."""
    offsets = rng.normal(0.0, _TOWN_METRES, size=(count, 2))
    return towns[rng.integers(0, len(towns), size=count)] + np.rint(offsets).astype(np.int64)


def _nearest(homes: Ints, shops: Ints, count: int) -> Ints:
    """The nearest shops of each home; whole metres and the shop's number leave no tie open."""
    numbers = np.arange(len(shops))
    found = np.empty((len(homes), count), dtype=np.int64)
    for first in range(0, len(homes), 256):  # 256 homes at once bound the memory
        part = homes[first : first + 256]
        squares = (part[:, None, 0] - shops[None, :, 0]) ** 2
        squares += (part[:, None, 1] - shops[None, :, 1]) ** 2
        ranked = squares * len(shops) + numbers
        nearest = np.sort(np.partition(ranked, count - 1, axis=1)[:, :count], axis=1)
        found[first : first + 256] = nearest % len(shops)
    return found


def _pay(plan: Plan, world: _World, rng: np.random.Generator) -> Ledger:
    weekdays = _WEEKDAYS[(plan.start.weekday() + np.arange(plan.days)) % 7]
    visits = rng.poisson(np.outer(world.rates, weekdays)).ravel()
    customers, days = np.divmod(np.repeat(np.arange(visits.size), visits), plan.days)
    terminals = _visit(world, customers, rng)
    logs = world.log_amounts[customers] + world.spreads[customers] * rng.normal(size=days.size)
    return Ledger(
        seconds=days * DAY + _times_of_day(days.size, rng),
        customers=customers,
        terminals=terminals,
        cents=whole_cents(np.exp(logs) * world.prices[terminals]),
        kinds=np.zeros(days.size, dtype=np.int64),
    )


def _times_of_day(count: int, rng: np.random.Generator) -> Ints:
    """Seconds of the day, most around noon and in the evening, a few at any hour."""
    peaks = np.where(rng.random(count) < 0.45, _NOON, _EVENING)
    usual = np.rint(peaks + 9_000 * rng.normal(size=count)).astype(np.int64) % DAY
    return np.where(rng.random(count) < 0.05, rng.integers(0, DAY, size=count), usual)


def _visit(world: _World, customers: Ints, rng: np.random.Generator) -> Ints:
    """A terminal for each transaction: mostly the nearest ones, seldom any at all."""
    reach = world.haunts.shape[1]
    near = (reach * rng.random(customers.size) ** 2).astype(np.int64)
    anywhere = rng.integers(0, len(world.prices), size=customers.size)
    travelling = rng.random(customers.size) < _TRAVELS
    return np.where(travelling, anywhere, world.haunts[customers, near])


def _order(ledger: Ledger) -> Ledger:
    order = np.lexsort((ledger.customers, ledger.seconds))
    return Ledger(
        seconds=ledger.seconds[order],
        customers=ledger.customers[order],
        terminals=ledger.terminals[order],
        cents=ledger.cents[order],
        kinds=ledger.kinds[order],
    )


def _frames(plan: Plan, ledger: Ledger, absent: Mask, delays: Ints) -> Traffic:
    everything = pl.DataFrame(
        {
            "transaction_id": np.arange(ledger.seconds.size),
            "event_time": _microseconds(plan.start, ledger.seconds),
            "customer_id": ledger.customers,
            "terminal_id": ledger.terminals,
            "amount": ledger.cents / 100,
            "absent": absent,
            "label_time": _microseconds(plan.start, ledger.seconds + delays),
            "kind": ledger.kinds,
        }
    ).with_columns(
        pl.col("event_time", "label_time").cast(pl.Datetime("us", "UTC")),
        pl.when(~pl.col("absent")).then("amount").alias("amount"),
        (pl.col("kind") > 0).cast(pl.Int8).alias("is_fraud"),
    )
    keys = ["customer_id", "terminal_id"]
    frauds = everything.filter(pl.col("kind") > 0)
    return Traffic(
        events=everything.select("transaction_id", "event_time", *keys, "amount"),
        labels=everything.select(
            "transaction_id", "label_time", "event_time", *keys, "is_fraud"
        ).sort("label_time", "transaction_id"),
        frauds=frauds.select(
            "transaction_id", pl.col("kind").replace_strict(dict(enumerate(KINDS, start=1)))
        ),
    )


def _microseconds(start: datetime, seconds: Ints) -> Ints:
    whole = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return (whole + seconds) * 1_000_000
