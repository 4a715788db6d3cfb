"""The state machine itself, run by moto's Step Functions around the real function."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import BundleError, HeadraceError, StoreUnavailable
from headrace.local.runtime import FunctionFailed, Runtime
from headrace.local.stack import LocalAws
from tests import state_machines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.state_machines import Lambda

SEGMENTS = 6
CUSTOMERS = 40
NOW = datetime.now(UTC).replace(microsecond=0)
FUNCTION = "ScoreBatchFunction"


@pytest.fixture(scope="module")
def aws(root: Path) -> Iterator[LocalAws]:
    """Local AWS with state of some customers."""
    with LocalAws.start(root / "template.yaml") as running:
        running.put(
            (json.dumps(transaction(number)).encode(), str(number)) for number in range(CUSTOMERS)
        )
        assert running.drain().records == CUSTOMERS
        yield running


def transaction(number: int) -> dict[str, Any]:
    return {
        "source": "transactions",
        "transaction_id": number,
        "event_time": NOW.isoformat(),
        "customer_id": number,
        "terminal_id": number % 7,
        "amount": 10 + number,
    }


@pytest.fixture
def played(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    """Lambda that runs the function of the template."""
    with state_machines.played(partial(aws.runtime.invoke, FUNCTION), monkeypatch) as function:
        yield function


def execute(aws: LocalAws, root: Path, as_of: datetime, name: str) -> dict[str, Any]:
    """Run the state machine to its end."""
    text = (root / "infra" / "batch.asl.json").read_text(encoding="utf-8")
    order = {
        "as_of": as_of.isoformat(),
        "segments": SEGMENTS,
        "concurrency": 2,
        "trigger": "demand",  # so that nobody is passed over
    }
    definition = state_machines.playable(text, "ScoreBatchFunctionArn")
    return state_machines.execute(aws.client("stepfunctions"), definition, order, name)


def told_to_fail(kind: type[HeadraceError]) -> FunctionFailed:
    """As Lambda tells of what the function raises."""
    return FunctionFailed("score_batch", kind.__name__, "told to fail")


def parts(function: Lambda) -> list[int]:
    return [event["segment"] for event in function.events if "segment" in event]


def test_state_machine_does_every_part_and_returns_the_runs_report(
    aws: LocalAws, played: Lambda, root: Path
) -> None:
    found = execute(aws, root, NOW, "whole")
    assert found["status"] == "SUCCEEDED", found
    report = json.loads(found["output"])
    assert sorted(parts(played)) == list(range(SEGMENTS))
    assert [event["step"] for event in played.events if "step" in event] == ["open", "close"]
    assert (report["end"], report["complete"], report["segments_left"]) == ("complete", True, 0)
    assert (report["entities"], report["scored"]) == (CUSTOMERS, CUSTOMERS)

    played.events.clear()
    again = execute(aws, root, NOW, "whole-again")
    assert again["status"] == "SUCCEEDED"
    assert [event["step"] for event in played.events] == ["open"]


def test_part_that_ran_out_of_time_goes_on(aws: LocalAws, played: Lambda, root: Path) -> None:
    as_of = NOW + timedelta(minutes=1)
    runtime = aws.runtime
    assert isinstance(runtime, Runtime)
    usual = runtime.monotonic
    late = [0.0]

    def hasten(event: dict[str, Any]) -> None:
        """The first invocation of part 2 has no time left when it looks."""
        first = event.get("segment") == 2 and parts(played).count(2) == 1
        late[0] = 0.0
        runtime.monotonic = (lambda: usual() + _step(late)) if first else usual

    played.before = hasten
    try:
        found = execute(aws, root, as_of, "late")
    finally:
        runtime.monotonic = usual
    report = json.loads(found["output"])
    assert found["status"] == "SUCCEEDED"
    assert parts(played).count(2) == 2
    assert (report["complete"], report["resumed"]) == (True, 1)
    assert report["entities"] == CUSTOMERS


def _step(late: list[float]) -> float:
    """Nothing at first, and nearly all of fifteen minutes from then on."""
    before, late[0] = late[0], 880.0
    return before


def test_part_that_fails_for_good_does_not_keep_the_others_from_being_done(
    aws: LocalAws, played: Lambda, root: Path
) -> None:
    as_of = NOW + timedelta(minutes=2)

    def refuse(event: dict[str, Any]) -> None:
        if event.get("segment") == 3:
            raise told_to_fail(BundleError)

    played.before = refuse
    found = execute(aws, root, as_of, "lacking")
    assert (found["status"], found["error"]) == ("FAILED", "RunIncomplete")
    report = json.loads(found["cause"])
    assert sorted(parts(played)) == list(range(SEGMENTS))  # a bundle is not mended by a retry
    assert (report["complete"], report["segments_left"]) == (False, 1)
    assert 0 < report["scored"] < CUSTOMERS

    played.before = lambda event: None
    played.events.clear()
    mended = execute(aws, root, as_of, "mended")
    assert mended["status"] == "SUCCEEDED"
    assert json.loads(mended["output"])["entities"] == CUSTOMERS


def test_function_that_is_throttled_is_invoked_again(
    aws: LocalAws, played: Lambda, root: Path
) -> None:
    def throttle(event: dict[str, Any]) -> None:
        if parts(played).count(event.get("segment", -1)) == 1 and event["segment"] % 2:
            raise told_to_fail(StoreUnavailable)

    played.before = throttle
    found = execute(aws, root, NOW + timedelta(minutes=3), "throttled")
    assert found["status"] == "SUCCEEDED"
    assert sorted(parts(played)) == sorted([*range(SEGMENTS), 1, 3, 5])
    assert json.loads(found["output"])["scored"] == CUSTOMERS
