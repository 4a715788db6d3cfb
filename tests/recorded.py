"""The recorded events of tests/events, in an order in which each finds what it looks up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).resolve().parent / "events"
FUNCTIONS = {
    "score_stream": "ScoreStreamFunction",
    "score_batch": "ScoreBatchFunction",
    "load_batch": "LoadBatchFunction",
    "score_request": "ScoreRequestFunction",
}
STATUSES = {
    "1_health": 200,
    "2_score": 200,
    "3_score_in_base64": 200,
    "4_faulty_event": 422,
    "5_not_json": 400,
    "6_batch_with_a_faulty_one": 200,
    "7_score_of_event": 200,
    "8_unknown_event": 404,
    "9_score_of_customer": 200,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event and the logical id of the function that it is for."""

    function: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return found


RECORDED = [
    Recorded(function, path)
    for folder, function in FUNCTIONS.items()
    for path in sorted((EVENTS / folder).glob("*.json"))
]


def check_answer(recorded: Recorded, answer: Any) -> None:
    """What a function says to its event, whatever plays AWS around it."""
    if recorded.function == "ScoreStreamFunction":
        assert answer == {"batchItemFailures": []}
    elif recorded.function == "ScoreRequestFunction":
        assert answer["statusCode"] == STATUSES[recorded.path.stem]
        assert json.loads(answer["body"])
    elif recorded.function == "ScoreBatchFunction":
        assert (answer["end"], answer["trigger"]) == ("complete", "schedule")
        assert answer["as_of"] == recorded.event()["time"]
    else:
        assert answer == {}  # the reference definition has no tables
