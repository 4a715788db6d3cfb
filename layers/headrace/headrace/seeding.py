"""Write the states that history gives, beside a stream that may have begun.

Where an entity has no item, its state is put on condition that there is still none. Where it has
one, the two are merged if that is exact, and left alone and told of if it is not. Repeating any
of it changes nothing. May import ports, state and merging.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import Misconfigured, StateError, StoreUnavailable
from headrace.merging import Fit, merge
from headrace.ports import StateWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.ports import Clock, ScoreStore, StateStore, StoredState
    from headrace.state import StateCodec

CHUNK = 500
"""States written in one call of the store."""

MAX_ATTEMPTS = 8
"""How often a state is written before lost races or a failing store stop the seeding."""

MOST_NAMED = 1_000
"""Keys of states that were left alone, by name; all are counted."""

_FIRST_WAIT_SECONDS = 0.05


class Part(msgspec.Struct, frozen=True):
    """One of ``total`` disjoint parts of an entity's ids."""

    entity: str
    number: int
    total: int


class FoldedPart(msgspec.Struct, frozen=True):
    """The states of one part of the entities.

    Attributes:
        part: Which.
        writes: Of entities that have none stored; sorted by key.
        counts: ``events`` (an event once for each entity that it changes) and of these ``late``;
            ``refused`` with each reason, once for each event; entities that are ``expired``.
        cpu_seconds: That reading and folding took.
    """

    part: Part
    writes: list[StateWrite]
    counts: Counter[str]
    cpu_seconds: float


class Progress(msgspec.Struct):
    """How far a seeding has come; what is stored under its name.

    Attributes:
        done: Entity -> numbers of the parts whose states are stored.
        counts: Of those parts: see ``FoldedPart`` and ``Seeded``.
        apart: Keys of states that could not be merged; the first thousand of them.
        cpu_seconds: That reading and folding took.
    """

    done: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    apart: list[str] = []
    cpu_seconds: float = 0.0


class Seeder:
    """Writes states, and merges them with those that are there.

    Args:
        codec: Of the definition that the stream runs with.
        states: Where they go.
        clock: To wait with.
    """

    def __init__(self, codec: StateCodec, states: StateStore, clock: Clock) -> None:
        self._codec, self._states, self._clock = codec, states, clock

    def seed(self, writes: Sequence[StateWrite], progress: Progress) -> None:
        """Write states of history, each with ``expected`` 0, until each is there or apart.

        Args:
            writes: At most one for each key.
            progress: Counts ``written``, ``merged`` and ``there``, and names those apart.

        Raises:
            StoreUnavailable: Not all could be written; the same call goes on from there.
        """
        counts = Counter(progress.counts)
        history = {write.key: write for write in writes}
        waiting, error = dict(history), ""
        for attempt in range(MAX_ATTEMPTS):
            outcome = self._states.write(list(waiting.values()))
            for key in waiting.keys() - outcome.lost - outcome.failed.keys():
                counts["merged" if waiting[key].expected else "written"] += 1
            error = next(iter(outcome.failed.values()), "others write the same entities")
            waiting = {key: waiting[key] for key in outcome.failed}
            met = [history[key] for key in sorted(outcome.lost)]
            waiting |= self._resolved(met, progress, counts)
            if not waiting:
                break
            self._clock.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
        progress.counts = dict(counts)
        if waiting:
            msg = f"{len(waiting)} of {len(writes)} states could not be written: {error}"
            raise StoreUnavailable(msg)

    def _resolved(
        self, writes: Sequence[StateWrite], progress: Progress, counts: Counter[str]
    ) -> dict[str, StateWrite]:
        """What is still to write of states that met a stored one."""
        stored = self._states.read([write.key for write in writes]) if writes else {}
        found = {}
        for write in writes:
            item = stored.get(write.key)
            if item is None or not item.version:
                found[write.key] = write
                continue
            fit, merged = self._merged(write, item)
            if merged is not None:
                found[write.key] = merged
            elif fit is Fit.THERE:
                counts["there"] += 1
            else:
                counts["apart"] += 1
                progress.apart = [*progress.apart, write.key][:MOST_NAMED]
        return found

    def _merged(self, write: StateWrite, item: StoredState) -> tuple[Fit, StateWrite | None]:
        if item.data == write.data:
            return Fit.THERE, None
        codec = self._codec
        try:
            stored = codec.decode(write.key, item.version, item.data)
            found = merge(codec, codec.decode(write.key, 1, write.data), stored)
        except StateError:
            return Fit.APART, None
        if found.state is None:
            return found.fit, None
        data, expires = codec.encode(found.state), codec.expires(found.state)
        return found.fit, StateWrite(write.key, item.version, data, expires)


class SeedRun:
    """Seeds part by part, and remembers under a name which are done.

    Args:
        seeder: Writes the states.
        notes: Where progress is kept.
        name: Of the seeding: another history, instant or definition has another one.
    """

    def __init__(self, seeder: Seeder, notes: ScoreStore, name: str) -> None:
        self._seeder, self._notes, self._name = seeder, notes, name
        self._stored: bytes | None = None
        self.progress = Progress()

    def resume(self) -> None:
        """Go on where an earlier run of this name ended.

        Raises:
            StoreUnavailable: It could not be read.
        """
        self.restart()
        if self._stored is not None:
            self.progress = msgspec.json.decode(self._stored, type=Progress)

    def restart(self) -> None:
        """Begin from the start, whatever an earlier run of this name has done.

        Raises:
            StoreUnavailable: It could not be read.
        """
        self._stored, self.progress = self._notes.get_progress(self._name), Progress()

    def left(self, parts: Iterable[Part]) -> list[Part]:
        """Of some parts, those that are not done."""
        done = {entity: set(numbers) for entity, numbers in self.progress.done.items()}
        return [part for part in parts if part.number not in done.get(part.entity, ())]

    def run(self, parts: Iterable[FoldedPart], advance: Callable[[int], None]) -> None:
        """Write parts and note each.

        Args:
            parts: That are not done.
            advance: Called with the number of states that are done.

        Raises:
            StoreUnavailable: The store did not take all; run again, it goes on from there.
            Misconfigured: Another process seeds the same at the same time.
        """
        for folded in parts:
            writes = iter(folded.writes)
            while chunk := list(islice(writes, CHUNK)):
                self._seeder.seed(chunk, self.progress)
                advance(len(chunk))
            self._note(folded)

    def _note(self, folded: FoldedPart) -> None:
        progress = self.progress
        done = progress.done.get(folded.part.entity, [])
        progress.done = {**progress.done, folded.part.entity: [*done, folded.part.number]}
        progress.counts = dict(Counter(progress.counts) + folded.counts)
        progress.cpu_seconds += folded.cpu_seconds
        data = msgspec.json.encode(progress)
        if not self._notes.put_progress(self._name, data, self._stored):
            stored = self._notes.get_progress(self._name)
            if stored != data:  # else it is ours, whose answer was lost
                msg = (
                    "another process seeds the same history; expected to be the only one: "
                    "what both wrote is right, let one of them go on"
                )
                raise Misconfigured(msg)
        self._stored = data
