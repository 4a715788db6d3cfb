"""Packed state: the same bytes in any order, and a bound on their number."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.definition import (
    LIFETIME,
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
    days,
    hours,
)
from headrace.errors import DefinitionError, StateError
from headrace.sizes import MAX_ROWS_BYTES
from headrace.state import EntityState, StateCodec
from headrace.view_state import Folded
from tests import strategies as own
from tests.strategies import SECOND_US, START_US, Fields, event_of, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.definition import Source, View
    from headrace.events import Event

ITEM_BYTES = 400_000
"""What one DynamoDB item may hold."""


def folded(codec: StateCodec, events: Iterable[Event], state: EntityState | None = None) -> Any:
    """An entity's state with these events in all of its views."""
    state = codec.empty(own.KEY) if state is None else state
    for event in events:
        for fold in codec.folds["card"]:
            if fold.fold(codec.view(state, fold), event) is Folded.NEW:
                state.changed.add(fold.view.name)
        if not event.late:
            state.note_arrival(event.arrival)
    return state


def packed(codec: StateCodec, events: Iterable[Event]) -> bytes:
    return codec.encode(folded(codec, events))


def read(codec: StateCodec, data: bytes, as_of: int, number: int = 0) -> list[float | None]:
    """Features of one of the views, from a packed state."""
    fold = codec.folds["card"][number]
    return fold.reader.features_as_of(codec.view(codec.decode(own.KEY, 1, data), fold), as_of)


def payment(source: Source, number: int, time: int, amount: float | None = None) -> Event:
    amount = number % 9_973 / 100 if amount is None else amount
    return event_of(source, f"p{number}", time, Fields(amount, number % 2 == 0, f"s{number % 40}"))


# The same bytes in any order.

KINDS = pytest.mark.parametrize(
    "parts",
    [{"windows": [seconds(20)]}, {"windows": [seconds(20)], "hop": seconds(5)},
     {"windows": [seconds(20), LIFETIME]}, {"windows": [LIFETIME], "hop": seconds(5)}],
    ids=["exact", "hop", "exact lifetime", "hop lifetime"],
)  # fmt: skip
SOON = st.integers(0, 60 * SECOND_US)
MOMENTS = SOON | SOON.map(lambda t: t // 1_000 * 1_000) | SOON.map(lambda t: t // 10**6 * 10**6)


@KINDS
@given(data=st.data())
def test_any_order_and_any_repetition_ends_in_the_same_bytes(
    parts: dict[str, Any], data: st.DataObject
) -> None:
    source = own.source_of(seconds(61))
    codec = StateCodec(own.definition_of(own.view_of(source, aggregates=own.AGGREGATES, **parts)))
    found = data.draw(st.lists(st.tuples(MOMENTS, own.FIELDS), min_size=1, max_size=15))
    now = START_US + 60 * SECOND_US
    events = [event_of(source, f"p{n}", START_US + t, f, now) for n, (t, f) in enumerate(found)]
    last = event_of(source, "last", now + 3_700 * SECOND_US)  # rows leave for tiles and base
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=5))
    shuffled = data.draw(st.permutations(events + repeated))
    assert packed(codec, [*shuffled, last]) == packed(codec, [*events, last])


@KINDS
@given(data=st.data())
def test_packing_in_between_ends_in_the_same_bytes_while_no_row_is_given_up(
    parts: dict[str, Any], data: st.DataObject
) -> None:
    # Once rows are given up, columns may stay wider than the rest needs: what was there decides.
    source = own.source_of(seconds(200))
    codec = StateCodec(own.definition_of(own.view_of(source, aggregates=own.AGGREGATES, **parts)))
    found = data.draw(st.lists(st.tuples(MOMENTS, own.FIELDS), min_size=1, max_size=10))
    now = START_US + 60 * SECOND_US
    events = [event_of(source, f"p{n}", START_US + t, f, now) for n, (t, f) in enumerate(found)]
    state = codec.empty(own.KEY)
    for event in data.draw(st.permutations(events)):
        state = codec.decode(own.KEY, 1, codec.encode(folded(codec, [event], state)))
    assert codec.encode(state) == packed(codec, events)


