"""The fold against a brute force over a plain list of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from headrace.definition import LIFETIME, Count, DistinctCount, Last, Max, Mean, Sum
from headrace.state import EntityState, StateCodec
from headrace.view_state import Folded, Step
from headrace.windows import ViewFold
from tests import strategies as own
from tests.strategies import SECOND_US, START_US, Arrivals, Fields, event_of, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.definition import View
    from headrace.events import Event


class Entity:
    """One entity's state in one view, fed event by event and packed on demand."""

    def __init__(self, view: View) -> None:
        self.codec = StateCodec(own.definition_of(view))
        self.fold = self.codec.folds["card"][0]
        self.state: EntityState = self.codec.empty(own.KEY)

    def step(self, event: Event) -> Step:
        found = self.fold.step(self.codec.view(self.state, self.fold), event)
        if found.folded is Folded.NEW:
            self.state.changed.add(self.fold.view.name)
        if not event.late:
            self.state.note_arrival(event.arrival)
        return found

    def pack(self) -> bytes:
        data = self.codec.encode(self.state)
        self.state = self.codec.decode(own.KEY, 1, data)
        return data


def differences(case: Arrivals) -> list[tuple[str, Any]]:
    """Where the fold and the brute force differ; late events may meet rows that have left."""
    entity, found, packed = Entity(case.view), [], False
    known: list[Event] = []
    for number, event in enumerate(case.events):
        step = entity.step(event)
        counted = [*known, event] if case.view.include_current or case.view.delay else known
        if not (event.late and (packed or event.arrival - event.time > 3_600 * SECOND_US)):
            expected = own.brute_force(case.view, counted, event.time)
            off = own.tolerances(case.view, counted)
            found += [(event.id, own.unequal(case.view, step.features, expected, off))]
        known = known if event.late else [*known, event]
        if number in case.packed_after:
            entity.pack()
            packed = True
    return [(name, unequal) for name, unequal in found if unequal]


@settings(max_examples=250)
@given(own.arrivals(own.EXACT))
def test_exact_views_equal_a_brute_force(case: Arrivals) -> None:
    assert not differences(case)


@settings(max_examples=250)
@given(own.arrivals(own.HOP))
def test_hop_views_equal_a_brute_force_with_edges_on_the_hop(case: Arrivals) -> None:
    assert not differences(case)


@settings(max_examples=150)
@given(own.ordered_arrivals())
def test_events_in_tiles_count_like_events_in_rows(case: Arrivals) -> None:
    assert not differences(case)


def features(view: View, offsets_us: Sequence[int], as_of_us: int = 0) -> list[float | None]:
    """Features as of START + as_of_us, of events at START + each offset."""
    fold = ViewFold(view)
    state = fold.empty()
    for number, offset in enumerate(offsets_us):
        time = START_US + offset
        fold.fold(state, event_of(view.source, f"p{number}", time, Fields(amount=1.0)))
    return fold.reader.features_as_of(state, START_US + as_of_us)


@pytest.mark.parametrize("unit", [1, 1_000, SECOND_US])
@pytest.mark.parametrize("delay_s", [0, 7])
def test_a_window_holds_its_right_edge_and_not_its_left_one(unit: int, delay_s: int) -> None:
    view = own.view_of(own.source_of(), windows=[seconds(10)], delay=seconds(delay_s))
    right, left = -delay_s * SECOND_US, (-delay_s - 10) * SECOND_US
    assert features(view, [right]) == [1.0]
    assert features(view, [right + unit]) == [0.0]
    assert features(view, [left]) == [0.0]
    assert features(view, [left + unit]) == [1.0]


@pytest.mark.parametrize("as_of_us", [0, 1, SECOND_US, 5 * SECOND_US - 1])
def test_the_left_edge_of_a_hop_view_moves_down_to_a_hop(as_of_us: int) -> None:
    view = own.view_of(own.source_of(), windows=[seconds(10)], hop=seconds(5))
    edge = -10 * SECOND_US
    assert features(view, [edge], as_of_us) == [0.0]
    assert features(view, [edge + 1], as_of_us) == [1.0]


@pytest.mark.parametrize("as_of_us", [0, 1, SECOND_US, 5 * SECOND_US - 1])
def test_the_right_edge_of_a_delayed_hop_view_moves_down_to_a_hop(as_of_us: int) -> None:
    view = own.view_of(own.source_of(), windows=[seconds(10)], hop=seconds(5), delay=seconds(10))
    edge = -10 * SECOND_US
    assert features(view, [edge], as_of_us) == [1.0]
    assert features(view, [edge + 1], as_of_us) == [0.0]


def test_at_equal_event_times_what_arrived_so_far_counts() -> None:
    view = own.view_of(own.source_of())
    entity = Entity(view)
    events = [event_of(view.source, name, START_US) for name in "abc"]
    assert [entity.step(event).features for event in events] == [[1.0], [2.0], [3.0]]


def test_an_event_out_of_order_does_not_see_what_happened_after_it() -> None:
    view = own.view_of(own.source_of(), windows=[seconds(10), LIFETIME])
    entity = Entity(view)
    entity.step(event_of(view.source, "newer", START_US + SECOND_US))
    before = event_of(view.source, "older", START_US, arrival=START_US + 2 * SECOND_US)
    assert entity.step(before).features == [1.0, 1.0]


