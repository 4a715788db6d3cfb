"""Dated tables of prices, quotas and measured figures, and what was taken from them.

May import errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PRICES, MEASURED = "prices", "measured"


class Tier(msgspec.Struct, frozen=True):
    """A price up to a quantity of a month; the last tier has no end."""

    usd: float
    up_to: float | None = None


class Price(msgspec.Struct, frozen=True):
    """What a service takes for a quantity.

    Attributes:
        service: As AWS calls it.
        unit: What is counted.
        per: How many of it a tier's price is for.
        tiers: By rising quantity.
        source: The service's public page and part of it.
    """

    service: str
    unit: str
    per: float
    tiers: list[Tier]
    source: str

    def usd(self, quantity: float) -> float:
        """Price of a month's quantity, each part of it at its tier.

        >>> Price("S", "requests", 1000, [Tier(2.0, 5000), Tier(1.0)], "").usd(7000)
        12.0
        """
        total, below = 0.0, 0.0
        for tier in self.tiers:
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            total += max(0.0, end - below) / self.per * tier.usd
            below = end
        return total


class Quota(msgspec.Struct, frozen=True):
    """A limit of AWS, and what moves it."""

    value: float
    unit: str
    source: str
    moved_by: str


class PriceTable(msgspec.Struct, frozen=True):
    """List prices and quotas of one region at one date."""

    as_of: str
    region: str
    currency: str
    note: str
    update: str
    prices: dict[str, Price]
    quotas: dict[str, Quota]

    def price(self, name: str) -> Price:
        """The price of this name.

        Raises:
            Misconfigured: There is none.
        """
        price: Price = _named(self.prices, name, "price")
        return price

    def quota(self, name: str) -> float:
        """The quota of this name.

        Raises:
            Misconfigured: There is none.
        """
        quota: Quota = _named(self.quotas, name, "quota")
        return quota.value


class Figure(msgspec.Struct, frozen=True):
    """A number that a plan is made of.

    Attributes:
        value: In its unit.
        unit: What it is.
        command: What measured it; empty where it was not measured.
        assumed: Why it is what it is, where it was not measured.
    """

    value: float
    unit: str
    command: str = ""
    assumed: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, in a few words."""
        return self.command or f"assumed: {self.assumed}"


class FigureTable(msgspec.Struct, frozen=True):
    """Figures that were measured at one date on one machine."""

    as_of: str
    machine: str
    update: str
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures to take from, some of them given.

    Attributes:
        table: The measured and assumed ones.
        given: Name -> figure that goes before it.
    """

    table: FigureTable
    given: Mapping[str, Figure] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of a figure.

        Raises:
            Misconfigured: There is none of this name.
        """
        figure: Figure = _named(self.all, name, "figure")
        return figure.value

    @property
    def all(self) -> dict[str, Figure]:
        """Every figure by name."""
        return {**self.table.figures, **self.given}

    def state_bytes(self, entity: str) -> float:
        """Bytes of an entity's state."""
        own = f"{entity}_state_bytes"
        return self[own if own in self.all else "state_bytes"]


def newest(folder: Path, kind: str) -> Path:
    """The file ``<kind>-YYYY-MM.json`` of the latest month.

    Raises:
        Misconfigured: There is none.
    """
    found = sorted(folder.glob(f"{kind}-????-??.json"))
    if not found:
        msg = f"{folder}: no {kind}-YYYY-MM.json; expected a dated table of {kind}"
        raise Misconfigured(msg)
    return found[-1]


def read_prices(path: Path) -> PriceTable:
    """A dated table of prices.

    Raises:
        Misconfigured: It cannot be read.
    """
    table: PriceTable = _read(path, PriceTable)
    return table


def read_figures(path: Path) -> FigureTable:
    """A dated table of figures.

    Raises:
        Misconfigured: It cannot be read.
    """
    table: FigureTable = _read(path, FigureTable)
    return table


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        msg = f"{path.name}: {error}; expected a table as infra/prices-2026-11.json is one"
        raise Misconfigured(msg) from error


def _named(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        msg = f"{kind} {name!r}: not in the table; expected one of {', '.join(sorted(table))}"
        raise Misconfigured(msg)
    return table[name]
