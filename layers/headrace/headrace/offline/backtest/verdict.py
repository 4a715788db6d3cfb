"""Go or no-go for real time, with its reasons. May import stages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from headrace.offline.backtest.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.offline.backtest.stages import Backtest
    from headrace.offline.metrics import Measured

AP = "average_precision"
FEW_WEEKS, FEW_POSITIVES = 3, 100
SUSPICIOUS = 0.1
"""Lifts of average precision over nightly features that are larger were mostly leaks."""
_DAYS = 30.4


class Side(StrEnum):
    """What a reason speaks for."""

    FOR = "for"
    AGAINST = "against"
    CAUTION = "caution"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, in a sentence."""

    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage costs at the same traffic.

    Attributes:
        usd: Of a month.
        usd_per_million: For a million events.
    """

    usd: float
    usd_per_million: float


@dataclass(frozen=True, slots=True)
class Worth:
    """What real time brings over nightly features, in money.

    Attributes:
        found: More positives found in a month, by looking at as many entities a day; at other
            traffic than the history's, in proportion.
        usd: More cost in a month.
        usd_each: For each of them; None where none is found.
        given: What one is worth, in USD, as was said; None where nothing was said.
    """

    found: float
    usd: float
    usd_each: float | None
    given: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether real-time features pay over nightly ones.

    Attributes:
        go: Only where nothing speaks against it.
        best: The last stage that is surely better than the one before, and pays.
        reasons: What was weighed.
        worth: In money.
    """

    go: bool
    best: Stage
    reasons: list[Reason]
    worth: Worth


def verdict(
    found: Backtest, costs: Mapping[Stage, Cost], worth: float | None, scale: float = 1.0
) -> Verdict:
    """Weigh lift, money and how far both can be believed.

    Args:
        found: The stages side by side.
        costs: Of the three stages.
        worth: What one more positive that is found is worth, in USD; None for not judging money.
        scale: Traffic that the cost is for, over the history's.
    """
    lift = found.compared.lifts[Stage.REAL_TIME, Stage.NIGHTLY_FEATURES]
    money = _worth(lift, costs, worth, scale)
    reasons = [
        _of_lift(lift[AP]),
        *_of_money(money),
        *_of_size(lift[AP]),
        *_of_history(found),
        *_of_coverage(found),
        *_of_mismatch(found),
    ]
    against = any(each.side is Side.AGAINST for each in reasons)
    best = Stage.REAL_TIME if not against else _second_best(found)
    return Verdict(not against, best, reasons, money)


def _second_best(found: Backtest) -> Stage:
    low = found.compared.lifts[Stage.NIGHTLY_FEATURES, Stage.NIGHTLY_SCORES][AP].low
    return Stage.NIGHTLY_FEATURES if low is not None and low > 0 else Stage.NIGHTLY_SCORES


def spoken(measured: Measured, digits: int = 3) -> str:
    """A difference with its interval, such as ``+0.015 (+0.004 to +0.027)``."""
    value = f"{measured.value:+.{digits}f}"
    if measured.low is None or measured.high is None:
        return f"{value} (no interval)"
    return f"{value} ({measured.low:+.{digits}f} to {measured.high:+.{digits}f})"


def _worth(
    lift: Mapping[str, Measured], costs: Mapping[Stage, Cost], given: float | None, scale: float
) -> Worth:
    name = next(each for each in lift if each.startswith("precision_at_"))
    top = int(name.removeprefix("precision_at_").removesuffix("_per_day"))
    found = lift[name].value * top * _DAYS * scale
    usd = costs[Stage.REAL_TIME].usd - costs[Stage.NIGHTLY_FEATURES].usd
    return Worth(found, usd, usd / found if found > 0 else None, given)


def _of_lift(lift: Measured) -> Reason:
    text = f"real time over nightly features: average precision {spoken(lift)}"
    if lift.low is None:
        return Reason(Side.AGAINST, f"{text}; too few positives for an interval")
    if lift.low <= 0:
        return Reason(Side.AGAINST, f"{text}; this history does not tell it from nothing")
    return Reason(Side.FOR, text)


def _of_money(money: Worth) -> list[Reason]:
    if money.usd_each is None:
        text = f"it costs {_usd(money.usd)} a month more, and finds no more positives at the top"
        return [Reason(Side.CAUTION if money.given is None else Side.AGAINST, text)]
    text = (
        f"it costs {_usd(money.usd)} a month more and finds {money.found:.1f} more positives: "
        f"{_usd(money.usd_each)} each"
    )
    if money.given is None:
        return [Reason(Side.CAUTION, f"{text}; say what one is worth to you with --worth")]
    pays = money.given >= money.usd_each
    return [Reason(Side.FOR if pays else Side.AGAINST, f"{text}, worth {_usd(money.given)}")]


def _of_size(lift: Measured) -> list[Reason]:
    if lift.value <= SUSPICIOUS:
        return []
    text = (
        f"a lift of {lift.value:.3f} is more than fresher features mostly bring: look for labels "
        "that are used before they were known, and for events with wrong arrival times"
    )
    return [Reason(Side.CAUTION, text)]


def _of_history(found: Backtest) -> list[Reason]:
    reasons = []
    if len(found.splits) < FEW_WEEKS:
        text = f"only {len(found.splits)} weeks; {FEW_WEEKS} or more tell how they differ"
        reasons.append(Reason(Side.CAUTION, text))
    if found.positives < FEW_POSITIVES:
        text = f"only {found.positives} positives in all test weeks: intervals are wide"
        reasons.append(Reason(Side.CAUTION, text))
    return reasons


def _of_coverage(found: Backtest) -> list[Reason]:
    cover = found.coverage
    text = (
        f"before {cover.behind:.0%} of the events something of the same entity had happened since "
        f"the nightly run, {cover.age_median:.0f} hours old at the median"
    )
    return [Reason(Side.FOR if cover.behind else Side.CAUTION, text)]


def _of_mismatch(found: Backtest) -> list[Reason]:
    loss = found.compared.lifts[Stage.SERVED_STALE, Stage.NIGHTLY_FEATURES][AP]
    if loss.high is None or loss.high >= 0:
        return []
    text = (
        "a model that was trained on real-time features must not be served nightly ones: "
        f"average precision {spoken(loss)} against one that was trained on these"
    )
    return [Reason(Side.CAUTION, text)]


def _usd(amount: float) -> str:
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"
