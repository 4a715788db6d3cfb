"""The scheduled fallback path: a score for every entity that has none from real time.

A run walks the state table in segments and notes after every page how far it got, so that the
next invocation goes on where a time-out cut it. May import what scoring may.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import StateError
from headrace.events import microseconds, us_to_text
from headrace.feature_row import EntityPart
from headrace.ports import Segment
from headrace.scores import BatchScore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import Clock, ScannedState, ScoreStore, StateStore
    from headrace.scoring import Scorer

SEGMENTS = 8
_US_PER_SECOND = 1_000_000


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come; doubles as its report.

    Attributes:
        as_of: The run's time, ISO 8601, UTC.
        segment: Segment that is being read; ``SEGMENTS`` when the run is complete.
        cursor: Where in the segment it goes on; None at its beginning.
        resumed: How often the run was taken up again.
        entities: Entities met.
        scored: Batch scores written.
        fresh: Entities passed over because their real-time score is fresh.
        unreadable: Entities passed over because their state cannot be read.
        replaced: Former batch scores that were replaced.
        read: Of those, how many had ever been read.
    """

    as_of: str
    segment: int = 0
    cursor: str | None = None
    resumed: int = 0
    entities: int = 0
    scored: int = 0
    fresh: int = 0
    unreadable: int = 0
    replaced: int = 0
    read: int = 0

    @property
    def complete(self) -> bool:
        """Whether every segment has been read."""
        return self.segment >= SEGMENTS


class BatchScorer:
    """Runs the batch path."""

    def __init__(
        self, scorer: Scorer, states: StateStore, scores: ScoreStore, clock: Clock
    ) -> None:
        self._scorer, self._states, self._scores, self._clock = scorer, states, scores, clock
        self._entity = scorer.definition.batch_entity.name

    def run(self, as_of: int, time_is_left: Callable[[], bool]) -> Progress:
        """Score entities as of the run's time until all are done or time runs out.

        An unfinished run is taken up where it stopped, with this invocation's ``as_of``; a
        repeated invocation of a finished one does nothing.

        Args:
            as_of: The run's time, microseconds UTC.
            time_is_left: Asked before every page.

        Returns:
            The report; ``complete`` says whether another invocation must go on.

        Raises:
            StoreUnavailable: States or scores cannot be reached; what was done is noted.
        """
        progress = self._begin(us_to_text(as_of))
        while not progress.complete and time_is_left():
            progress = self._page(progress, as_of)
            self._scores.put_progress(msgspec.json.encode(progress))
        return progress

    def _begin(self, as_of: str) -> Progress:
        stored = self._scores.get_progress()
        if stored is None:
            return Progress(as_of=as_of)
        found = msgspec.json.decode(stored, type=Progress)
        if not found.complete:
            return msgspec.structs.replace(found, as_of=as_of, resumed=found.resumed + 1)
        done = datetime.fromisoformat(found.as_of) >= datetime.fromisoformat(as_of)
        return found if done else Progress(as_of=as_of)

    def _page(self, progress: Progress, as_of: int) -> Progress:
        segment = Segment(progress.segment, SEGMENTS)
        page = self._states.scan(self._entity, segment, progress.cursor)
        scores, unreadable = self._score(page.items, as_of)
        replaced = self._scores.put_batch(scores)
        ended = page.cursor is None
        return msgspec.structs.replace(
            progress,
            segment=progress.segment + ended,
            cursor=page.cursor,
            entities=progress.entities + len(page.items),
            scored=progress.scored + len(scores),
            fresh=progress.fresh + len(page.items) - len(scores) - unreadable,
            unreadable=progress.unreadable + unreadable,
            replaced=progress.replaced + replaced.scores,
            read=progress.read + replaced.read,
        )

    def _score(self, items: Sequence[ScannedState], as_of: int) -> tuple[list[BatchScore], int]:
        """Scores of those that need one, and how many states cannot be read."""
        scorer, codec = self._scorer, self._scorer.codec
        fresh_from = as_of - microseconds(scorer.definition.fresh_for)
        found, unreadable = [], 0
        for item in items:
            part = EntityPart()
            try:
                state = codec.decode(item.key, item.version, item.data)
                if state.last_id and state.last_time >= fresh_from:
                    continue
                for fold in codec.folds[self._entity]:
                    part.add(fold.look(codec.view(state, fold), as_of))
            except StateError:
                unreadable += 1
                continue
            found.append((item.key, part, scorer.assembler.of_entity(self._entity, part)))
        rows = [scorer.assembler.input_row(row) for _, _, row in found]
        expires = as_of + microseconds(scorer.definition.batch_valid_for)
        manifest = scorer.bundle.manifest
        scores = [
            BatchScore(
                entity=self._entity,
                entity_id=key.partition("#")[2],
                as_of=us_to_text(as_of),
                score=score,
                model_version=manifest.model_version,
                definition_hash=manifest.definition_hash,
                features=row.columns,
                imputed=row.imputed,
                age=None if part.newest is None else (as_of - part.newest) / _US_PER_SECOND,
                expires=expires // _US_PER_SECOND,
            )
            for (key, part, row), score in zip(found, scorer.bundle.model.score(rows), strict=True)
        ]
        return scores, unreadable
