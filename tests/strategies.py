"""Hypothesis strategies and plain models of the fold, all in one file.

Importing it makes every property test repeatable: no example depends on the day of the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from math import fsum, sqrt
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from headrace.definition import (
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
    Number,
    Source,
    Std,
    Sum,
    Text,
    TimeSinceLast,
    View,
)
from headrace.events import Event, id_digest, microseconds
from headrace.loading import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

settings.register_profile(
    "headrace",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("headrace")

SECOND_US = 1_000_000
START_US = 1_700_000_000 * SECOND_US  # a whole hundred seconds, so a multiple of every hop below
card = Entity("card")
KEY = "card#1"


@dataclass(frozen=True, slots=True)
class Fields:
    """What an event brings, under the names of ``source_of``."""

    amount: float | None = None
    flag: bool | None = None
    shop: str | None = None


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def source_of(lateness: timedelta = timedelta(days=1)) -> Source:
    return Source(
        name="payments",
        id="payment_id",
        time="paid_at",
        entities={"card_id": card},
        fields={"amount": Number(), "flag": Flag(), "shop": Text()},
        lateness=lateness,
    )


def view_of(source: Source, **parts: Any) -> View:
    given = {"name": "card", "aggregates": [Count()], "windows": [seconds(10)], **parts}
    return View(entity=card, source=source, **given)


def definition_of(*views: View) -> Definition:
    source = views[0].source
    return checked(
        Definition(
            sources=[source],
            scored=source,
            views=views,
            inputs=["amount"],
            batch_entity=card,
            label=Label(source, "flag"),
        )
    )


def event_of(
    source: Source, name: str, time: int, fields: Fields | None = None, arrival: int | None = None
) -> Event:
    """An event as the decoder would give it; it arrives when it happens unless told otherwise."""
    came = time if arrival is None else arrival
    late = came - time > microseconds(source.lateness)
    digest = id_digest(source.name, name)
    return Event(source, name, digest, time, came, late, {"card": KEY}, fields or Fields())


# The plain model: a list of events and a loop.


def brute_force(view: View, events: Sequence[Event], as_of: int) -> list[float | None]:
    """The features of a view as of an instant, from a plain list of events."""
    hop = microseconds(view.hop) if view.hop else 1
    values: list[float | None] = []
    for window in view.windows:
        right = as_of - microseconds(view.delay)
        left = -1 if window == LIFETIME else (right - microseconds(window)) // hop * hop
        right = right // hop * hop if view.delay else right
        inside = [
            e for e in events if left < e.time <= right and (not view.where or wanted(view, e))
        ]
        for aggregate in view.aggregates:
            values += plain(aggregate, inside, as_of)
    return values


def wanted(view: View, event: Event) -> bool:
    """Whether a filter that fails on absent fields wants the event."""
    try:
        return view.where is None or bool(view.where(event.fields))
    except (TypeError, AttributeError):
        return False


def plain(aggregate: Aggregate, inside: Sequence[Event], as_of: int) -> list[float | None]:
    """One aggregate of the events in a window, in the most obvious way."""
    found = [(e.time, getattr(e.fields, aggregate.field, None)) for e in inside]
    ends = sorted((time, float(v)) for time, v in found if isinstance(v, (int, float)))
    values = [value for _, value in ends]
    match aggregate:
        case Count():
            return [float(len(inside))]
        case TimeSinceLast():
            return [(as_of - max(e.time for e in inside)) / SECOND_US if inside else None]
        case DistinctCount():
            return [float(len({value for _, value in found if value is not None}))]
        case LastN():
            newest = values[::-1][: aggregate.n]
            return [*newest, *[None] * (aggregate.n - len(newest))]
    if not values:
        return [None]
    mean = fsum(values) / len(values)
    spread = sqrt(fsum((value - mean) ** 2 for value in values) / len(values))
    by_kind = {
        Sum: fsum(values), Mean: mean, Std: spread, Min: min(values), Max: max(values),
        First: values[0], Last: values[-1],
    }  # fmt: skip
    return [by_kind[type(aggregate)]]


def tolerances(view: View, events: Sequence[Event]) -> list[float]:
    """How far each feature may be off: 0 unless it is a rounded sum."""
    largest = max((abs(e.fields.amount) for e in events if e.fields.amount is not None), default=0)
    rounded = {Sum: len(events), Mean: 1, Std: 1}
    return [
        1e-9 * largest * rounded.get(type(aggregate), 0)
        for window in view.windows
        for aggregate in view.aggregates
        for _ in view.feature_names(aggregate, window)
    ]


def unequal(
    view: View, got: Sequence[float | None], expected: Sequence[float | None], off: Sequence[float]
) -> dict[str, tuple[float | None, float | None]]:
    """Feature -> (got, expected), for those that differ by more than their tolerance."""
    return {
        name: (a, b)
        for name, a, b, most in zip(view.features, got, expected, off, strict=True)
        if a != b and (a is None or b is None or not abs(a - b) <= most)
    }


# Strategies.

WHOLE = st.integers(0, 300).map(float)
CENTS = st.integers(-50_000, 5_000_000).map(lambda n: n / 100)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x + 0.0)  # -0.0 becomes 0.0
NUMBERS = st.one_of(WHOLE, CENTS, FLOATS, st.just(float(2**53)))
FIELDS = st.builds(
    Fields,
    amount=st.none() | NUMBERS,
    flag=st.none() | st.booleans(),
    shop=st.none() | st.sampled_from(["a", "b", "c", "d"]),
)
AGGREGATES: list[Aggregate] = [
    Count(), Sum("amount"), Mean("amount"), Std("amount"), Min("amount"), Max("amount"),
    First("amount"), Last("amount"), LastN("amount", 3), DistinctCount("shop"), Mean("flag"),
    Sum("flag"),
]  # fmt: skip


def _above_ten(event: Any) -> bool:
    return bool(event.amount > 10)  # fails on an absent amount: then it is not wanted


def _in_shop_a(event: Any) -> bool:
    return bool(event.shop == "a")


WINDOWS = st.lists(
    st.sampled_from([seconds(10), seconds(20), seconds(50), LIFETIME]), min_size=1, max_size=3,
    unique=True,
)  # fmt: skip


@st.composite
def views(draw: st.DrawFn, *, hop: st.SearchStrategy[timedelta | None]) -> View:
    """A view with every aggregate over windows of seconds."""
    source = source_of(draw(st.sampled_from([seconds(0), seconds(5), seconds(60)])))
    delay = draw(st.sampled_from([seconds(0), seconds(0), seconds(7.5), seconds(10)]))
    current = bool(delay) or draw(st.booleans())
    since = [] if current and not delay else [TimeSinceLast()]
    return view_of(
        source,
        aggregates=[*AGGREGATES, *since],
        windows=draw(WINDOWS),
        delay=delay,
        include_current=current,
        where=draw(st.sampled_from([None, None, _above_ten, _in_shop_a])),
        hop=draw(hop),
    )


EXACT = st.none()
HOP = st.sampled_from([seconds(2.5), seconds(5), seconds(10)])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events in order of arrival into one view, with the points where the state is packed."""

    view: View
    events: list[Event]
    packed_after: frozenset[int]


