"""Score records: what is stored and answered for each event and entity.

May import imputation and events.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.imputation import Imputed

EVENT_PREFIX = "event#"
LAST_PREFIX = "last#"
BATCH_PREFIX = "batch#"
RUN_PREFIX = "run#"
_US_PER_SECOND = 1_000_000


class Rung(StrEnum):
    """Where a score comes from: the ladder, best first."""

    REAL_TIME = "real_time"  # features of this event
    LAST = "last"  # the entity's last real-time score
    BATCH = "batch"  # the scheduled run's score of the entity
    PRIOR = "prior"  # the training data's rate: nothing is known


class Reason(StrEnum):
    """Why a score is not from real time: the closed list."""

    STORE_UNAVAILABLE = "store_unavailable"  # out of reach, throttled, or it refused
    STORE_SLOW = "store_slow"  # no answer within the time that a request has for it
    CIRCUIT_OPEN = "circuit_open"  # not asked: it failed too often just now
    STATE_UNREADABLE = "state_unreadable"  # the entity's state is not what this definition reads
    MODEL_NOT_LOADABLE = "model_not_loadable"  # the bundle's model failed its checks
    INPUT_ABSENT = "input_absent"  # an input is absent that the definition does not impute
    ROW_REFUSED = "row_refused"  # the model does not take an input: NaN, or an unknown category


class Passed(StrEnum):
    """Why the ladder went past the last or the batch score: the closed list."""

    NONE_STORED = "none_stored"
    TOO_OLD = "too_old"
    NOT_READ = "not_read"  # it could not be looked up in time


class ScoreRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A score with everything that it came from.

    What has its default is left out where it is stored: most scores are from real time.

    Attributes:
        id: The event's id.
        source: The event's source.
        event_time: ISO 8601, UTC.
        score: Probability of the positive class, 0 to 1.
        rung: Where the score comes from.
        model_version: Version of the bundle that gave the score.
        definition_hash: Hash of the definition that gave the score.
        late: The event arrived after its allowed lateness and did not change state.
        entities: Entity -> id.
        features: Every column and indicator as the model saw it, after imputation; None where
            it saw NaN. None at all below real time.
        imputed: Column -> cause, value and policy, for those that were absent.
        ages: Entity -> seconds from the newest earlier event used to this one; None without one.
        table_ages: Table -> seconds from the load of the row that was looked up to the event's
            arrival, expired rows too; no table, where none was found.
        degraded: Views that were too large to stay exact for this event.
        scored_at: ISO 8601, UTC.
        reason: Why the score is not from real time; None where it is.
        age: Seconds from what the last or batch score was computed for to now; None otherwise.
        given: Id of the event whose last score is given, or time of the run whose batch score is.
        causes: Rungs above this one and below real time -> why they were passed.
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
    features: dict[str, float | None]
    imputed: dict[str, Imputed]
    ages: dict[str, float | None]
    scored_at: str
    table_ages: dict[str, float] = {}
    degraded: list[str] = []
    reason: Reason | None = None
    age: float | None = None
    given: str = ""
    causes: dict[Rung, Passed] = {}


class LastScore(msgspec.Struct, frozen=True, gc=False):
    """An entity's newest real-time score, to be found without its state.

    Attributes:
        entity: Entity name.
        entity_id: Its id.
        id: The event's id.
        event_time: ISO 8601, UTC.
        score: Probability of the positive class, 0 to 1.
        model_version: The bundle's version.
        definition_hash: The definition's hash.
        expires: Unix second after which the score is not given any more.
    """

    entity: str
    entity_id: str
    id: str
    event_time: str
    score: float
    model_version: str
    definition_hash: str
    expires: int


def last_of(record: ScoreRecord, entity: str, until: int) -> LastScore:
    """A score as the last one of one of its entities.

    Args:
        record: Of the entity's newest scored event.
        entity: Entity name.
        until: When it will be too old to be given, microseconds UTC.
    """
    return LastScore(  # by position, as ``answers.record_of``
        entity,
        record.entities[entity],
        record.id,
        record.event_time,
        record.score,
        record.model_version,
        record.definition_hash,
        until // _US_PER_SECOND + 1,
    )


class BatchScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduled run's score of one entity.

    Attributes:
        entity: Entity name.
        entity_id: Its id.
        as_of: The run's time, ISO 8601, UTC.
        score: Probability of the positive class, 0 to 1.
        model_version: The bundle's version.
        definition_hash: The definition's hash.
        features: As of a score record.
        imputed: As of a score record.
        age: Seconds from the entity's newest event to the run; None without one.
        table_ages: As of a score record, to the run.
        expires: Unix second after which the score must not be used.
    """

    entity: str
    entity_id: str
    as_of: str
    score: float
    model_version: str
    definition_hash: str
    features: dict[str, float | None]
    imputed: dict[str, Imputed]
    age: float | None
    expires: int
    table_ages: dict[str, float] = {}


class Known(msgspec.Struct, frozen=True):
    """What is stored of an entity to fall back on."""

    last: LastScore | None = None
    batch: BatchScore | None = None
