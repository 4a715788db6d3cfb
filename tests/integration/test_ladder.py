"""Whatever DynamoDB does, a request over HTTP is answered in time, from the right rung."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.outages import OUTAGES, Outage, Scene, scene

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

BUDGET_MS = 400
BOUND_SECONDS = 5.0  # far below what botocore's own waits would add up to; the machine may be busy
ASKED = 7  # over five, so that the circuit opens on the way


@pytest.fixture(scope="module")
def played() -> Iterator[Scene]:
    with scene(BUDGET_MS) as found:
        yield found


@pytest.fixture(scope="module")
def told() -> Iterator[list[str]]:
    """The table of what was met, printed at the end."""
    rows = ["fault | rung | reason | slowest of the first, ms"]
    yield rows
    print("\n" + "\n".join(rows))  # noqa: T201 - for people, with pytest -s


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda each: each.name)
def test_event_is_answered_from_the_right_rung_and_in_time(
    played: Scene, outage: Outage, told: list[str]
) -> None:
    waits = []
    with played.during(outage):
        for number in range(ASKED):
            began = time.perf_counter()
            reply = played.aws.api.request("POST", "/scores", played.event(outage.customer))
            waits.append(time.perf_counter() - began)
            found = reply.json()
            assert (reply.status, found["rung"]) == (200, outage.rung)
            breaks = outage.reason in ("store_slow", "store_unavailable") and number >= 5
            assert found["reason"] == ("circuit_open" if breaks else outage.reason)
            assert (found["features"] == {}) == (outage.rung != "real_time")
    assert max(waits) < BOUND_SECONDS
    told.append(f"{outage.name} | {outage.rung} | {outage.reason} | {max(waits[:5]) * 1e3:.0f}")


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda each: each.name)
def test_several_events_and_an_entity_are_answered_too(played: Scene, outage: Outage) -> None:
    with played.during(outage):
        began = time.perf_counter()
        events = [played.event(outage.customer), played.event("cold"), {"amount": "x"}]
        reply = played.aws.api.request("POST", "/scores/batch", {"events": events})
        own, cold, refused = reply.json()["scores"]
        assert own["record"]["rung"] == outage.rung
        assert cold["record"]["rung"] in ("real_time", "prior")
        assert refused["status"] == 422
        path = f"/entities/customer/{outage.customer}/score"
        looked_up = played.aws.api.request("GET", path)
        assert looked_up.status == 200
        expected = "last" if outage.rung == "real_time" else outage.rung
        assert looked_up.json()["rung"] == expected
        assert time.perf_counter() - began < 2 * BOUND_SECONDS


def test_real_time_is_back_once_the_store_answers_again(played: Scene) -> None:
    """The circuit's five seconds are waited for."""
    silent = next(each for each in OUTAGES if each.name == "states accepted and never answered")
    ask = played.aws.api.request
    with played.during(silent):
        for _ in range(ASKED):
            ask("POST", "/scores", played.event("known"))
    began = time.monotonic()
    reasons: list[str | None] = ["circuit_open"]
    while reasons[-1] is not None and time.monotonic() - began < 4 * BOUND_SECONDS:
        time.sleep(0.2)
        reasons.append(ask("POST", "/scores", played.event("known")).json()["reason"])
    assert set(reasons[:-1]) == {"circuit_open"}
    assert reasons[-1] is None
