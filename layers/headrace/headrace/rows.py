"""Compact rows: what a view remembers of single events, about 12 bytes each.

Rows are sorted by (event time, id digest), so that their bytes do not depend on the order of
arrival. Numbers are kept as scaled integers where that is exact, so that sums are exact too.
Little-endian, as every Lambda machine is. May import nothing of the project.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from math import fsum, isnan, nan
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST_BYTES = 6
ABSENT_HASH = 2**64 - 1
HASHES = 0
SCALES = (1, 10, 100, 1_000, 10_000)
EXACT = 2**53
_MANY = 64
"""Rows above which a sum is found from another one; fewer are summed as fast."""

_KEPT_SUMS = 8
_UNSIGNED = {"B": 2**8 - 1, "H": 2**16 - 1, "I": 2**32 - 1, "Q": 2**64 - 1}
_SIGNED = {"b": -(2**7), "h": -(2**15), "i": -(2**31), "q": -(2**63)}
_ABSENT: dict[str, float] = {**_UNSIGNED, **_SIGNED, "d": nan}
"""Type code -> the value that stands for an absent one."""

_FITTING = {code: (-1, min(top, EXACT)) for code, top in _UNSIGNED.items()} | {
    code: (max(bottom, -EXACT), min(-bottom, EXACT)) for code, bottom in _SIGNED.items()
}
"""Type code -> the integers between which it holds every one."""


class Ticks(NamedTuple):
    """How times are packed: (time - base) // unit, all in microseconds, in a type code."""

    unit: int
    base: int
    code: str


SECONDS = Ticks(1_000_000, 0, "I")
MICROSECONDS = Ticks(1, 0, "q")


def fit_ticks(times: list[int]) -> Ticks:
    """The most compact packing that holds all these times (microseconds UTC) exactly."""
    if all(not time % SECONDS.unit for time in times) and max(times) < 2**32 * SECONDS.unit:
        return SECONDS
    base = min(times) // 1_000 * 1_000
    if all(not time % 1_000 for time in times) and max(times) - base < 2**32 * 1_000:
        return Ticks(1_000, base, "I")
    return MICROSECONDS


