"""Stream, request and batch say the same of the same event and state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.memory import MemoryStream
from headrace.batch import BatchScorer
from headrace.definition import (
    AsNan,
    Constant,
    Count,
    Definition,
    Feature,
    FirstOf,
    Flag,
    Label,
    Last,
    LastKnown,
    Max,
    Mean,
    MostFrequent,
    Number,
    RunningMean,
    Source,
    Text,
    TimeSinceLast,
    TrainingMean,
    TrainingMedian,
    View,
    days,
    hours,
    minutes,
)
from headrace.feature_row import Assembler
from headrace.imputation import Cause, Imputed, Imputer, Statistic
from headrace.loading import checked
from headrace.policies import Fitted, steps
from headrace.requests import RequestScorer
from headrace.runs import Order, Start, Step, Trigger
from headrace.scores import BatchScore, ScoreRecord
from tests.fakes import HOUR, MINUTE, NOON, DirectLookups, Lab, card, disputes, encoded, iso, record
from tests.strategies import KEY

visits = Source(
    name="visits",
    id="visit_id",
    time="at",
    entities={"card_id": card},
    fields={
        "amount": Number(at_least=0, at_most=100, if_invalid="missing"),
        "speed": Number(if_invalid="accept", at_most=10),
        "web": Flag(if_invalid="missing"),
        "channel": Text(one_of=("a", "b"), if_invalid="missing"),
    },
)
before = View(
    name="before",
    entity=card,
    source=visits,
    aggregates=[Count(), Mean("amount"), Max("speed"), Last("amount"), TimeSinceLast()],
    windows=[hours(1), days(1)],
    include_current=False,
)
own = replace(before, name="own", aggregates=[Mean("amount"), Count()], include_current=True)


def ratio(event: Any, features: Any) -> float:
    found: float = event.amount / features["before_amount_mean_1d"]
    return found


POLICIES = [
    Constant(3),
    TrainingMean(),
    TrainingMedian(by="channel"),
    MostFrequent(by="web"),
    AsNan(),
    FirstOf([LastKnown(card, hours(1)), TrainingMedian(by="channel")]),
    FirstOf([RunningMean(card, days(1)), Constant(1)]),
    FirstOf([Feature("before_speed_max_1d"), AsNan()]),
]
FEATURE_POLICIES = [p for p in POLICIES if "Known" not in repr(p) and "Running" not in repr(p)]


def definition_of(views: list[View], amount: Any, feature: Any) -> Definition:
    features = [name for view in views for name in view.features]
    label = replace(disputes, entities={"card_id": card})
    return checked(
        Definition(
            sources=[visits, label],
            scored=visits,
            views=views,
            request_features=[ratio],
            inputs=["amount", "speed", "ratio", *features, "amount_is_missing"],
            imputation={"amount": amount, "before_amount_mean_1h": feature},
            default_imputation=TrainingMedian(),
            batch_entity=card,
            label=Label(label, "is_fraud"),
            fresh_for=minutes(0.01),
        )
    )


class Three(Lab):
    """A stream scorer with statistics of groups, and beside it a request scorer and a batch run."""

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition)
        fitted = {
            name: [
                Statistic(1.0 + number, {"a": 2.0, "1": 3.0}) if isinstance(p, Fitted) else
                Statistic(7.0)
                for number, p in enumerate(steps(definition.policy(name)))
            ]
            for name in definition.columns
        }  # fmt: skip
        imputer = Imputer(definition, fitted)
        self.scorer.assembler = Assembler(definition, self.scorer.codec, imputer)

    def of_stream(self, event: dict[str, Any], at: int) -> ScoreRecord:
        self.stream.score([record(event, at)])
        found: ScoreRecord = self.scores.get(str(event["visit_id"]))
        return found

    def of_request(self, event: dict[str, Any], at: int) -> ScoreRecord:
        self.clock.set(at)
        lookups = DirectLookups(self.states, self.scores)
        scorer = RequestScorer(self.scorer, lookups, self.scores, MemoryStream(), self.clock)
        return scorer.score(encoded(event))

    def of_batch(self, at: int) -> BatchScore:
        batch = BatchScorer(self.scorer, self.states, self.scores, self.clock)
        batch.obey(Order(Step.RUN, Start(at, Trigger.DEMAND)), lambda: True)
        found: BatchScore = self.scores.batch["card", "1"]
        return found


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.sampled_from([None, 0, 12.5, 100, -1, 1_000, "ten"]),
        "speed": st.sampled_from([None, 1, 10, 11, "fast"]),
        "web": st.sampled_from([None, True, 0, "yes"]),
        "channel": st.sampled_from([None, "a", "b", "c", 4]),
    },
)
GAPS = st.sampled_from([0, 1, MINUTE, HOUR, HOUR + 1, 3 * HOUR])
VISITS = st.lists(st.tuples(GAPS, VALUES), min_size=1, max_size=8)


def visit(number: int, at: int, values: dict[str, Any]) -> dict[str, Any]:
    return {"source": "visits", "visit_id": number, "at": iso(at), "card_id": 1, **values}


def told(lab: Three, history: list[tuple[int, dict[str, Any]]]) -> int:
    """Let history come; the time of its last event."""
    at = NOON
    for number, (gap, values) in enumerate(history):
        at += gap
        lab.of_stream(visit(number, at, values), at)
    return at


@given(history=VISITS, last=VALUES, gap=GAPS, policy=st.sampled_from(POLICIES),
       feature=st.sampled_from(FEATURE_POLICIES))  # fmt: skip
def test_request_and_stream_give_the_same_record(
    history: list[tuple[int, dict[str, Any]]],
    last: dict[str, Any],
    gap: int,
    policy: Any,
    feature: Any,
) -> None:
    lab = Three(definition_of([before, own], policy, feature))
    at = told(lab, history) + gap
    event = visit(99, at, last)
    of_request, of_stream = lab.of_request(event, at), lab.of_stream(event, at)
    same = msgspec.structs.replace(of_request, scored_at=of_stream.scored_at)
    assert msgspec.json.encode(same) == msgspec.json.encode(of_stream)  # NaN is not equal to NaN


@given(history=VISITS, gap=GAPS, policy=st.sampled_from(POLICIES),
       feature=st.sampled_from(FEATURE_POLICIES))  # fmt: skip
def test_batch_run_says_what_an_event_without_fields_would_be_told(
    history: list[tuple[int, dict[str, Any]]], gap: int, policy: Any, feature: Any
) -> None:
    """With views that leave the current event out, there is no other difference than the cause."""
    lab = Three(definition_of([before], policy, feature))
    at = told(lab, history) + gap + MINUTE
    of_batch = lab.of_batch(at)
    of_stream = lab.of_stream(visit(99, at, {}), at)
    brought = {"amount", "speed", "ratio"}
    expected = {
        name: Imputed(Cause.NO_EVENT, each.value, each.policy) if name in brought else each
        for name, each in of_stream.imputed.items()
    }
    assert (of_batch.features, of_batch.imputed) == (of_stream.features, expected)
    assert msgspec.json.encode(of_batch.score) == msgspec.json.encode(of_stream.score)
    assert of_batch.age == of_stream.ages["card"]
    assert KEY in lab.states.items
