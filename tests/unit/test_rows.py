"""Compact rows against a plain list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.events import id_digest
from headrace.rows import DIGEST_BYTES, MICROSECONDS, SECONDS, Column, Rows, fit_ticks
from tests import strategies as own
from tests.strategies import SECOND_US, START_US

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[int, bytes, list[float | None]]

TIMES = st.one_of(
    st.integers(-50, 50).map(lambda n: START_US + n * SECOND_US),
    st.integers(-50, 50).map(lambda n: START_US + n * 1_000),
    st.integers(-50, 50).map(lambda n: START_US + n),
    st.sampled_from([START_US + 60 * 86_400 * SECOND_US, 0]),  # too far for 32 bits of ms
)
VALUES = st.one_of(
    st.none(), own.NUMBERS, st.sampled_from([2.0**k + d for k in (7, 8, 15, 16, 31, 32)
                                             for d in (-1, 0, 1)]),
    st.sampled_from([-(2.0**k) + d for k in (7, 15, 31) for d in (-1, 0, 1)]),
    st.floats(-1e100, 1e100, allow_nan=False),
)  # fmt: skip
DIGESTS = st.integers(0, 200).map(lambda n: id_digest("payments", str(n)))


def listed(rows: Rows) -> list[Row]:
    """What the rows hold, as a plain list."""
    times = rows.times_us(0, len(rows))
    columns = [column.values() for column in rows.columns]
    size = DIGEST_BYTES
    return [
        (time, bytes(rows.digests[n * size : (n + 1) * size]), [column[n] for column in columns])
        for n, time in enumerate(times)
    ]


class RowsAgainstList(RuleBasedStateMachine):
    """Every operation is done on rows and on a sorted list."""

    @initialize()
    def start(self) -> None:
        self.rows = Rows.empty([False, False])
        self.model: list[Row] = []

    @rule(time=TIMES, digest=DIGESTS, values=st.lists(VALUES, min_size=2, max_size=2))
    def insert(self, time: int, digest: bytes, values: list[float | None]) -> None:
        if digest in [each for _, each, _ in self.model]:
            return
        self.rows.insert(time, digest, values)
        self.model = sorted([*self.model, (time, digest, values)], key=lambda row: row[:2])

    @rule(part=st.floats(0, 1))
    def drop(self, part: float) -> None:
        stop = round(part * len(self.model))
        self.rows.drop(stop)
        del self.model[:stop]

    @precondition(lambda self: self.model)
    @rule(part=st.floats(0, 0.999))
    def remove(self, part: float) -> None:
        index = int(part * len(self.model))
        self.rows.remove(index)
        del self.model[index]

    @rule()
    def work_on_a_copy(self) -> None:
        former = self.rows
        self.rows = former.copy()
        former.insert(START_US + 1, id_digest("payments", "other"), [0.5, None])
        former.drop(1)

    @invariant()
    def the_list_is_the_same(self) -> None:
        assert listed(self.rows) == self.model
        assert len(self.rows) == len(self.model)

    @rule(digest=DIGESTS)
    def find(self, digest: bytes) -> None:
        found = [n for n, (_, each, _) in enumerate(self.model) if each == digest]
        assert self.rows.find(digest) == (found[0] if found else -1)

    @rule(time=TIMES, beside=st.sampled_from([-1, 0, 1]))
    def count_upto(self, time: int, beside: int) -> None:
        expected = sum(each <= time + beside for each, _, _ in self.model)
        assert self.rows.upto(time + beside) == expected

    @rule(part=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def take_present_values(self, part: tuple[float, float]) -> None:
        start, stop = sorted(round(each * len(self.model)) for each in part)
        expected = [row[2][0] for row in self.model[start:stop] if row[2][0] is not None]
        column = self.rows.columns[0]
        assert [value / column.scale for value in column.packed(start, stop)] == expected


TestRowsAgainstList = RowsAgainstList.TestCase
TestRowsAgainstList.settings = settings(max_examples=100, stateful_step_count=30)


@given(st.permutations([1.0, 200.0, 0.5, 0.25, None, -3.0, 70_000.0, 12.34, 0.1 + 0.2]))
def test_columns_widen_without_losing_a_bit_in_any_order(values: list[float | None]) -> None:
    column = Column.empty(hashed=False)
    for value in values:
        column = column.inserted(0, value)
    assert column.values() == values[::-1]


@pytest.mark.parametrize(
    ("values", "code", "scale"),
    [([0.0, 254.0], "B", 1), ([255.0], "H", 1), ([-1.0, 127.0], "b", 1), ([1.5], "B", 10),
     ([12.34, 650.0], "H", 100), ([12.34, 9_999_999.99], "I", 100), ([0.1 + 0.2], "d", 1),
     ([2.0**53], "d", 1), ([2.0**53 - 1], "Q", 1), ([1e-5], "d", 1), ([0.0001], "B", 10_000)],
)  # fmt: skip
def test_a_column_is_as_narrow_as_its_values_allow(
    values: list[float], code: str, scale: int
) -> None:
    fitted = Column.fit([*values, None])
    assert (fitted.code, fitted.scale) == (code, scale)
    assert fitted.values() == [*values, None]
    assert fitted.absent == 1


@given(st.lists(VALUES, max_size=20), st.data())
def test_inserting_one_by_one_packs_like_fitting_all_at_once(
    values: list[float | None], data: st.DataObject
) -> None:
    column = Column.empty(hashed=False)
    for value in data.draw(st.permutations(values)):
        column = column.inserted(0, value)
    fitted = Column.fit(values)
    assert (column.code, column.scale) == (fitted.code, fitted.scale)


def test_numbers_of_any_size_fit_a_column() -> None:
    values: list[float | None] = [1e306, 0.25, None, -1.7e308]
    column = Column.empty(hashed=False)
    for value in values:
        column = column.inserted(len(column.data), value)
    assert column.values() == values
    assert Column.fit(values).values() == values


@pytest.mark.parametrize(
    ("times", "expected"),
    [([START_US], SECONDS), ([START_US, START_US + 1], MICROSECONDS),
     ([0, 2**32 * SECOND_US - SECOND_US], SECONDS), ([2**32 * SECOND_US, 1], MICROSECONDS)],
)  # fmt: skip
def test_times_are_packed_in_seconds_where_they_are_whole(
    times: list[int], expected: object
) -> None:
    assert fit_ticks(times) == expected


def test_millisecond_times_take_four_bytes_within_49_days() -> None:
    near, far = START_US + 48 * 86_400 * SECOND_US, START_US + 50 * 86_400 * SECOND_US
    assert fit_ticks([START_US + 1_000, near]).code == "I"
    assert fit_ticks([START_US + 1_000, far]) == MICROSECONDS


def filled(times: Sequence[int], amounts: Sequence[float]) -> Rows:
    rows = Rows.empty([False])
    for number, (time, amount) in enumerate(zip(times, amounts, strict=True)):
        rows.insert(time, id_digest("payments", str(number)), [amount])
    return rows


@pytest.mark.parametrize(("most", "row_bytes"), [(655.34, 12), (99_999.99, 14)])
def test_a_row_of_cents_at_whole_seconds_takes_12_bytes_and_14_above_655(
    most: float, row_bytes: int
) -> None:
    rows = filled([START_US + n * SECOND_US for n in range(100)], [12.34] * 99 + [most])
    assert rows.row_bytes == row_bytes


def test_a_digest_across_two_rows_is_not_found() -> None:
    rows = Rows.empty([])
    rows.insert(START_US, b"abcdef", [])
    rows.insert(START_US + 1, b"ghijkl", [])
    assert rows.find(b"defghi") == -1
    assert rows.find(b"ghijkl") == 1


def test_a_digest_is_found_behind_its_own_bytes_across_two_rows() -> None:
    rows = Rows.empty([])
    for n, digest in enumerate([b"xxxabc", b"defyyy", b"abcdef"]):
        rows.insert(START_US + n, digest, [])
    assert rows.find(b"abcdef") == 2


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("total"), st.integers(0, 400), st.integers(0, 400)),
        st.tuples(st.just("insert"), st.integers(0, 400), st.integers(0, 70_000)),
        st.tuples(st.just("append"), st.just(0), st.integers(-5, 300)),
        st.tuples(st.just("drop"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 400), st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


@given(OPERATIONS)
def test_sum_that_slides_is_the_sum_whatever_came_between(
    operations: list[tuple[str, int, int]],
) -> None:
    column = Column.fit([float(n % 37) for n in range(300)])
    for kind, at, value in operations:
        length = len(column.data)
        if kind == "total":
            start, stop = sorted((min(at, length), min(value, length)))
            fresh = Column(column.code, column.scale, column.data[:])
            assert column.total(start, stop) == fresh.total(start, stop)
        elif kind == "drop":
            column.drop(min(at, length))
        elif kind == "remove" and length:
            column.remove(min(at, length - 1))
        elif kind in ("insert", "append"):
            place = length if kind == "append" else min(at, length)
            column = column.inserted(place, value / 100)