class Column:
    """Values of one field, in the order of the rows.

    Attributes:
        code: Type code of ``array``.
        scale: Integers are the value times this; 1 for floats, ``HASHES`` for hashes.
        data: The packed values; absent ones are the type's ``_ABSENT``.
        absent: How many are absent.
        sums: (start, stop, sum) of integers summed lately, from which others are found by what
            lies between: a window slides by few rows.
    """

    __slots__ = ("absent", "code", "data", "scale", "sums")

    def __init__(self, code: str, scale: int, data: array[Any]) -> None:
        self.code, self.scale, self.data = code, scale, data
        self.sums: list[tuple[int, int, int]] = []
        mark = _ABSENT[code]
        self.absent = sum(map(isnan, data)) if code == "d" else data.count(mark)

    @classmethod
    def empty(cls, *, hashed: bool) -> Column:
        """A column without values; 64-bit hashes need their full width."""
        code = "Q" if hashed else "B"
        return cls(code, HASHES if hashed else 1, array(code))

    @classmethod
    def fit(cls, values: list[float | None]) -> Column:
        """The most compact column that holds these values exactly."""
        present = [value for value in values if value is not None]
        largest = max(map(abs, present), default=0.0)
        for scale in SCALES:
            if largest * scale >= EXACT:  # before rounding, which refuses infinity
                break
            scaled = [round(value * scale) for value in present]
            if all(s / scale == v for s, v in zip(scaled, present, strict=True)):
                code = _narrowest(scaled)
                whole = iter(scaled)
                mark = int(_ABSENT[code])
                packed = array(code, [mark if v is None else next(whole) for v in values])
                return cls(code, scale, packed)
        return cls("d", 1, array("d", [nan if value is None else value for value in values]))

    def inserted(self, index: int, value: float | None) -> Column:
        """This column with one value more; another column where the value does not fit."""
        if self.code == "d":
            packed: float = nan if value is None else value
        elif self.scale == HASHES and value is not None:
            packed = value
        elif value is None:
            packed = _ABSENT[self.code]
        else:
            scaled = value * self.scale
            packed = round(scaled) if abs(scaled) < EXACT else -1
            low, high = _FITTING[self.code]
            if packed / self.scale != value or not low < packed < high:
                values = self.values()
                values.insert(index, value)
                return Column.fit(values)
        if index < len(self.data):
            self.sums.clear()
        self.data.insert(index, packed)
        self.absent += value is None
        return self

    def values(self) -> list[float | None]:
        """All values, None where absent."""
        mark = _ABSENT[self.code]
        if self.code == "d":
            return [None if isnan(value) else value for value in self.data]
        return [None if value == mark else value / self.scale for value in self.data]

    def value(self, index: int) -> float | None:
        """One value as ``inserted`` takes it: None where absent, but hashes as they are."""
        if self.scale == HASHES:
            return self.data[index]  # type: ignore[no-any-return]
        return Column(self.code, self.scale, self.data[index : index + 1]).values()[0]

    def packed(self, start: int, stop: int) -> Sequence[Any]:
        """The present values between two rows, as packed: multiply by ``scale``."""
        part = self.data[start:stop]
        if not self.absent:
            return part
        if self.code == "d":
            return [value for value in part if not isnan(value)]
        mark = _ABSENT[self.code]
        return [value for value in part if value != mark]

    def total(self, start: int, stop: int) -> tuple[int, float]:
        """Number and sum of the present values between two rows, rounded once."""
        if stop - start > _MANY and not self.absent and self.code != "d":
            return stop - start, self._slid(start, stop) / self.scale
        part = self.packed(start, stop) if self.absent else self.data[start:stop]
        if self.code == "d":
            return len(part), fsum(part)
        return len(part), sum(part) / self.scale

    def _slid(self, start: int, stop: int) -> int:
        """The sum of integers, which are exact, from one of nearby rows where there is one."""
        data, best, apart = self.data, -1, stop - start
        total: int
        for number, (first, last, _) in enumerate(self.sums):
            if abs(first - start) + abs(last - stop) < apart:
                best, apart = number, abs(first - start) + abs(last - stop)
        if best < 0:
            total = sum(data[start:stop])
        else:
            first, last, total = self.sums.pop(best)
            total += _between(data, last, stop) - _between(data, first, start)
        self.sums.append((start, stop, total))
        if len(self.sums) > _KEPT_SUMS:
            del self.sums[0]
        return total

    def present(self, start: int, stop: int, times: list[int]) -> list[tuple[int, float]]:
        """(time, value) of the present values between two rows whose times are given."""
        values = Column(self.code, self.scale, self.data[start:stop]).values()
        return [(t, v) for t, v in zip(times, values, strict=True) if v is not None]

    def drop(self, stop: int) -> None:
        """Forget the first rows."""
        if self.absent:
            self.absent -= stop - len(self.packed(0, stop))
        self.sums.clear()
        del self.data[:stop]

    def remove(self, index: int) -> None:
        """Forget one row."""
        if self.absent:
            self.absent -= 1 - len(self.packed(index, index + 1))
        self.sums.clear()
        del self.data[index]

    def copy(self) -> Column:
        """A column of its own with the same values."""
        return Column(self.code, self.scale, self.data[:])


def _between(data: array[Any], start: int, stop: int) -> int:
    """The sum of integers from one row to another, negative where that lies before it."""
    return sum(data[start:stop]) if start <= stop else -sum(data[stop:start])


def _narrowest(scaled: list[int]) -> str:
    low, high = min(scaled, default=0), max(scaled, default=0)
    if low >= 0:
        return next(code for code, top in _UNSIGNED.items() if high < top)
    return next(code for code, bottom in _SIGNED.items() if bottom < low and high < -bottom)


