"""Reads of requests under a deadline: whatever a socket does, the caller goes on in time.

A read of states is sent on a kept connection and read by the caller itself. Without one, and for
all other reads, a worker thread does it, which the caller waits for no longer than its time allows:
opening a connection can hang where no timeout reaches. The look-up to fall back on is hedged: it
begins when the states have failed, or have not come after half of the time, or at once while the
circuit is open; where all is well it costs nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock, Semaphore
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from headrace.adapters.begun import Begun, InPlace
from headrace.errors import CircuitOpen, StoreSlow, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from headrace.circuit import Circuit
    from headrace.ports import ScoreStore, StateStore, StoredState
    from headrace.scores import Known, ScoreRecord

MOST_CALLS = 8
"""Calls that may hang in each of both pools; a further one fails at once."""

_HEDGE = 0.5  # part of the time after which the look-up to fall back on begins
_ABSENT = "#"  # no entity's key: a read of it opens a connection and finds nothing
_WARM_SECONDS = 1.0
_MS_PER_SECOND = 1_000

A = TypeVar("A")
T = TypeVar("T")


class Stopwatch(Protocol):
    """Time that only goes forward, and waiting for a call; fulfilled by ``SystemClock``."""

    def seconds(self) -> float:
        """Seconds from any beginning."""

    def wait(self, call: Begun[Any], seconds: float) -> None:
        """Wait until a call is done, so long at most."""


class Calls(Protocol):
    """Begins calls that the caller does not have to wait for."""

    def begin(self, call: Callable[[A], T], argument: A) -> Future[T] | None:
        """Begin a call; None where too many hang."""


class Stores(NamedTuple):
    """Where is read; neither may wait between attempts.

    Attributes:
        states: Of entities.
        scores: Last and batch scores of entities.
        begin_states: Begins a read of states without a thread, where that is possible.
    """

    states: StateStore
    scores: ScoreStore
    begin_states: Callable[[Sequence[str]], Begun[dict[str, StoredState]] | None] = lambda _: None


class Report(NamedTuple):
    """What was met since the last report.

    Attributes:
        store_ms: Milliseconds that each request waited for states.
        opened: How often the circuit opened.
        is_open: Whether it is open, or half-open.
    """

    store_ms: list[float]
    opened: int
    is_open: bool


class ThreadCalls:
    """Calls in threads of their own, of which only so many can hang; fulfils ``Calls``."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix=name)
        self._free = Semaphore(MOST_CALLS)

    def begin(self, call: Callable[[A], T], argument: A) -> Future[T] | None:
        """See ``Calls``."""
        if not self._free.acquire(blocking=False):
            return None
        future = self._pool.submit(call, argument)
        future.add_done_callback(lambda _: self._free.release())
        return future


class DeadlineLookups:
    """Fulfils ``reads.Lookups``; keeps the circuit breaker of the states.

    Args:
        stores: Where is read.
        seconds: What a request has for all of its reads together.
        circuit: Of the states.
        watch: Tells the time and waits.
        calls: Makes what begins the calls of one store, given its name.
    """

    def __init__(
        self,
        stores: Stores,
        seconds: float,
        circuit: Circuit,
        watch: Stopwatch,
        calls: Callable[[str], Calls] = ThreadCalls,
    ) -> None:
        self.states, self.scores, self._begin_states = stores
        self.budget_seconds = seconds
        self.watch, self.circuit = watch, circuit
        self.state_calls, self.score_calls = calls("states"), calls("scores")
        self._lock = Lock()
        self._store_ms: list[float] = []
        self._told = 0

    def begin(self, states: Sequence[str], known: Sequence[str]) -> DeadlineLookup:
        """See the port."""
        return DeadlineLookup(self, states, known)

    def warm(self) -> None:
        """Open a connection for each pool, so that no request pays for it; never fails."""
        calls = [
            self.state_calls.begin(self.states.read, [_ABSENT]),
            self.score_calls.begin(self.scores.get_known, [_ABSENT]),
        ]
        end = self.watch.seconds() + _WARM_SECONDS
        for call in calls:
            if call is not None:
                self.watch.wait(call, end - self.watch.seconds())

    def may_read_states(self) -> bool:
        """Whether the circuit lets a read of states through."""
        with self._lock:
            return self.circuit.lets_through(self.watch.seconds())

    def begin_states(self, keys: Sequence[str]) -> Begun[dict[str, StoredState]] | None:
        """Begin a read of states; None where too many hang."""
        return self._begin_states(keys) or self.begin_states_in_thread(keys)

    def begin_states_in_thread(self, keys: Sequence[str]) -> Begun[dict[str, StoredState]] | None:
        """The same, on whatever connection, in a thread."""
        return self.state_calls.begin(self.states.read, keys)

    def note_states(self, seconds: float, *, answered: bool) -> None:
        """Note how a read of states that was let through ended."""
        with self._lock:
            self._store_ms.append(seconds * _MS_PER_SECOND)
            if answered:
                self.circuit.succeeded()
            else:
                self.circuit.failed(self.watch.seconds())

    def report(self) -> Report:
        """What was met since the last report."""
        with self._lock:
            found = Report(self._store_ms, self.circuit.opened - self._told, self.circuit.is_open)
            self._store_ms, self._told = [], self.circuit.opened
        return found


