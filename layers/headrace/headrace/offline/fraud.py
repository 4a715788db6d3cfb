"""Three kinds of fraud, strewn into simulated transactions.

Large amounts on a stolen card, terminals that are compromised for some weeks, and customers whose
credentials leaked for some weeks. May import nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

DAY = 86_400

KINDS = ("large_amount", "compromised_terminal", "leaked_credentials")
"""Kind n of a ledger is KINDS[n - 1]; kind 0 is honest."""
LARGE_AMOUNT, COMPROMISED_TERMINAL, LEAKED_CREDENTIALS = 1, 2, 3
_SHARES = {LARGE_AMOUNT: 0.2, COMPROMISED_TERMINAL: 0.5, LEAKED_CREDENTIALS: 0.3}

_CENTS = (50, 500_000)
_LARGE_CENTS = (22_000, 90_000)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Transactions as columns of equal length.

    Attributes:
        seconds: Since the start of the simulation.
        customers: Whose, from 0.
        terminals: Where, from 0.
        cents: How much.
        kinds: Which kind of fraud; 0 for honest ones.
    """

    seconds: Ints
    customers: Ints
    terminals: Ints
    cents: Ints
    kinds: Ints


@dataclass(frozen=True, slots=True)
class Exposure:
    """Who may be defrauded, how long and how much of it there is.

    Attributes:
        customers: How many.
        terminals: How many.
        seconds: Length of the simulation.
        share: About this share of the transactions becomes fraud.
    """

    customers: int
    terminals: int
    seconds: int
    share: float


@dataclass(frozen=True, slots=True)
class _Spells:
    """How one kind of fraud comes upon customers or terminals, for some weeks each."""

    share: float  # of the transactions
    days: tuple[int, int]  # shortest and longest
    odds: float  # that a transaction during the spell is fraud


def whole_cents(amounts: Floats) -> Ints:
    """Round amounts to cents within what a card pays at once."""
    return np.clip(np.rint(amounts).astype(np.int64), *_CENTS)


def defraud(ledger: Ledger, exposure: Exposure, rng: np.random.Generator) -> Ledger:
    """Turn a share of honest transactions into fraud.

    Args:
        ledger: Honest transactions, in any order; left as it is.
        exposure: Who, how long, how much.
        rng: Of every draw.

    Returns:
        A ledger of the same length with kinds set, and amounts and terminals as the kinds have it.
    """
    leaked = _leak_credentials(ledger, exposure, rng)
    compromised = _compromise_terminals(leaked, exposure, rng)
    return _steal_cards(compromised, exposure, rng)


def _leak_credentials(ledger: Ledger, exposure: Exposure, rng: np.random.Generator) -> Ledger:
    """Somebody else pays with the credentials, at any terminal, several times the amount."""
    spells = _Spells(exposure.share * _SHARES[LEAKED_CREDENTIALS], (7, 21), 1 / 3)
    drawn = _draw(spells, exposure.customers, exposure.seconds, rng)
    size = ledger.cents.size
    hit = _inside(ledger.customers, ledger.seconds, drawn) & (rng.random(size) < spells.odds)
    anywhere = rng.integers(0, exposure.terminals, size=size)
    raised = whole_cents(ledger.cents * rng.uniform(3.0, 6.0, size=size))
    return replace(
        ledger,
        terminals=np.where(hit, anywhere, ledger.terminals),
        cents=np.where(hit, raised, ledger.cents),
        kinds=np.where(hit, LEAKED_CREDENTIALS, ledger.kinds),
    )


def _compromise_terminals(ledger: Ledger, exposure: Exposure, rng: np.random.Generator) -> Ledger:
    """Most of what passes through the terminal is fraud, with amounts like any other."""
    spells = _Spells(exposure.share * _SHARES[COMPROMISED_TERMINAL], (14, 28), 0.6)
    drawn = _draw(spells, exposure.terminals, exposure.seconds, rng)
    hit = _inside(ledger.terminals, ledger.seconds, drawn) & (ledger.kinds == 0)
    hit &= rng.random(hit.size) < spells.odds
    return replace(ledger, kinds=np.where(hit, COMPROMISED_TERMINAL, ledger.kinds))


def _steal_cards(ledger: Ledger, exposure: Exposure, rng: np.random.Generator) -> Ledger:
    """Single payments, far larger than most."""
    size = ledger.cents.size
    hit = rng.random(size) < exposure.share * _SHARES[LARGE_AMOUNT]
    hit &= ledger.kinds == 0
    large = rng.integers(*_LARGE_CENTS, size=size, endpoint=True)
    return replace(
        ledger,
        cents=np.where(hit, large, ledger.cents),
        kinds=np.where(hit, LARGE_AMOUNT, ledger.kinds),
    )


def _draw(
    spells: _Spells, owners: int, seconds: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Owner, start and end of each spell; as many as the share asks for."""
    shortest, longest = (DAY * days for days in spells.days)
    share_inside = spells.share / spells.odds
    per_second = share_inside * owners / ((shortest + longest) / 2)
    # Spells that began before the first day make the share the same on every day.
    count = rng.poisson(per_second * (seconds + longest))
    starts = rng.integers(-longest, seconds, size=count)
    ends = starts + rng.integers(shortest, longest, size=count, endpoint=True)
    return rng.integers(0, owners, size=count), starts, ends


def _inside(owners: Ints, seconds: Ints, spells: tuple[Ints, Ints, Ints]) -> Mask:
    """Which of the owners' instants lie in a spell [start, end) of the same owner."""
    struck, starts, ends = spells
    stride = int(max(seconds.max(initial=0), ends.max(initial=0))) + 1
    keys = owners * stride + seconds
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    steps = np.zeros(keys.size + 1, dtype=np.int64)
    np.add.at(steps, np.searchsorted(ranked, struck * stride + np.maximum(starts, 0)), 1)
    np.add.at(steps, np.searchsorted(ranked, struck * stride + np.maximum(ends, 0)), -1)
    inside = np.empty(keys.size, dtype=np.bool_)
    inside[order] = np.cumsum(steps[:-1]) > 0
    return inside
