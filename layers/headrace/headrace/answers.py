"""Score records of events: from real time, and from the ladder below it; and back to their scores.

May import ladder, model, outcome, scores and events.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import BundleError, Rejected
from headrace.events import us_to_text
from headrace.scores import BatchScore, Reason, Rung, ScoreRecord

if TYPE_CHECKING:
    from headrace.ladder import Choice
    from headrace.manifest import Manifest
    from headrace.model import Bundle
    from headrace.outcome import Work

_US_PER_SECOND = 1_000_000


def record_of(work: Work, manifest: Manifest, scored_at: str) -> ScoreRecord:
    """The record of an event that was scored in real time.

    Args:
        work: With its score, and its feature row where it has one.
        manifest: Of the bundle that scored it.
        scored_at: ISO 8601, UTC.
    """
    event, row = work.event, work.row
    late, time = event.late, event.time
    ages: dict[str, float | None] = {}
    table_ages: dict[str, float] = {}
    degraded: list[str] = []
    for name, part in work.parts.items():
        late = late or part.late
        newest = part.newest
        ages[name] = None if newest is None else (time - newest) / _US_PER_SECOND
        if part.looked_up.ages:
            table_ages.update(part.looked_up.ages)
        if part.degraded:
            degraded += part.degraded
    return ScoreRecord(  # by position: by name takes longer than all else here
        event.id,
        event.source.name,
        us_to_text(time),
        work.score,
        Rung.REAL_TIME,
        manifest.model_version,
        manifest.definition_hash,
        late,
        {name: key[len(name) + 1 :] for name, key in event.keys.items()},
        row.columns if row else {},
        row.imputed if row else {},
        ages if row else dict.fromkeys(event.keys),
        scored_at,
        table_ages,
        degraded,
    )


def fallback_of(
    work: Work, reason: Reason, choice: Choice, manifest: Manifest, scored_at: str
) -> ScoreRecord:
    """The record of an event that is answered from below real time.

    Args:
        work: With its feature row where it has one.
        reason: Why it was not scored in real time.
        choice: What the ladder gives.
        manifest: Of the bundle that should have scored it.
        scored_at: ISO 8601, UTC.
    """
    return msgspec.structs.replace(
        record_of(work, manifest, scored_at),
        score=choice.score,
        rung=choice.rung,
        model_version=choice.model_version,
        definition_hash=choice.definition_hash,
        reason=reason,
        age=choice.age,
        given=choice.given,
        causes=choice.causes,
    )


def recompute(record: ScoreRecord | BatchScore, bundle: Bundle) -> float:
    """The score of a record, from what the record holds and the bundle that gave it.

    Returns:
        On a processor like the one that scored, the same bits.

    Raises:
        BundleError: Another bundle gave the score.
        Rejected: The score is borrowed from below real time; where it came from says ``given``.
    """
    manifest = bundle.manifest
    if record.model_version != manifest.model_version:
        msg = f"model version: got {manifest.model_version}; {record.model_version} gave the score"
        raise BundleError(msg)
    if isinstance(record, ScoreRecord) and record.rung is not Rung.REAL_TIME:
        told = f"that of {record.given!r}" if record.given else "the manifest's prior"
        msg = f"event {record.id!r}: rung is {record.rung}; expected real_time: the score is {told}"
        raise Rejected(msg)
    found = (record.features[name] for name in manifest.inputs)
    return bundle.model.score([[nan if value is None else value for value in found]])[0]
