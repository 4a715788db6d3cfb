"""A file's events as checked columns: what the stream's decoder would make of each row.

Rows that surely pass the checks are taken as they are, column by column; every other row goes
through the decoder itself. May import plain_rows, feed, events and definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.definition import Flag, Number
from headrace.errors import EventRejected
from headrace.events import Event, entity_key, id_digest, microseconds, us_to_time
from headrace.offline.feed import payloads
from headrace.offline.plain_rows import plain_rows, plain_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from headrace.definition import Field, Source
    from headrace.events import EventDecoder
    from headrace.offline.feed import Feed

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

_DENSE = 8
"""Ids that spread over up to so many times their number are counted, not hashed."""


@dataclass
class History:
    """The events of one source that the stream would have accepted, in the order of their file.

    Attributes:
        source: Whose events these are.
        feed: The file.
        rows: Place of each event in the file.
        time: Event time, microseconds UTC.
        arrival: Arrival time, microseconds UTC.
        late: Whether it arrived after its source's allowed lateness.
        refused: How many rows the decoder refused.
        ranked: Gives the place of every row of the file in the order of arrival of all feeds.
        decoded: Place in ``rows`` -> the event, for those that went through the decoder.
    """

    source: Source
    feed: Feed
    fields_type: Any
    rows: Ints
    time: Ints
    arrival: Ints
    late: Mask
    refused: int
    ranked: Callable[[], Ints]
    decoded: dict[int, Event] = field(default_factory=dict)
    _ticks: tuple[int, int, Ints] | None = None

    def __len__(self) -> int:
        """Number of accepted events."""
        return len(self.rows)

    @property
    def whole(self) -> bool:
        """Whether every row of the file was accepted."""
        return len(self.rows) == len(self.feed.frame)

    @cached_property
    def rank(self) -> Ints:
        """The place of each event in the order of arrival of all feeds."""
        found = self.ranked()
        return found if self.whole else found[self.rows]

    @cached_property
    def in_order(self) -> bool:
        """Whether the file is in order of event time, and of arrival too."""
        return _ascending(self.time) and _ascending(self.arrival)

    @cached_property
    def latest(self) -> int:
        """The longest time from event to arrival, microseconds."""
        return int((self.arrival - self.time).max(initial=-(2**62)))

    @cached_property
    def soonest(self) -> int:
        """The shortest time from event to arrival, microseconds."""
        return int((self.arrival - self.time).min(initial=2**62))

    @cached_property
    def any_late(self) -> bool:
        """Whether any event is late."""
        return bool(self.late.any())

    @cached_property
    def ids_are_unique(self) -> bool:
        """Whether no event comes again."""
        ids = self.column(self.source.id)
        if ids.dtype.is_integer() and len(ids):
            low, high = int(ids.min()), int(ids.max())  # type: ignore[arg-type]
            if high - low < _DENSE * len(ids):
                return int(np.bincount(ids.to_numpy() - low).max()) == 1
        return ids.n_unique() == len(ids)

    def ticks(self, unit: int, first: int) -> Ints:
        """Event times in units from the first one on, which is 1; remembered for all entities."""
        if self._ticks is None or self._ticks[:2] != (unit, first):
            self._ticks = unit, first, (self.time - first) // unit + 1
        return self._ticks[2]

    def column(self, name: str) -> pl.Series:
        """A column of the file, of the accepted events."""
        found = self.feed.frame.get_column(name)
        return found if self.whole else found[self.rows]

    def numbers(self, name: str) -> Floats:
        """A numeric field's or flag's values; NaN where absent."""
        kind = self.feed.frame.schema.get(name, pl.Null)
        if kind in (pl.String, pl.Null):  # what text says was decoded
            found = np.full(len(self), np.nan)
        else:
            found = self.column(name).cast(pl.Float64).to_numpy()
        if self.decoded:
            found = found.copy()
            for place, event in self.decoded.items():
                value = getattr(event.fields, name)
                found[place] = np.nan if value is None else float(value)
        return found

    def texts(self, name: str) -> pl.Series:
        """A field's values as text, equal where their hashes in state are; null where absent."""
        if name in self.feed.frame.columns:
            found = _as_text(self.column(name), self.source.fields.get(name))
        else:
            found = pl.repeat(None, len(self), dtype=pl.String, eager=True)
        if self.decoded:
            values = [_text(getattr(e.fields, name)) for e in self.decoded.values()]
            found = found.scatter(list(self.decoded), pl.Series(values, dtype=pl.String))
        return found

    def fields(self, places: Ints) -> Iterator[Any]:
        """The fields of events, as the decoder would have given them."""
        frame, source = self.feed.frame, self.source
        names = [source.id, *source.entities, *(n for n in source.fields if n in frame.columns)]
        numbers = [n for n in names if isinstance(source.fields.get(n), Number)]
        part = frame.select(names)[self.rows[places]].with_columns(
            pl.col(numbers).cast(pl.Float64, strict=False)
        )
        make, at, decoded = self.fields_type, source.time, self.decoded
        columns = [column.to_list() for column in part]
        times = self.time[places].tolist()
        for place, time, *values in zip(places.tolist(), times, *columns, strict=True):
            if place in decoded:
                yield decoded[place].fields
            else:
                yield make(**{at: us_to_time(time)}, **dict(zip(names, values, strict=True)))

    def events(self, places: Ints) -> Iterator[Event]:
        """Events as the decoder would have given them."""
        for place, fields in zip(places.tolist(), self.fields(places), strict=True):
            yield self.decoded.get(place) or self._event(place, fields)

    def _event(self, place: int, fields: Any) -> Event:
        source = self.source
        event_id = str(getattr(fields, source.id))
        return Event(
            source,
            event_id,
            id_digest(source.name, event_id),
            int(self.time[place]),
            int(self.arrival[place]),
            bool(self.late[place]),
            {
                each.name: entity_key(each.name, getattr(fields, name))
                for name, each in source.entities.items()
            },
            fields,
        )