@pytest.mark.parametrize("hop", [None, seconds(5)])
def test_late_event_has_features_that_count_itself_and_changes_nothing(hop: Any) -> None:
    aggregates = [Count(), Sum("amount"), Last("amount")]
    view = own.view_of(
        own.source_of(seconds(60)), windows=[seconds(10), LIFETIME], aggregates=aggregates, hop=hop
    )
    entity = Entity(view)
    entity.step(event_of(view.source, "first", START_US, Fields(amount=1.0)))
    before = entity.pack()
    arrival = START_US + 60 * SECOND_US + 1
    late = event_of(view.source, "late", START_US, Fields(amount=5.0), arrival)
    step = entity.step(late)
    assert step.folded is Folded.LATE
    assert step.features == [2.0, 6.0, 5.0] * 2
    assert entity.pack() == before


def test_an_event_exactly_as_late_as_allowed_is_folded() -> None:
    view = own.view_of(own.source_of(seconds(60)))
    entity = Entity(view)
    event = event_of(view.source, "first", START_US, arrival=START_US + 60 * SECOND_US)
    entity.step(event)
    entity.pack()
    again = event_of(view.source, "second", START_US, arrival=START_US + 60 * SECOND_US)
    assert entity.step(again).folded is Folded.NEW


@pytest.mark.parametrize("later_s", [0, 3, 60])
@pytest.mark.parametrize(
    "parts", [{}, {"hop": seconds(5)}, {"windows": [LIFETIME]}], ids=["exact", "hop", "lifetime"]
)
def test_repeated_event_changes_no_byte(parts: dict[str, Any], later_s: int) -> None:
    source = own.source_of(seconds(200))
    view = own.view_of(source, **{"aggregates": own.AGGREGATES, **parts})
    entity = Entity(view)
    first = event_of(view.source, "p", START_US, Fields(amount=1.5))
    entity.step(first)
    before = entity.pack()
    time = START_US + later_s * SECOND_US
    again = event_of(view.source, "p", time, Fields(amount=9.0), arrival=START_US)
    assert entity.step(again).folded is Folded.REPEATED
    entity.state.changed.add("card")
    assert entity.pack() == before


def test_repeated_event_has_the_features_that_it_had() -> None:
    view = own.view_of(own.source_of(), aggregates=own.AGGREGATES)
    entity = Entity(view)
    events = [
        event_of(view.source, f"p{n}", START_US + n * SECOND_US, Fields(float(n), True, f"{n}"))
        for n in range(8)
    ]
    first = [entity.step(event).features for event in events]
    entity.pack()
    assert [entity.step(event).features for event in events] == first


def test_features_of_a_view_that_never_saw_the_entity_are_absent_and_counts_are_zero() -> None:
    view = own.view_of(own.source_of(), aggregates=[Count(), Mean("amount"), DistinctCount("shop")])
    fold = ViewFold(view)
    assert fold.reader.features_as_of(fold.empty(), START_US) == [0.0, None, 0.0]


def test_the_filter_passes_over_events_whose_field_is_absent() -> None:
    view = own.view_of(own.source_of(), where=lambda event: event.shop.startswith("web"))
    fold = ViewFold(view)
    state = fold.empty()
    assert fold.fold(state, event_of(view.source, "no shop", START_US)) is Folded.PASSED
    web = event_of(view.source, "web", START_US, Fields(shop="web-1"))
    assert fold.fold(state, web) is Folded.NEW


@pytest.mark.parametrize("amounts", [[0.25, 1e100], [-1e100, 1e100]])
def test_large_numbers_next_to_others_do_not_stop_the_fold(amounts: list[float]) -> None:
    view = own.view_of(own.source_of(), aggregates=own.AGGREGATES)
    entity = Entity(view)
    for number, amount in enumerate(amounts):
        step = entity.step(event_of(view.source, f"p{number}", START_US, Fields(amount=amount)))
    found = dict(zip(view.features, step.features, strict=True))
    assert (found["card_amount_min_10s"], found["card_amount_max_10s"]) == tuple(amounts)
    assert found["card_amount_std_10s"] == pytest.approx((amounts[1] - amounts[0]) / 2)


def test_true_and_1_are_one_value_of_a_flag() -> None:
    view = own.view_of(own.source_of(), aggregates=[DistinctCount("flag"), Max("flag")])
    entity = Entity(view)
    entity.step(event_of(view.source, "a", START_US, Fields(flag=True)))
    one: Any = 1
    assert entity.step(event_of(view.source, "b", START_US, Fields(flag=one))).features[0] == 1.0


@pytest.mark.parametrize("hop", [None, seconds(5)])
def test_newest_event_used_is_not_newer_than_the_right_edge(hop: Any) -> None:
    view = own.view_of(own.source_of(seconds(5)), windows=[seconds(50)], delay=seconds(20), hop=hop)
    entity = Entity(view)
    for second in range(0, 100, 2):
        entity.step(event_of(view.source, f"p{second}", START_US + second * SECOND_US))
        entity.pack()
    as_of = START_US + 98 * SECOND_US
    state = entity.codec.view(entity.state, entity.fold)
    newest = entity.fold.look(state, as_of).newest
    assert newest is not None
    assert newest <= as_of - 20 * SECOND_US
