"""Reads under a deadline: hedging, the circuit, and calls that never end.

Time is virtual but for the last tests: it passes only while somebody waits, and a call ends once
what its store took has passed.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.clock import SystemClock
from headrace.adapters.lookups import MOST_CALLS, DeadlineLookups, Report, Stores
from headrace.circuit import FAILURES, OPEN_SECONDS, Circuit
from headrace.errors import CircuitOpen, StoreSlow, StoreUnavailable
from headrace.ports import StateWrite, StoredState
from headrace.scores import Known
from tests.fakes import FailingScores, FailingStates
from tests.unit.test_ladder import batch_score, last_score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from headrace.adapters.begun import Begun
    from headrace.scores import ScoreRecord

BUDGET = 0.05
NEVER = 1e9
LIMIT_SECONDS = 20.0  # a test that would hang for ever ends after this
KNOWN = Known(last_score(0), batch_score(0))


class Time:
    """Virtual time; fulfils ``Stopwatch``, and ``Calls`` by ``calls``.

    Attributes:
        spent: What the store that is being called takes; added to by the store.
        begun: Name of each call and when it began.
    """

    def __init__(self) -> None:
        self.now, self.spent = 100.0, 0.0
        self.begun: list[tuple[str, float]] = []
        self._due: list[tuple[float, Callable[[], None]]] = []

    def seconds(self) -> float:
        return self.now

    def wait(self, call: Begun[Any], seconds: float) -> None:
        until = self.now + max(0.0, seconds)
        self._let_end(self.now)
        while not call.done() and self._due and min(self._due, key=_when)[0] <= until:
            self.now = min(self._due, key=_when)[0]
            self._let_end(self.now)
        if not call.done():
            self.now = until
            self._let_end(until)

    def calls(self, name: str) -> VirtualCalls:
        return VirtualCalls(self, name)

    def at(self, instant: float, end: Callable[[], None]) -> None:
        self._due.append((instant, end))

    def _let_end(self, until: float) -> None:
        ended = [end for instant, end in sorted(self._due, key=_when) if instant <= until]
        self._due = [each for each in self._due if each[0] > until]
        for end in ended:
            end()


def _when(due: tuple[float, Any]) -> float:
    return due[0]


class VirtualCalls:
    def __init__(self, time: Time, name: str) -> None:
        self._time, self._name = time, name

    def begin(self, call: Callable[[Any], Any], argument: Any) -> Future[Any]:
        time, future = self._time, Future[Any]()
        time.begun.append((self._name, time.now))
        time.spent = 0.0
        try:
            found = call(argument)
        except StoreUnavailable as error:
            failed = error
            time.at(time.now + time.spent, lambda: future.set_exception(failed))
        else:
            time.at(time.now + time.spent, lambda: future.set_result(found))
        return future


class TimedStates(FailingStates):
    """States that take their time."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time, self.takes = time, 0.004
        self.write([StateWrite("card#1", 0, b"x", None)])

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        self._time.spent += self.takes
        return super().read(keys)


