"""A state machine over the stream scorer: deliveries, duplicates, disorder and crashes at every
write, against a model that is a dict of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.adapters.memory import MemoryScores, MemoryStates
from headrace.definition import (
    Aggregate,
    Count,
    Definition,
    Label,
    Last,
    Mean,
    Sum,
    View,
    days,
    hours,
)
from headrace.loading import checked
from headrace.ports import WriteOutcome
from tests import strategies as own
from tests.fakes import (
    HOUR,
    MINUTE,
    NOON,
    CrashedError,
    Lab,
    card,
    dispute,
    disputes,
    encoded,
    payment,
    payments,
    record,
    shop,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.events import Record
    from headrace.ports import StateWrite
    from headrace.scores import LastScore, ScoreRecord

AGGREGATES: list[Aggregate] = [Count(), Sum("amount"), Mean("amount"), Last("amount")]
paid = View(
    name="paid", entity=card, source=payments, aggregates=AGGREGATES, windows=[hours(1), days(1)]
)
sold = View(name="sold", entity=shop, source=payments, aggregates=[Count()], windows=[days(1)])
risk = View(
    name="risk", entity=shop, source=disputes, aggregates=[Mean("is_fraud")], windows=[days(1)]
)
DEFINITION: Definition = checked(
    Definition(
        sources=[payments, disputes],
        scored=payments,
        views=[paid, sold, risk],
        inputs=["amount", *paid.features, *sold.features],
        batch_entity=card,
        label=Label(disputes, "is_fraud"),
    )
)


class Fuse:
    """Burns down with every write; the process dies at its end, before or after the write."""

    def __init__(self) -> None:
        self.left, self.after = -1, False

    def burn(self) -> bool:
        """Whether this is the write at which the process dies."""
        self.left -= 1
        return self.left == 0


class MortalStates(MemoryStates):
    """States whose process may die between any two entities."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port."""
        lost: set[str] = set()
        for each in writes:
            dies = self.fuse.burn()
            if not dies or self.fuse.after:
                lost |= super().write([each]).lost
            if dies:
                raise CrashedError
        return WriteOutcome(frozenset(lost), {})


class MortalScores(MemoryScores):
    """Scores whose process may die between any two records."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port; a score that is there must not be put again as new."""
        for each in records:
            self._put(each)
        for newest in last:
            dies = self.fuse.burn()
            if not dies or self.fuse.after:
                super().put_new((), [newest])
            if dies:
                raise CrashedError

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port."""
        there = sum(each.id in self.records for each in records)
        for each in records:
            self._put(each)
        return there

    def _put(self, each: ScoreRecord) -> None:
        dies = self.fuse.burn()
        if not dies or self.fuse.after:
            self.records.setdefault(each.id, each)
        if dies:
            raise CrashedError


class Machine(RuleBasedStateMachine):
    """Sends events, delivers them in batches, dies, and delivers again."""

    @initialize()
    def start(self) -> None:
        self.fuse = Fuse()
        states, scores = MortalStates(self.fuse), MortalScores(self.fuse)
        self.lab = Lab(DEFINITION, states=states, scores=scores)
        self.sent: dict[str, dict[str, Any]] = {}  # the model: id -> event
        self.stream: list[Record] = []  # all that was ever sent
        self.waiting: list[Record] = []

    def _send(self, event: dict[str, Any]) -> None:
        number = len(self.stream)
        self.stream.append(record(event, NOON + number * 1_000, number))
        self.waiting.append(self.stream[-1])

    @rule(
        minutes=st.integers(0, 100),
        amount=st.sampled_from([5.0, 0.25, 20.0]),
        keys=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    )
    def pay(self, minutes: int, amount: float, keys: tuple[int, int]) -> None:
        event = payment(
            len(self.sent), NOON - minutes * MINUTE, amount=amount, card_id=keys[0], shop_id=keys[1]
        )
        self.sent[f"payment {len(self.sent)}"] = event
        self._send(event)

    @rule(minutes=st.integers(0, 100), shop_id=st.integers(1, 2))
    def dispute(self, minutes: int, shop_id: int) -> None:
        event = dispute(len(self.sent), NOON - minutes * MINUTE, shop_id=shop_id)
        self.sent[f"dispute {len(self.sent)}"] = event
        self._send(event)

    @precondition(lambda self: self.sent)
    @rule(random=st.randoms(use_true_random=False))
    def send_again(self, random: Any) -> None:
        self._send(random.choice(list(self.sent.values())))

    @precondition(lambda self: self.waiting)
    @rule(size=st.integers(1, 6))
    def deliver(self, size: int) -> None:
        assert self.lab.stream.score(self.waiting[:size]).failed is None
        del self.waiting[:size]

    @precondition(lambda self: self.waiting)
    @rule(size=st.integers(1, 6), writes=st.integers(1, 12), after=st.booleans())
    def deliver_and_die(self, size: int, writes: int, after: bool) -> None:
        """The batch stays on the stream, whatever of it was stored."""
        self.fuse.left, self.fuse.after = writes, after
        try:
            self.lab.stream.score(self.waiting[:size])
        except CrashedError:
            pass
        else:
            del self.waiting[:size]
        self.fuse.left = -1

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert set(self.lab.scores.records) <= {
            str(e["payment_id"]) for e in self.sent.values() if "amount" in e
        }
        total = sum(values[0] or 0 for key, values in self._features(paid).items())
        assert total <= sum("amount" in e for e in self.sent.values())

    def _features(self, view: View) -> dict[str, list[float | None]]:
        codec, found = self.lab.scorer.codec, {}
        for key, stored in self.lab.states.items.items():
            state = codec.decode(key, *stored)
            for fold in codec.folds[state.entity]:
                if fold.view is view:
                    packed = codec.view(state, fold)
                    found[key] = fold.reader.features_as_of(packed, NOON + HOUR)
        return found

    def teardown(self) -> None:
        """Deliver the rest: state is the dict's, and scores are as if no process had died."""
        self.fuse.left = -1
        assert self.lab.stream.score(self.waiting).failed is None
        self._states_are_those_of_the_dict()
        alive = Lab(DEFINITION)
        assert alive.stream.score(self.stream).failed is None
        assert scores_of(self.lab) == scores_of(alive)
        assert self.lab.scores.last == alive.scores.last

    def _states_are_those_of_the_dict(self) -> None:
        decode = self.lab.scorer.decoder.decode
        events = [decode(encoded(event), NOON + HOUR) for event in self.sent.values()]
        for view in (paid, sold, risk):
            mine = [event for event in events if event.source is view.source]
            found = self._features(view)
            assert set(found) >= {event.keys[view.entity.name] for event in mine}
            for key, values in found.items():
                about = [event for event in mine if event.keys[view.entity.name] == key]
                assert values == own.brute_force(view, about, NOON + HOUR), (view.name, key)


def scores_of(lab: Lab) -> dict[str, Any]:
    return {key: (r.score, r.features, r.imputed) for key, r in lab.scores.records.items()}


TestCrashes = Machine.TestCase
TestCrashes.settings = settings(max_examples=150, stateful_step_count=30)