@st.composite
def times(draw: st.DrawFn, view: View) -> list[int]:
    """Event times in order of arrival: many on the edges of others' windows, or beside them."""
    delay = microseconds(view.delay)
    edges = [0, delay, microseconds(view.hop or seconds(1))]
    edges += [delay + microseconds(w) for w in view.windows if w != LIFETIME]
    quiet = 3_700 * SECOND_US  # after which rows leave for tiles, base or nowhere
    unit = draw(st.sampled_from([SECOND_US, SECOND_US // 2, 1_000, 1]))
    found = [START_US + draw(st.integers(0, 20)) * SECOND_US]
    for _ in range(draw(st.integers(0, 24))):
        if draw(st.integers(0, 15)) == 15:
            time = max(found) + quiet
        elif draw(st.booleans()):
            edge = draw(st.sampled_from(edges))
            time = draw(st.sampled_from(found)) + edge + draw(st.sampled_from([0, 0, unit, -unit]))
        else:
            time = max(found) - draw(st.integers(-50, 50)) * SECOND_US
            time += draw(st.sampled_from([0, 0, unit, -unit]))
        found.append(time)
    return found


@st.composite
def arrivals(draw: st.DrawFn, hop: st.SearchStrategy[timedelta | None]) -> Arrivals:
    """Events out of order, some late, for a random view; the state is packed now and then."""
    view = draw(views(hop=hop))
    found, now = [], 0
    lag = draw(st.sampled_from([0, 0, 3 * SECOND_US]))
    for number, time in enumerate(draw(times(view))):
        now = max(now, time + lag)
        found.append(event_of(view.source, f"p{number}", time, draw(FIELDS), now))
    points = draw(st.frozensets(st.integers(0, len(found) - 1)))
    return Arrivals(view, found, points)


@st.composite
def ordered_arrivals(draw: st.DrawFn) -> Arrivals:
    """Events in order of event time, for a hop view that keeps only a few of them as rows."""
    case = draw(arrivals(HOP))
    view = replace(case.view, head=draw(st.sampled_from([1, 2, 4])))
    found = sorted(case.events, key=lambda event: event.time)
    events = [event_of(view.source, e.id, e.time, e.fields, e.time) for e in found]
    return Arrivals(view, events, case.packed_after)


# Histories: files of events and labels, for a definition with several views.

shop = Entity("shop")
_MAYBE_LATE = st.sampled_from([0, 0, 0, 1, 3, 7, 70, 100_000])
_BOUNDS: list[dict[str, Any]] = [{}, {"at_most": 250, "if_invalid": "missing"}, {"at_least": 0}]


@dataclass(frozen=True, slots=True)
class Case:
    """A definition with the rows of its two sources, as files have them."""

    definition: Definition
    events: list[dict[str, Any]]
    labels: list[dict[str, Any]]


def ratio(event: Any, features: Any) -> float:
    """A request feature that fails where an amount or a feature is absent."""
    found: float = event.amount / next(iter(features.values()))
    return found


@st.composite
def two_sources(draw: st.DrawFn) -> tuple[Source, Source]:
    """Payments, which are scored, and their labels."""
    scored = replace(
        source_of(draw(st.sampled_from([seconds(0), seconds(5), seconds(60)]))),
        entities={"card_id": card, "shop_id": shop},
        fields={
            "amount": Number(**draw(st.sampled_from(_BOUNDS))),
            "flag": Flag(),
            "shop": Text(),
        },
    )
    labels = replace(
        scored,
        name="labels",
        lateness=draw(st.sampled_from([seconds(5), seconds(100)])),
        revised_by=draw(st.sampled_from(["", "", "", "amount"])),
    )
    return scored, labels


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """One to three views, of both sources and entities, with every aggregate."""
    scored, labels = draw(two_sources())
    found = []
    for number in range(draw(st.integers(1, 3))):
        view = draw(views(hop=EXACT if number else st.one_of(EXACT, HOP)))  # one fits into an item
        source = draw(st.sampled_from([scored, scored, labels]))
        where = None if source.revised_by else view.where
        entity = draw(st.sampled_from([card, shop]))
        view = replace(view, name=f"v{number}", source=source, entity=entity, where=where)
        found.append(replace(view, head=draw(st.sampled_from([1, 2, 200]))))
    return checked(
        Definition(
            sources=[scored, labels],
            scored=scored,
            views=found,
            request_features=[ratio],
            inputs=["amount", "flag", *(name for view in found for name in view.features)],
            batch_entity=card,
            label=Label(labels, "flag"),
        )
    )


@st.composite
def rows_of(draw: st.DrawFn, view: View, ids: st.SearchStrategy[int]) -> list[dict[str, Any]]:
    """Rows of a file of one source, with times on the edges of a view's windows."""
    found, orderly = [], draw(st.booleans())
    numbers = draw(st.sampled_from([WHOLE, CENTS, NUMBERS]))
    for number, time in enumerate(draw(times(view))):
        fields = draw(FIELDS)
        late = 0 if orderly else draw(_MAYBE_LATE) * SECOND_US
        found.append(
            {
                "payment_id": 100 * number + draw(ids),
                "paid_at": time,
                "arrival_time": time + late,
                "card_id": draw(st.integers(1, 2)),
                "shop_id": draw(st.integers(1, 2)),
                "amount": None if fields.amount is None else draw(numbers),
                "flag": fields.flag,
                "shop": fields.shop,
            }
        )
    return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A random definition with random files; now and then an id comes again."""
    definition = draw(definitions())
    ids = draw(st.sampled_from([st.just(0), st.just(0), st.sampled_from([0, -100])]))
    files = [draw(rows_of(draw(st.sampled_from(definition.views)), ids)) for _ in range(2)]
    if draw(st.booleans()):
        for rows in files:
            rows.sort(key=lambda row: row["paid_at"])
    return Case(definition, *files)
