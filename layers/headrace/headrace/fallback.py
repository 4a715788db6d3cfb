"""Batch scores for a page of entity states: what a batch run does to entities.

May import what scoring may.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from headrace.errors import StateError
from headrace.events import microseconds, us_to_text
from headrace.feature_row import EntityPart
from headrace.model import scores_of
from headrace.runs import Counts
from headrace.scores import BatchScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.feature_row import FeatureRow
    from headrace.ports import ScannedState
    from headrace.scoring import Scorer

_US_PER_SECOND = 1_000_000


class Fallback:
    """Scores entities without an event."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.entity = scorer.definition.batch_entity.name
        self._fresh_for = microseconds(scorer.definition.fresh_for)

    def score(
        self, items: Sequence[ScannedState], as_of: int, period: int | None
    ) -> tuple[list[BatchScore], Counts]:
        """Batch scores of those that need one, and what became of the others.

        Args:
            items: Of the batch entity.
            as_of: The run's time, microseconds UTC.
            period: Microseconds until the next run has come by; None where it is not known.
        """
        met = Counter[str]()
        found: list[tuple[str, EntityPart, FeatureRow]] = []
        for item in items:
            try:
                part = self._look(item, as_of, period)
                if part is None:
                    met["fresh"] += 1
                else:
                    row = self._scorer.assembler.of_entity(self.entity, part)
                    met["lacking"] += bool(row.lacking)
                    found += [] if row.lacking else [(item.key, part, row)]
            except StateError:
                met["unreadable"] += 1
            except Exception:  # noqa: BLE001 - whatever is in one state, the others are scored
                met["failed"] += 1
        given = self._model_scores([row for _, _, row in found])
        scores = [
            self._batch_score(key, part, row, score, as_of)
            for (key, part, row), score in zip(found, given, strict=True)
            if score is not None
        ]
        met["failed"] += len(found) - len(scores)
        return scores, Counts(entities=len(items), scored=len(scores), **met)

    def _look(self, item: ScannedState, as_of: int, period: int | None) -> EntityPart | None:
        """What an entity's state says; None where its real-time score lasts.

        Raises:
            StateError: The state cannot be read.
        """
        state = self._scorer.codec.decode(item.key, item.version, item.data, item.rows)
        lasts = state.last_time + self._fresh_for
        if period is not None and state.last_id and lasts >= as_of + period:
            return None
        part = self._scorer.look(state, as_of)
        part.looked_up = self._scorer.tables.look_up(self.entity, state.rows, as_of)
        return part

    def _model_scores(self, found: Sequence[FeatureRow]) -> list[float | None]:
        """The model's scores in one call; where it raises, row by row, None for what it refuses."""
        rows = [self._scorer.assembler.input_row(row) for row in found]
        # whatever the model raises over a row must not take its page along
        return scores_of(self._scorer.bundle.model, rows, Exception) if rows else []

    def _batch_score(
        self, key: str, part: EntityPart, row: FeatureRow, score: float, as_of: int
    ) -> BatchScore:
        manifest = self._scorer.bundle.manifest
        expires = as_of + microseconds(self._scorer.definition.batch_valid_for)
        return BatchScore(
            entity=self.entity,
            entity_id=key.partition("#")[2],
            as_of=us_to_text(as_of),
            score=score,
            model_version=manifest.model_version,
            definition_hash=manifest.definition_hash,
            features=row.columns,
            imputed=row.imputed,
            age=None if part.newest is None else (as_of - part.newest) / _US_PER_SECOND,
            expires=expires // _US_PER_SECOND,
            table_ages=part.looked_up.ages,
        )