class TimedScores(FailingScores):
    """Scores that take their time."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time, self.takes = time, 0.004
        self.last["card", "1"] = last_score(0)
        self.batch["card", "1"] = batch_score(0)

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        self._time.spent += self.takes
        return super().get_known(keys)

    def get(self, event_id: str) -> ScoreRecord | None:
        self._time.spent += self.takes
        return super().get(event_id)

    def mark_read(self, key: str) -> None:
        self._time.spent += self.takes
        super().mark_read(key)


class World:
    """Look-ups over stores in virtual time."""

    def __init__(self) -> None:
        self.time = Time()
        self.states, self.scores = TimedStates(self.time), TimedScores(self.time)
        stores, circuit = Stores(self.states, self.scores), Circuit()
        self.lookups = DeadlineLookups(stores, BUDGET, circuit, self.time, self.time.calls)

    def ask(self) -> tuple[str, Known | None]:
        """What a request does that needs both: how its read of states ended, what is known."""
        look = self.lookups.begin(["card#1"], ["card#1"])
        try:
            look.states()
            ended = "read"
        except StoreUnavailable as error:
            ended = type(error).__name__
        return ended, (look.known() or {}).get("card#1")

    def began(self, name: str) -> list[float]:
        """When calls of a store began, in seconds from the beginning."""
        return [round(when - 100.0, 6) for each, when in self.time.begun if each == name]


@pytest.fixture
def world() -> World:
    return World()


# The healthy path


def test_states_that_come_soon_cost_no_other_look_up(world: World) -> None:
    look = world.lookups.begin(["card#1"], ["card#1"])
    assert look.states() == {"card#1": StoredState(1, b"x")}
    assert world.began("scores") == []
    assert world.time.now == pytest.approx(100.004)


def test_request_that_needs_no_states_reads_none(world: World) -> None:
    look = world.lookups.begin([], ["card#1"])
    assert look.states() == {}
    assert look.known() == {"card#1": KNOWN}
    assert (world.began("states"), world.began("scores")) == ([], [0.0])


def test_request_that_can_fall_back_on_nothing_asks_for_nothing(world: World) -> None:
    world.states.reads.fail()
    look = world.lookups.begin(["shop#1"], [])
    with pytest.raises(StoreUnavailable):
        look.states()
    assert look.known() == {}
    assert world.began("scores") == []


# Hedging


def test_look_up_begins_at_once_when_the_states_have_failed(world: World) -> None:
    world.states.reads.fail()
    assert world.ask() == ("StoreUnavailable", KNOWN)
    assert world.began("scores") == [0.004]
    assert world.time.now == pytest.approx(100.008)


def test_look_up_begins_after_half_of_the_time(world: World) -> None:
    world.states.takes = NEVER
    assert world.ask() == ("StoreSlow", KNOWN)
    assert world.began("scores") == [BUDGET / 2]
    assert world.time.now == pytest.approx(100 + BUDGET)


def test_states_that_come_late_but_in_time_are_used(world: World) -> None:
    world.states.takes = 0.045
    look = world.lookups.begin(["card#1"], ["card#1"])
    assert look.states() == {"card#1": StoredState(1, b"x")}
    assert world.time.now == pytest.approx(100.045)


def test_unreadable_state_is_found_out_late_and_the_look_up_has_what_is_left(world: World) -> None:
    world.states.takes, world.scores.takes = 0.02, NEVER
    look = world.lookups.begin(["card#1"], ["card#1"])
    look.states()
    assert look.known() is None
    assert world.time.now == pytest.approx(100 + BUDGET)


def test_what_cannot_be_looked_up_is_told_from_what_is_not_stored(world: World) -> None:
    world.states.takes = NEVER
    world.scores.reads.fail()
    assert world.ask() == ("StoreSlow", None)
    assert world.lookups.begin([], ["card#2"]).known() == {"card#2": Known()}


@given(
    states=st.sampled_from([0.0, 0.01, 0.03, 0.0499, 0.0501, 0.2, NEVER]),
    scores=st.sampled_from([0.0, 0.01, 0.03, 0.0499, 0.0501, 0.2, NEVER]),
    failing=st.tuples(st.booleans(), st.booleans()),
    requests=st.integers(1, 12),
)
def test_no_request_ever_takes_longer_than_its_time(
    states: float, scores: float, failing: tuple[bool, bool], requests: int
) -> None:
    world = World()
    world.states.takes, world.scores.takes = states, scores
    for _ in range(requests):
        if failing[0]:
            world.states.reads.fail()
        if failing[1]:
            world.scores.reads.fail(3)
        began = world.time.now
        look = world.lookups.begin(["card#1"], ["card#1"])
        try:
            look.states()
            look.record("e1")
        except StoreUnavailable:
            pass
        look.known()
        look.mark_read(["card#1", "card#2"])
        assert world.time.now <= began + BUDGET + 1e-9


# The score of an event, and marks


def test_score_of_an_event_has_what_is_left_of_the_time(world: World) -> None:
    world.scores.takes = 0.047
    look = world.lookups.begin(["card#1"], ["card#1"])
    look.states()
    with pytest.raises(StoreSlow, match="no answer within 50 ms"):
        look.record("e1")
    assert world.time.now == pytest.approx(100 + BUDGET)


def test_batch_score_is_marked_as_read_within_the_time(world: World) -> None:
    world.states.reads.fail()
    look = world.lookups.begin(["card#1"], ["card#1"])
    with pytest.raises(StoreUnavailable):
        look.states()
    look.known()
    look.mark_read(["card#1"])
    assert world.scores.read_batch == {("card", "1")}
    assert world.time.now == pytest.approx(100.012)


def test_mark_that_fails_or_hangs_is_not_noticed(world: World) -> None:
    look = world.lookups.begin([], ["card#1"])
    look.known()
    world.scores.reads.fail()
    look.mark_read(["card#1"])
    world.scores.takes = NEVER
    look.mark_read(["card#1"])
    assert world.time.now == pytest.approx(100 + BUDGET)


def test_marks_go_on_after_the_time_with_the_first_only(world: World) -> None:
    world.scores.batch["card", "2"] = batch_score(0)
    look = world.lookups.begin([], ["card#1"])
    world.time.now += BUDGET
    look.mark_read(["card#1", "card#2"])
    assert world.scores.read_batch == {("card", "1")}


# The circuit


@pytest.mark.parametrize("fault", ["fails", "hangs"])
def test_states_are_not_asked_after_five_failures_in_a_row(world: World, fault: str) -> None:
    world.states.takes = NEVER if fault == "hangs" else 0.004
    if fault == "fails":
        world.states.reads.fail(FAILURES)
    ended = [world.ask()[0] for _ in range(FAILURES)]
    assert set(ended) == {"StoreSlow" if fault == "hangs" else "StoreUnavailable"}
    asked, began = len(world.began("states")), world.time.now
    assert world.ask() == ("CircuitOpen", KNOWN)
    assert len(world.began("states")) == asked
    assert world.time.now == pytest.approx(began + 0.004)  # the look-up began at once


def test_one_trial_after_five_seconds_closes_the_circuit(world: World) -> None:
    world.states.reads.fail(FAILURES)
    for _ in range(FAILURES):
        world.ask()
    world.time.now += OPEN_SECONDS
    trial = world.lookups.begin(["card#1"], ["card#1"])
    with pytest.raises(CircuitOpen):
        world.lookups.begin(["card#1"], ["card#1"]).states()
    assert trial.states() == {"card#1": StoredState(1, b"x")}
    assert world.ask()[0] == "read"


def test_state_that_is_not_there_is_no_failure(world: World) -> None:
    for _ in range(2 * FAILURES):
        assert world.lookups.begin(["card#9"], ["card#9"]).states() == {}
    assert not world.lookups.report().is_open


def test_report_tells_each_wait_and_opening_once(world: World) -> None:
    world.ask()
    world.states.reads.fail(FAILURES)
    for _ in range(FAILURES + 1):
        world.ask()
    found = world.lookups.report()
    assert found.store_ms == pytest.approx([4.0] * (FAILURES + 1))
    assert (found.opened, found.is_open) == (1, True)
    assert world.lookups.report() == Report([], 0, True)


# Warming


def test_warming_reads_an_absent_key_of_both_stores_at_once(world: World) -> None:
    world.lookups.warm()
    assert (world.began("states"), world.began("scores")) == ([0.0], [0.0])
    assert world.lookups.report() == Report([], 0, False)


def test_warming_never_fails_and_never_waits_long(world: World) -> None:
    world.states.reads.fail()
    world.scores.takes = NEVER
    world.lookups.warm()
    assert world.time.now - 100 == pytest.approx(1.0)
    assert world.ask()[0] == "read"


# Real threads: calls that block until they are let go


class Blocking(FailingStates):
    """States that answer only once they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.inside = 0

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        self.inside += 1
        assert self.go.wait(LIMIT_SECONDS)
        return super().read(keys)