def test_views_that_did_not_change_keep_their_bytes() -> None:
    source = own.source_of()
    views = [own.view_of(source), _named(own.view_of(source), "other")]
    codec = StateCodec(own.definition_of(*views))
    data = packed(codec, [payment(source, 0, START_US)])
    assert codec.encode(codec.decode(own.KEY, 1, data)) == data


def test_bytes_that_are_no_state_are_refused() -> None:
    codec = StateCodec(own.definition_of(own.view_of(own.source_of())))
    for data in (b"", b"{}", b"\x97\x02\x00\xa0\x00\xc4\x00\xc4\x00\x80"):
        with pytest.raises(StateError, match="state of card "):
            codec.decode(own.KEY, 1, data)


# Layout: what was packed under another definition is read rightly or refused.


def _named(view: View, name: str) -> View:
    return own.view_of(view.source, **{**_parts(view), "name": name})


def _parts(view: View) -> dict[str, Any]:
    return {name: getattr(view, name) for name in ("aggregates", "windows", "delay", "hop", "head")}


def test_exact_rows_serve_an_aggregate_that_was_added_later() -> None:
    source = own.source_of()
    former, later = (
        StateCodec(own.definition_of(own.view_of(source, aggregates=found)))
        for found in ([Sum("amount")], [Sum("amount"), Max("amount")])
    )
    data = packed(former, [payment(source, n, START_US, n) for n in range(4)])
    assert read(later, data, START_US) == [6.0, 3.0]


def test_tiles_are_read_rightly_or_refused_when_aggregates_are_reordered() -> None:
    source, rest = own.source_of(seconds(5)), {"windows": [seconds(50)], "hop": seconds(5)}
    former, later = (
        StateCodec(own.definition_of(own.view_of(source, aggregates=found, **rest)))
        for found in ([Min("amount"), Max("amount")], [Max("amount"), Min("amount")])
    )
    events = [payment(source, n, START_US + n * SECOND_US, n) for n in range(1, 31)]
    data = packed(former, events)
    try:
        found = read(later, data, events[-1].time)
    except StateError:
        return
    assert found == [30.0, 1.0]


def test_tiles_of_an_overflow_are_read_rightly_or_refused_when_an_aggregate_is_added() -> None:
    source = own.source_of(seconds(60))
    former, later = (
        StateCodec(own.definition_of(own.view_of(source, aggregates=found, windows=[days(30)])))
        for found in ([Sum("amount")], [Sum("amount"), Max("amount")])
    )
    events = [payment(source, n, START_US + n * SECOND_US) for n in range(32_000)]
    data = packed(former, events)
    try:
        found = read(later, data, events[-1].time)
    except StateError:
        return
    assert found[1] == max(event.fields.amount for event in events)


# Size.


def test_an_event_of_cents_at_whole_seconds_takes_12_to_13_bytes_in_an_exact_view() -> None:
    source = own.source_of()
    view = own.view_of(source, aggregates=[Count(), Mean("amount")], windows=[days(30)])
    codec = StateCodec(own.definition_of(view))
    size = len(packed(codec, [payment(source, n, START_US + n * SECOND_US) for n in range(5_000)]))
    assert 12 <= size / 5_000 <= 13


def sizes(view: View, events: Iterable[Event], every: int) -> list[int]:
    """Packed size after every so many events; packed and unpacked as between batches."""
    codec = StateCodec(own.definition_of(view))
    state, found = codec.empty(own.KEY), []
    for number, event in enumerate(events, 1):
        folded(codec, [event], state)
        if number % every == 0:
            data = codec.encode(state)
            found.append(len(data))
            state = codec.decode(own.KEY, 1, data)
    return found


@pytest.mark.parametrize("lateness_s", [60, 86_400], ids=["rows leave by age", "by number"])
def test_a_hop_view_stays_as_small_after_200_000_events_as_after_50_000(lateness_s: int) -> None:
    source = own.source_of(seconds(lateness_s))
    view = own.view_of(
        source, aggregates=own.AGGREGATES, windows=[days(1), days(7)], hop=hours(6), head=512
    )
    step = 30 * 86_400 * SECOND_US // 200_000
    events = (payment(source, n, START_US + n * step) for n in range(200_000))
    found = sizes(view, events, 50_000)
    assert len(found) == 4
    assert found[3] == pytest.approx(found[0], rel=0.1)
    assert max(found) < 60_000


