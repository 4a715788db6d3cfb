"""The circuit breaker, against a model that remembers everything."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.circuit import FAILURES, OPEN_SECONDS, Circuit


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES):
        assert circuit.lets_through(now)
        circuit.failed(now)
    return circuit


def test_fifth_failure_in_a_row_opens_it() -> None:
    circuit = Circuit()
    for number in range(FAILURES):
        assert not circuit.is_open, number
        assert circuit.lets_through(0.0)
        circuit.failed(0.0)
    assert (circuit.is_open, circuit.opened) == (True, 1)
    assert not circuit.lets_through(0.0)


def test_success_in_between_begins_the_count_anew() -> None:
    circuit = Circuit()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            circuit.failed(0.0)
        circuit.succeeded()
    assert circuit.opened == 0


def test_open_circuit_lets_one_trial_through_after_five_seconds() -> None:
    circuit = opened()
    assert not circuit.lets_through(OPEN_SECONDS - 0.001)
    assert circuit.lets_through(OPEN_SECONDS)
    assert not circuit.lets_through(OPEN_SECONDS + 0.001)
    assert circuit.is_open


def test_trial_that_succeeds_closes_it() -> None:
    circuit = opened()
    assert circuit.lets_through(OPEN_SECONDS)
    circuit.succeeded()
    assert not circuit.is_open
    assert all(circuit.lets_through(OPEN_SECONDS) for _ in range(10))


def test_trial_that_fails_opens_it_again_at_once() -> None:
    circuit = opened()
    assert circuit.lets_through(OPEN_SECONDS)
    circuit.failed(OPEN_SECONDS + 1)
    assert circuit.opened == 2
    assert not circuit.lets_through(2 * OPEN_SECONDS)
    assert circuit.lets_through(2 * OPEN_SECONDS + 1)


def test_trial_that_is_never_reported_blocks_no_longer_than_an_open_circuit() -> None:
    circuit = opened()
    assert circuit.lets_through(OPEN_SECONDS)
    assert not circuit.lets_through(2 * OPEN_SECONDS - 0.001)
    assert circuit.lets_through(2 * OPEN_SECONDS)


class Machine(RuleBasedStateMachine):
    """Calls one after the other, with time passing; the model is the list of outcomes."""

    @initialize()
    def start(self) -> None:
        self.circuit, self.now = Circuit(), 0.0
        self.row = 0  # failures since the last success
        self.since: float | None = None  # of the last failure while open
        self.calling = False

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.5, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.calling)
    @rule()
    def call(self) -> None:
        may = self.row < FAILURES or (
            self.since is not None and self.now >= self.since + OPEN_SECONDS
        )
        self.calling = self.circuit.lets_through(self.now)
        assert self.calling == may

    @precondition(lambda self: self.calling)
    @rule()
    def succeed(self) -> None:
        self.circuit.succeeded()
        self.row, self.since, self.calling = 0, None, False

    @precondition(lambda self: self.calling)
    @rule()
    def fail(self) -> None:
        self.circuit.failed(self.now)
        self.row, self.since, self.calling = self.row + 1, self.now, False

    @invariant()
    def it_is_open_after_five_failures_and_until_a_success(self) -> None:
        assert self.circuit.is_open == (self.row >= FAILURES)


TestCircuit = Machine.TestCase
TestCircuit.settings = settings(max_examples=100, stateful_step_count=40)