class DeadlineLookup:
    """Fulfils ``reads.Lookup``."""

    def __init__(self, owner: DeadlineLookups, states: Sequence[str], known: Sequence[str]) -> None:
        self._owner, self._watch = owner, owner.watch
        self._began = self._watch.seconds()
        self._wanted, self._known_wanted = states, known
        self._known: Future[dict[str, Known]] | None = None
        self._states: Begun[dict[str, StoredState]] | None = None
        self._asked = bool(states) and owner.may_read_states()
        if self._asked:
            self._states = owner.begin_states(states)
        if self._states is None:
            self._begin_known()

    def states(self) -> dict[str, StoredState]:
        """See the port."""
        if not self._wanted:
            return {}
        if not self._asked:
            msg = "states are not read: too many reads failed just now"
            raise CircuitOpen(msg)
        answered = False
        try:
            found = self._await_states()
            answered = True
        finally:
            self._owner.note_states(self._watch.seconds() - self._began, answered=answered)
        return found

    def known(self) -> dict[str, Known] | None:
        """See the port."""
        self._begin_known()
        if self._known is None:
            return None if self._known_wanted else {}
        try:
            return self._result(self._known, "scores")
        except StoreUnavailable:
            return None

    def record(self, event_id: str) -> ScoreRecord | None:
        """See the port."""
        owner = self._owner
        return self._result(owner.score_calls.begin(owner.scores.get, event_id), "scores")

    def mark_read(self, keys: Sequence[str]) -> None:
        """See the port; goes on after the deadline with the first key only."""
        call = self._owner.score_calls.begin(self._mark, keys)
        if call is not None:
            self._watch.wait(call, self._left())

    def _left(self, part: float = 1.0) -> float:
        """Seconds until a part of the time is over; negative after it."""
        return self._began + part * self._owner.budget_seconds - self._watch.seconds()

    def _begin_known(self) -> None:
        if self._known is None and self._known_wanted:
            owner = self._owner
            self._known = owner.score_calls.begin(owner.scores.get_known, self._known_wanted)

    def _await_states(self) -> dict[str, StoredState]:
        call = self._states
        if call is not None:
            self._watch.wait(call, self._left(_HEDGE))
            if call.done() and call.exception() is None:
                return call.result()
        if isinstance(call, InPlace) and call.is_stale():
            call = self._owner.begin_states_in_thread(self._wanted)
            if call is not None:
                self._watch.wait(call, self._left(_HEDGE))
        if call is None or not call.done() or call.exception():
            self._begin_known()
        return self._result(call, "states")

    def _result(self, call: Begun[T] | None, what: str) -> T:
        """What a call gives before the deadline."""
        if call is not None:
            self._watch.wait(call, self._left())
            if call.done():
                return call.result()
            if isinstance(call, InPlace):
                call.abandon()
        msg = f"{what} cannot be read: no answer within {self._owner.budget_seconds * 1_000:.0f} ms"
        raise StoreSlow(msg)

    def _mark(self, keys: Sequence[str]) -> None:
        for place, key in enumerate(keys):
            if place and self._left() <= 0:
                return
            self._owner.scores.mark_read(key)
