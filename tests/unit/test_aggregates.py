"""The laws that every statistic keeps, and numpy as their oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.aggregates import SKETCH_SIZE, reader, statistic
from headrace.definition import (
    Aggregate,
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
    TimeSinceLast,
)
from headrace.events import id_digest
from headrace.rows import ABSENT_HASH, Rows
from headrace.windows import ViewFold
from tests import strategies as own
from tests.strategies import SECOND_US, START_US, Fields, event_of, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY = [
    Count(), TimeSinceLast(), Sum("x"), Mean("x"), Std("x"), Min("x"), Max("x"), First("x"),
    Last("x"), LastN("x", 3), DistinctCount("x"),
]  # fmt: skip
AS_OF = START_US + 3_600 * SECOND_US
HASHES = st.integers(0, 10) | st.integers(0, 2**64 - 2) | st.just(ABSENT_HASH)
ROWS = st.tuples(st.integers(0, 50), st.none() | own.NUMBERS, HASHES)

every_aggregate = pytest.mark.parametrize("aggregate", EVERY, ids=lambda each: type(each).__name__)


def rows_of(found: Sequence[tuple[int, float | None, int]]) -> Rows:
    """Rows at START + seconds, with a column of numbers and one of hashes."""
    rows = Rows.empty([False, True])
    for number, (second, value, hashed) in enumerate(found):
        digest = id_digest("payments", str(number))
        rows.insert(START_US + second * SECOND_US, digest, [value, hashed])
    return rows


def statistic_of(aggregate: Aggregate) -> Any:
    return statistic(aggregate, 1 if isinstance(aggregate, DistinctCount) else 0)


def merged(each: Any, a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else each.merge(a, b)


def normal(aggregate: Aggregate, found: Any) -> Any:
    """Distinct counts of slices are whole until they are merged: cut them as a merge would."""
    if isinstance(aggregate, DistinctCount) and found is not None:
        return statistic_of(aggregate).merge(found, found)
    return found


def read(aggregate: Aggregate, found: Any) -> tuple[float | None, ...]:
    return reader(aggregate)(normal(aggregate, found), AS_OF)


def same(aggregate: Aggregate, rows: Rows, a: Any, b: Any) -> bool:
    """Equal; sums, means and deviations within 1e-9 of the size of the values."""
    left, right = read(aggregate, a), read(aggregate, b)
    if left == right or not isinstance(aggregate, (Sum, Mean, Std)) or None in (*left, *right):
        return left == right
    values = [abs(value) for value in rows.columns[0].values() if value is not None]
    return left == pytest.approx(right, rel=0, abs=1e-9 * sum(values))


@st.composite
def three_slices(draw: st.DrawFn) -> tuple[Rows, list[int]]:
    rows = rows_of(draw(st.lists(ROWS, min_size=1, max_size=30)))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), min_size=2, max_size=2)))
    return rows, [0, *cuts, len(rows)]


@every_aggregate
@given(three_slices())
def test_merge_is_associative(aggregate: Aggregate, case: tuple[Rows, list[int]]) -> None:
    rows, (start, first, second, stop) = case
    each = statistic_of(aggregate)
    a, b, c = each.of(rows, start, first), each.of(rows, first, second), each.of(rows, second, stop)
    left, right = merged(each, merged(each, a, b), c), merged(each, a, merged(each, b, c))
    assert same(aggregate, rows, left, right)


@every_aggregate
@given(three_slices())
def test_merge_is_commutative(aggregate: Aggregate, case: tuple[Rows, list[int]]) -> None:
    rows, (start, cut, _, stop) = case
    each = statistic_of(aggregate)
    a, b = each.of(rows, start, cut), each.of(rows, cut, stop)
    assert same(aggregate, rows, merged(each, a, b), merged(each, b, a))


@every_aggregate
@given(three_slices())
def test_a_slice_is_its_parts_merged(aggregate: Aggregate, case: tuple[Rows, list[int]]) -> None:
    rows, (start, cut, _, stop) = case
    each = statistic_of(aggregate)
    parts = merged(each, each.of(rows, start, cut), each.of(rows, cut, stop))
    assert same(aggregate, rows, each.of(rows, start, stop), parts)


@every_aggregate
@given(three_slices())
def test_merging_leaves_its_arguments_as_they_were(
    aggregate: Aggregate, case: tuple[Rows, list[int]]
) -> None:
    rows, (start, cut, _, stop) = case
    each = statistic_of(aggregate)
    a, b = each.of(rows, start, cut), each.of(rows, cut, stop)
    before = repr((a, b))
    merged(each, a, b)
    assert repr((a, b)) == before


@every_aggregate
def test_of_no_rows_is_nothing_and_reads_as_absent_or_zero(aggregate: Aggregate) -> None:
    rows = rows_of([(0, 1.0, 5)])
    found = statistic_of(aggregate).of(rows, 1, 1)
    zero = isinstance(aggregate, (Count, DistinctCount))
    assert found is None
    assert set(read(aggregate, found)) == {0.0 if zero else None}


@every_aggregate
def test_absent_values_count_as_events_and_as_nothing_else(aggregate: Aggregate) -> None:
    rows = rows_of([(0, None, ABSENT_HASH), (1, None, ABSENT_HASH)])
    found = statistic_of(aggregate).of(rows, 0, 2)
    assert (found is not None) == isinstance(aggregate, (Count, TimeSinceLast))


@pytest.mark.parametrize(
    ("aggregate", "oracle"),
    [(Sum("x"), np.sum), (Mean("x"), np.mean), (Std("x"), np.std), (Min("x"), np.min),
     (Max("x"), np.max)],
    ids=lambda each: type(each).__name__ if not callable(each) else each.__name__,
)  # fmt: skip
@given(values=st.lists(own.NUMBERS, min_size=1, max_size=40), cut=st.integers(0, 40))
@example(values=[1e6 + 0.01] * 40, cut=7)
@example(values=[0.1, 0.2, 0.3], cut=1)
@example(values=[0.0, 2.225073858507203e-309], cut=0)
def test_statistics_equal_those_of_numpy(
    aggregate: Aggregate, oracle: Any, values: list[float], cut: int
) -> None:
    rows = rows_of([(n, value, 0) for n, value in enumerate(values)])
    each, n = statistic_of(aggregate), min(cut, len(values))
    found = merged(each, each.of(rows, 0, n), each.of(rows, n, len(values)))
    exact = isinstance(aggregate, (Min, Max))
    # The square of a deviation below 1e-154 is no double any more.
    scale = 0.0 if exact else max(1e-9 * max(map(abs, values)) * len(values), 1e-150)
    expected = float(oracle(np.asarray(values, dtype=np.longdouble)))
    assert read(aggregate, found)[0] == pytest.approx(expected, rel=0, abs=scale)


def test_sums_of_cents_have_no_rounding_of_their_own() -> None:
    rows = rows_of([(n, 0.1, 0) for n in range(10)])
    assert read(Sum("x"), statistic_of(Sum("x")).of(rows, 0, 10)) == (1.0,)


def test_equal_values_have_no_deviation_whatever_their_size() -> None:
    rows = rows_of([(n, 123_456.78, 0) for n in range(1000)])
    assert read(Std("x"), statistic_of(Std("x")).of(rows, 0, 1000)) == (0.0,)


def test_small_sums_survive_large_ones_between_them() -> None:
    each = statistic_of(Sum("x"))
    parts = [(1, 1e16, 0.0), (1, 1.0, 0.0), (1, -1e16, 0.0)]
    assert read(Sum("x"), each.merge(each.merge(*parts[:2]), parts[2])) == (1.0,)


def test_first_and_last_of_equal_times_go_by_value() -> None:
    rows = rows_of([(0, 3.0, 0), (0, 1.0, 0), (0, 2.0, 0)])
    assert read(First("x"), statistic_of(First("x")).of(rows, 0, 3)) == (1.0,)
    assert read(Last("x"), statistic_of(Last("x")).of(rows, 0, 3)) == (3.0,)
    assert read(LastN("x", 4), statistic_of(LastN("x", 4)).of(rows, 0, 3)) == (3.0, 2.0, 1.0, None)


# Distinct counts.


def distinct(shops: Sequence[str], **parts: Any) -> float | None:
    """Distinct count after one event a second, each in the shop given."""
    source = own.source_of(seconds(10))
    window = seconds(100_000)
    view = own.view_of(source, aggregates=[DistinctCount("shop")], windows=[window], **parts)
    fold = ViewFold(view)
    state = fold.empty()
    for number, shop in enumerate(shops):
        time = START_US + number * SECOND_US
        fold.fold(state, event_of(source, f"p{number}", time, Fields(shop=shop)))
    return fold.reader.features_as_of(state, START_US + len(shops) * SECOND_US)[0]


@pytest.mark.parametrize("shops", [1, SKETCH_SIZE, SKETCH_SIZE + 1, 3_000])
def test_distinct_count_is_exact_in_exact_windows(shops: int) -> None:
    assert distinct([f"s{n % shops}" for n in range(4_000)]) == shops


@pytest.mark.parametrize("shops", [1, 100, SKETCH_SIZE])
def test_distinct_count_of_hop_windows_is_exact_up_to_the_sketch(shops: int) -> None:
    found = distinct([f"s{n % shops}" for n in range(4_000)], hop=seconds(1_000), head=64)
    assert found == shops


@pytest.mark.parametrize("shops", [SKETCH_SIZE + 1, 1_000, 10_000])
def test_distinct_count_of_hop_windows_is_an_estimate_beyond_it(shops: int) -> None:
    found = distinct([f"s{n % shops}" for n in range(12_000)], hop=seconds(1_000), head=64)
    assert found == pytest.approx(shops, rel=0.2)
