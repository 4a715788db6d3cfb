"""What a load run left, held against a replay of its records: nothing lost, nothing doubled."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from headrace.adapters.clock import FixedClock, SystemClock
from headrace.adapters.dynamodb import DynamoStates
from headrace.adapters.kinesis import decode_records
from headrace.adapters.memory import MemoryQuarantine, MemoryScores, MemoryStates
from headrace.local.records import kinesis_event
from headrace.local.stream_replay import stored_states
from headrace.offline.replay import checked
from headrace.recent import Recent
from headrace.scoring import Scorer, StreamScorer
from tests.aws import stored_scores

if TYPE_CHECKING:
    from collections.abc import Collection

    from headrace.local.records import StreamRecord
    from headrace.scores import ScoreRecord
    from headrace.state import StateCodec
    from tests.load.rig import Rig

_BATCH = 500


def proven(
    rig: Rig, scorer: Scorer, before: MemoryStates, records: Collection[StreamRecord], ids: set[str]
) -> dict[str, int]:
    """Count what is not as it should be; all of it is 0 where nothing went wrong.

    Args:
        rig: The stack after the run.
        scorer: Of the same model.
        before: States before the run; altered.
        records: All that was delivered, each once.
        ids: Of the transactions that were put.

    Returns:
        ``unscored`` and ``unknown`` ids, ``scores_apart`` and ``states_apart`` from the replay,
        and ``kept`` objects in the bucket: records refused or batches given up.
    """
    expected = _replayed(scorer, before, records)
    dynamodb = rig.client("dynamodb")
    scores = stored_scores(dynamodb, rig.table("ScoreTable"))
    states = stored_states(scorer, DynamoStates(dynamodb, rig.table("StateTable"), SystemClock()))
    found, wanted = (_contents(scorer.codec, each) for each in (states, before))
    return {
        "unscored": len(ids - scores.keys()),
        "unknown": len(scores.keys() - ids),
        "scores_apart": sum(
            key not in expected or _given(scores[key]) != _given(expected[key]) for key in scores
        ),
        "states_apart": sum(found.get(key) != wanted.get(key) for key in found.keys() | wanted),
        "kept": rig.kept(),
    }


def _replayed(
    scorer: Scorer, states: MemoryStates, records: Collection[StreamRecord]
) -> dict[str, ScoreRecord]:
    """Scores of the records in order of arrival, without anything going wrong."""
    order = sorted(records, key=lambda each: (each.stored, each.shard, int(each.sequence_number)))
    scores, clock = MemoryScores(), FixedClock()
    stream = StreamScorer(scorer, states, scores, MemoryQuarantine(), clock)
    for start in range(0, len(order), _BATCH):
        batch = decode_records(kinesis_event("replayed", order[start : start + _BATCH]))
        clock.set(batch[-1].arrival)
        checked(stream.score(batch))
    return scores.records


def _contents(codec: StateCodec, states: MemoryStates) -> dict[str, bytes]:
    """Packed states by key, to the bit.

    Left out are when each was last touched and the order of what came lately: what comes again
    touches a state only if that is written for something else in its batch. Left out too are states
    that have expired: DynamoDB Local deletes them, at any time in the minute after.
    """
    found, now = {}, time.time()
    for key, stored in states.items.items():
        state = codec.decode(key, *stored)
        if (codec.expires(state) or math.inf) > now:
            state.recent, state.newest_arrival = Recent(), 0
            found[key] = codec.encode(state)
    return found


def _given(record: ScoreRecord) -> tuple[Any, ...]:
    """What of a score does not depend on when it was computed, or what came just before."""
    return (record.score, record.rung, record.features, record.imputed, record.late)
