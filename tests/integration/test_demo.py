"""The story that `headrace demo` tells, with fewer customers: everything in it comes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from headrace.local.stack import LocalAws
from headrace.local.story import Scale, Story, Storyteller
from headrace.local.stream_replay import Arrivals
from headrace.model import load_bundle
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from pathlib import Path

FEW = Scale(customers=30, terminals=40, days=20, backlog=150, live=3)


def nothing(done: int) -> None:
    """No progress is shown."""


@pytest.mark.slow
def test_story_of_the_demo_is_whole(root: Path, tmp_path: Path) -> None:
    known, model = Arrivals(), root / "layers" / "model"
    teller = Storyteller(Scorer(load_bundle(model)), known, datetime.now(UTC), FEW)
    logs = (tmp_path / "log").open("w")
    with logs, LocalAws.start(root / "template.yaml", arrival=known, logs=logs) as aws:
        teller.seed_history(nothing)
        teller.drain_backlog(aws, nothing)
        teller.go_live(aws, nothing)
        teller.ask_endpoint(aws)
        teller.run_batch(aws)
    story = teller.story

    assert story.lacks(FEW) == []
    assert story.scored == story.expected > 50
    assert story.repeats == 5
    assert story.quarantined == dict.fromkeys(
        ("not_json", "not_utf8", "naive_time", "wrong_type", "out_of_bounds", "absurd_time",
         "unknown_source", "missing"), 1,
    )  # fmt: skip
    assert [each.split()[0] for each in story.answers.values()] == ["200", "422", "200", "200"]
    assert set(story.rungs) >= {"last", "prior"}
    assert all(1 <= rank <= story.scored for rank in story.ranks)


def test_story_says_what_did_not_come_out() -> None:
    whole = Story(
        expected=10, scored=10, bad=2, quarantined={"missing": 2}, live_seconds=[0.1] * 3,
        batch={"entities": 30},
    )  # fmt: skip
    assert whole.lacks(FEW) == []
    assert replace(whole, scored=9).lacks(FEW) == ["scores of the backlog: got 9; expected 10"]
    assert replace(whole, quarantined={}, live_seconds=[]).lacks(FEW) == [
        "bad records in quarantine: got 0; expected 2",
        "scores of live events: got 0; expected 3",
    ]