def histories(feeds: list[Feed], decoder: EventDecoder) -> list[History]:
    """The histories of feeds that arrive side by side; see ``feed.arrivals`` for their order."""

    @cache
    def ranked() -> list[Ints]:
        return ranks([times_us(feed.frame, feed.arrival) for feed in feeds])

    return [
        history(feed, decoder, partial(lambda number: ranked()[number], number))
        for number, feed in enumerate(feeds)
    ]


def ranks(arrivals: list[Ints]) -> list[Ints]:
    """The place of each event among all: by arrival, then by feed, then by row."""
    orders = [None if _ascending(each) else np.argsort(each, kind="stable") for each in arrivals]
    in_order = [
        each if order is None else each[order] for each, order in zip(arrivals, orders, strict=True)
    ]
    found = []
    for number, (mine, order) in enumerate(zip(in_order, orders, strict=True)):
        rank = np.arange(len(mine))
        for other, theirs in enumerate(in_order):
            if other != number:
                rank += np.searchsorted(theirs, mine, "right" if other < number else "left")
        if order is not None:
            placed = np.empty_like(rank)
            placed[order] = rank
            rank = placed
        found.append(rank)
    return found


def _ascending(values: Ints) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def history(feed: Feed, decoder: EventDecoder, ranked: Callable[[], Ints]) -> History:
    """What the decoder would accept of a feed.

    Args:
        feed: A file of one source.
        decoder: Of the definition.
        ranked: See ``History``.
    """
    source, frame = feed.source, feed.frame
    time, arrival = times_us(frame, source.time), times_us(frame, feed.arrival)
    odd = np.flatnonzero(~(plain_times(source, time, arrival) & plain_rows(frame, source)))
    kept, decoded, refused = np.arange(len(frame)), {}, 0
    if len(odd):
        events = _decoded(feed, decoder, odd, arrival)
        bad = [row for row, event in events.items() if event is None]
        refused = len(bad)
        kept = np.delete(kept, bad)
        places = np.searchsorted(kept, [row for row, event in events.items() if event])
        accepted = [event for event in events.values() if event is not None]
        decoded = dict(zip(places.tolist(), accepted, strict=True))
    if refused:
        time, arrival = time[kept], arrival[kept]
    late = arrival - time > microseconds(source.lateness)
    fields_type = decoder.fields_type(source)
    return History(source, feed, fields_type, kept, time, arrival, late, refused, ranked, decoded)


def times_us(frame: pl.DataFrame, column: str) -> Ints:
    """Times of a feed in microseconds UTC; where one is missing, a time that is refused."""
    found = frame.get_column(column).cast(pl.Datetime("us", "UTC")).to_physical()
    if found.null_count():
        found = found.fill_null(-(2**62))
    return found.to_numpy()


def _decoded(
    feed: Feed, decoder: EventDecoder, rows: Ints, arrival: Ints
) -> dict[int, Event | None]:
    """Row -> the event, or None where it is refused."""
    found: dict[int, Event | None] = {}
    for row, data in zip(rows.tolist(), payloads(feed, pl.Series(rows)), strict=True):
        try:
            found[row] = decoder.decode(data.encode(), int(arrival[row]))
        except EventRejected:
            found[row] = None
    return found


def _as_text(values: pl.Series, kind: Field | None) -> pl.Series:
    if isinstance(kind, Number):  # as str(float) tells apart: 0.0 and -0.0 too
        return values.cast(pl.Float64, strict=False).reinterpret(signed=True).cast(pl.String)
    if isinstance(kind, Flag):
        return values.cast(pl.Int64, strict=False).cast(pl.String)
    return values.cast(pl.String)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        return str(np.float64(value).view(np.int64))
    return str(int(value)) if isinstance(value, bool) else str(value)
