"""Score records: what is stored and answered for each event and entity.

May import imputation and events.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.imputation import Imputed

EVENT_PREFIX = "event#"
BATCH_PREFIX = "batch#"
RUN_PREFIX = "run#"


class Rung(StrEnum):
    """Where a score comes from: the ladder, best first."""

    REAL_TIME = "real_time"  # features of this event
    LAST = "last"  # the entity's last real-time score
    BATCH = "batch"  # the scheduled run's score of the entity
    PRIOR = "prior"  # the training data's rate: nothing is known


class ScoreRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A score with everything that it came from.

    Attributes:
        id: The event's id.
        source: The event's source.
        event_time: ISO 8601, UTC.
        score: Probability of the positive class, 0 to 1.
        rung: Where the score comes from.
        model_version: The bundle's version.
        definition_hash: The definition's hash.
        late: The event arrived after its allowed lateness and did not change state.
        entities: Entity -> id.
        features: Every column as the model saw it, after imputation.
        imputed: Column -> cause and value, for those that were absent.
        ages: Entity -> seconds from the newest earlier event used to this one; None without one.
        degraded: Views that were too large to stay exact for this event.
        scored_at: ISO 8601, UTC.
    """

    id: str
    source: str
    event_time: str
    score: float
    rung: Rung
    model_version: str
    definition_hash: str
    late: bool
    entities: dict[str, str]
    features: dict[str, float]
    imputed: dict[str, Imputed]
    ages: dict[str, float | None]
    scored_at: str
    degraded: list[str] = []


class BatchScore(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduled run's score of one entity.

    Attributes:
        entity: Entity name.
        entity_id: Its id.
        as_of: The run's time, ISO 8601, UTC.
        score: Probability of the positive class, 0 to 1.
        model_version: The bundle's version.
        definition_hash: The definition's hash.
        features: Every column as the model saw it, after imputation.
        imputed: Column -> cause and value.
        age: Seconds from the entity's newest event to the run; None without one.
        expires: Unix second after which the score must not be used.
    """

    entity: str
    entity_id: str
    as_of: str
    score: float
    model_version: str
    definition_hash: str
    features: dict[str, float]
    imputed: dict[str, Imputed]
    age: float | None
    expires: int