def test_an_exact_view_that_outgrows_its_item_goes_on_with_tiles_and_is_exact_again_later() -> None:
    source = own.source_of(seconds(60))
    view = own.view_of(source, aggregates=[Count(), Sum("amount")], windows=[hours(8)])
    codec = StateCodec(own.definition_of(view))
    fold = codec.folds["card"][0]
    busy = [payment(source, n, START_US + n * SECOND_US // 2) for n in range(40_000)]
    state = folded(codec, busy[:20_000])
    assert codec.view(state, fold).hop == 0
    folded(codec, busy[20_000:], state)
    assert codec.view(state, fold).hop > 0
    data = codec.encode(state)
    assert len(data) < 100_000
    state = codec.decode(own.KEY, 1, data)
    expected = own.brute_force(view, busy, busy[-1].time)
    assert read(codec, data, busy[-1].time) == pytest.approx(expected, rel=0.01)
    quiet = [payment(source, 50_000 + n, busy[-1].time + (n + 1) * 3_600 * SECOND_US)
             for n in range(12)]  # fmt: skip
    for event in quiet:
        folded(codec, [event], state)
        data = codec.encode(state)
        state = codec.decode(own.KEY, 1, data)
    assert codec.view(state, fold).hop == 0
    expected = own.brute_force(view, [*busy, *quiet], quiet[-1].time)
    assert read(codec, data, quiet[-1].time) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("aggregates", "parts"),
    [
        ([Count(), Sum("amount")], {"windows": [days(30)]}),
        ([Count(), Sum("amount")], {"windows": [hours(1)], "delay": days(7)}),
        ([Count(), Sum("amount")], {"windows": [LIFETIME], "delay": days(7)}),
        ([DistinctCount("shop")], {"windows": [days(7)]}),
        (own.AGGREGATES, {"windows": [days(7), LIFETIME]}),
    ],
    ids=["30d", "1h delayed by 7d", "lifetime delayed by 7d", "distinct", "all"],
)
def test_an_exact_view_never_outgrows_its_item(
    aggregates: Sequence[Any], parts: dict[str, Any]
) -> None:
    source = own.source_of(days(1))
    view = own.view_of(source, aggregates=aggregates, **parts)
    step = 7 * 86_400 * SECOND_US // 36_000 // SECOND_US * SECOND_US  # 36,000 in a week
    random = Random(7)
    events = (
        event_of(
            source,
            f"p{n}",
            START_US + n * step,
            Fields(n % 9_973 / 100, True, str(random.random())),
        )
        for n in range(45_000)
    )
    assert max(sizes(view, events, 5_000)) < ITEM_BYTES


def test_two_exact_views_of_one_entity_never_outgrow_its_item() -> None:
    source = own.source_of(seconds(60))
    first = own.view_of(source, aggregates=[Count(), Sum("amount")], windows=[days(30)])
    second = _named(own.view_of(source, windows=[days(30)], aggregates=[Max("amount")]), "other")
    codec = StateCodec(own.definition_of(first, second))
    rows = MAX_ROWS_BYTES // 13
    data = packed(codec, (payment(source, n, START_US + n * SECOND_US) for n in range(rows)))
    assert len(data) < ITEM_BYTES


MANY = [Sum, Std, Min, Max, First, Last]


@pytest.mark.parametrize(
    ("aggregates", "step_s", "events"),
    [
        ([each(field) for field in ("amount", "flag") for each in MANY], 3_600, 1_980),
        ([LastN("amount", 100)], 120, 59_000),
        ([DistinctCount("shop")], 60, 119_000),
    ],
    ids=["many statistics", "last 100", "distinct"],
)
def test_tiles_of_a_definition_that_loads_fit_an_item(
    aggregates: Sequence[Any], step_s: int, events: int
) -> None:
    source = own.source_of(hours(1))
    try:
        codec = StateCodec(
            own.definition_of(
                own.view_of(source, aggregates=aggregates, windows=[hours(1_990)], hop=hours(1))
            )
        )
    except DefinitionError:
        return  # refused when it is loaded: as good
    random = Random(7)
    found = (
        event_of(source, f"p{n}", START_US + n * step_s * SECOND_US,
                 Fields(random.random() * 1e6, n % 2 == 0, str(n)))
        for n in range(events)
    )  # fmt: skip
    assert len(packed(codec, found)) < ITEM_BYTES