class Rows:
    """Times, id digests and columns of single events, sorted by (time, digest)."""

    __slots__ = ("columns", "digests", "ticks", "times")

    def __init__(
        self, ticks: Ticks, times: array[int], digests: bytearray, columns: list[Column]
    ) -> None:
        self.ticks, self.times, self.digests, self.columns = ticks, times, digests, columns

    @classmethod
    def empty(cls, hashed: list[bool]) -> Rows:
        """No rows; one column per entry, each for numbers or for hashes."""
        columns = [Column.empty(hashed=each) for each in hashed]
        return cls(SECONDS, array(SECONDS.code), bytearray(), columns)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.times)

    @property
    def row_bytes(self) -> int:
        """Packed size of one row."""
        widths = sum([column.data.itemsize for column in self.columns])
        return self.times.itemsize + DIGEST_BYTES + widths

    def time(self, index: int) -> int:
        """Event time of a row, microseconds UTC."""
        return self.times[index] * self.ticks.unit + self.ticks.base

    def times_us(self, start: int, stop: int) -> list[int]:
        """Event times of some rows, microseconds UTC."""
        unit, base, _ = self.ticks
        return [time * unit + base for time in self.times[start:stop]]

    def digest(self, index: int) -> bytes:
        """Id digest of a row."""
        return bytes(self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def values(self, index: int) -> list[float | None]:
        """A row's values, as ``insert`` takes them."""
        return [column.value(index) for column in self.columns]

    def upto(self, time: int) -> int:
        """How many rows have an event time of at most ``time`` (microseconds UTC)."""
        return bisect_right(self.times, (time - self.ticks.base) // self.ticks.unit)

    def find(self, digest: bytes) -> int:
        """Index of the row with this id digest, or -1."""
        place = self.digests.find(digest)
        while place > 0 and place % DIGEST_BYTES:
            place = self.digests.find(digest, place + 1)
        return place // DIGEST_BYTES if place >= 0 else -1

    def insert(self, time: int, digest: bytes, values: list[float | None]) -> None:
        """Add one row in its place."""
        unit, base, code = self.ticks
        tick, rest = divmod(time - base, unit)
        if rest or (code == "I" and not 0 <= tick < 2**32):
            self._repack([*self.times_us(0, len(self)), time])
            tick = (time - self.ticks.base) // self.ticks.unit
        times, columns = self.times, self.columns
        if not times or tick > times[-1]:  # as most do
            index = len(times)
            times.append(tick)
            self.digests += digest
        else:
            index = self._place(tick, digest)
            times.insert(index, tick)
            self.digests[index * DIGEST_BYTES : index * DIGEST_BYTES] = digest
        for number, value in enumerate(values):
            columns[number] = columns[number].inserted(index, value)

    def _place(self, tick: int, digest: bytes) -> int:
        index = bisect_right(self.times, tick)
        while index and self.times[index - 1] == tick:
            if self.digests[(index - 1) * DIGEST_BYTES : index * DIGEST_BYTES] <= digest:
                break
            index -= 1
        return index

    def _repack(self, times: list[int]) -> None:
        old = times[:-1]
        self.ticks = fit_ticks(times)
        unit, base, code = self.ticks
        self.times = array(code, [(time - base) // unit for time in old])

    def drop(self, stop: int) -> None:
        """Forget the ``stop`` oldest rows."""
        del self.times[:stop]
        del self.digests[: stop * DIGEST_BYTES]
        for column in self.columns:
            column.drop(stop)

    def remove(self, index: int) -> None:
        """Forget one row."""
        del self.times[index]
        del self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        for column in self.columns:
            column.remove(index)

    def copy(self) -> Rows:
        """Rows of their own with the same content."""
        columns = [column.copy() for column in self.columns]
        return Rows(self.ticks, self.times[:], self.digests[:], columns)
