"""Score records of events: from real time, and from the ladder below it.

May import ladder, model, outcome, scores and events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.events import us_to_text
from headrace.scores import Reason, Rung, ScoreRecord

if TYPE_CHECKING:
    from headrace.ladder import Choice
    from headrace.model import Manifest
    from headrace.outcome import Work

_US_PER_SECOND = 1_000_000


def record_of(work: Work, manifest: Manifest, scored_at: str) -> ScoreRecord:
    """The record of an event that was scored in real time.

    Args:
        work: With its feature row and score.
        manifest: Of the bundle that scored it.
        scored_at: ISO 8601, UTC.
    """
    if work.row is None:
        msg = f"event {work.event.id!r}: got no feature row; expected a scored work"
        raise ValueError(msg)
    return ScoreRecord(
        score=work.score,
        rung=Rung.REAL_TIME,
        model_version=manifest.model_version,
        definition_hash=manifest.definition_hash,
        **_of_event(work),
        scored_at=scored_at,
    )


def fallback_of(work: Work, reason: Reason, choice: Choice, scored_at: str) -> ScoreRecord:
    """The record of an event that is answered from below real time.

    Args:
        work: With its feature row where there is one.
        reason: Why it was not scored in real time.
        choice: What the ladder gives.
        scored_at: ISO 8601, UTC.
    """
    return ScoreRecord(
        score=choice.score,
        rung=choice.rung,
        model_version=choice.model_version,
        definition_hash=choice.definition_hash,
        **_of_event(work),
        scored_at=scored_at,
        reason=reason,
        age=choice.age,
        given=choice.given,
        causes=choice.causes,
    )


def _of_event(work: Work) -> dict[str, Any]:
    """What a record says of its event, whatever its score comes from."""
    event, row, parts = work.event, work.row, work.parts
    ages = {name: _age(event.time, part.newest) for name, part in parts.items()}
    return {
        "id": event.id,
        "source": event.source.name,
        "event_time": us_to_text(event.time),
        "late": work.late,
        "entities": {name: key[len(name) + 1 :] for name, key in event.keys.items()},
        "features": row.columns if row else {},
        "imputed": row.imputed if row else {},
        "ages": ages if row else dict.fromkeys(event.keys),
        "degraded": [view for part in parts.values() for view in part.degraded],
    }


def _age(time: int, newest: int | None) -> float | None:
    return None if newest is None else (time - newest) / _US_PER_SECOND