class BlockingScores(FailingScores):
    """Scores that answer only once they are let go."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.go = go

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        assert self.go.wait(LIMIT_SECONDS)
        return super().get_known(keys)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    states = Blocking()
    yield states
    states.go.set()


def test_caller_goes_on_while_both_stores_hang(blocking: Blocking) -> None:
    stores = Stores(blocking, BlockingScores(blocking.go))
    look = DeadlineLookups(stores, 0.02, Circuit(), SystemClock()).begin(["card#1"], ["card#1"])
    with pytest.raises(StoreSlow):
        look.states()
    assert look.known() is None
    assert not blocking.go.is_set()


def test_threads_that_hang_are_bounded_and_answers_come_all_the_same(blocking: Blocking) -> None:
    circuit = Circuit(failures=1_000)
    lookups = DeadlineLookups(Stores(blocking, FailingScores()), 0.005, circuit, SystemClock())
    for _ in range(3 * MOST_CALLS):
        with pytest.raises(StoreSlow):
            lookups.begin(["card#1"], ["card#1"]).states()
    assert blocking.inside == MOST_CALLS


def test_threads_that_were_let_go_read_again(blocking: Blocking) -> None:
    lookups = DeadlineLookups(
        Stores(blocking, FailingScores()), LIMIT_SECONDS, Circuit(), SystemClock()
    )
    blocking.go.set()
    for _ in range(3 * MOST_CALLS):
        assert lookups.begin(["card#1"], ["card#1"]).states() == {}
