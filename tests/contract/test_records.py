"""What is stored of a score is enough to compute it again, to the last bit."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random
from struct import pack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.adapters.api import answer
from headrace.adapters.clock import FixedClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.memory import MemoryQuarantine, MemoryStream
from headrace.answers import recompute
from headrace.batch import BatchScorer
from headrace.errors import BundleError, Rejected
from headrace.imputation import Cause
from headrace.local.moto_server import serve_moto
from headrace.model import load_bundle
from headrace.offline.holes import HoleMaker, Holes
from headrace.requests import RequestScorer
from headrace.runs import Order, Start, Step, Trigger
from headrace.scores import Rung, ScoreRecord
from headrace.scoring import Scorer, StreamScorer
from tests.aws import SCORES, STATES, dynamodb_client, empty_stores, stored_scores
from tests.fakes import DAY, MINUTE, NOON, DirectLookups, encoded, iso, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.model import Bundle

EVENTS, CUSTOMERS, TERMINALS = 400, 20, 40
HOLES = Holes.parse("absent=0.1,negative=0.05,text=0.05,unseen=0.1", seed=1)


class Day:
    """Stream, batch run and requests with the project's model, over DynamoDB as moto plays it."""

    def __init__(self, bundle: Bundle, client: Any) -> None:
        self.client, self.clock = client, FixedClock(NOON)
        self.states = DynamoStates(client, STATES, self.clock)
        self.scores = DynamoScores(client, SCORES, self.clock, 30)
        self.scorer = Scorer(bundle)
        self.stream = StreamScorer(
            self.scorer, self.states, self.scores, MemoryQuarantine(), self.clock
        )

    def requests(self, model: Any = None) -> RequestScorer:
        """What answers requests, with another model where one is given."""
        bundle = self.scorer.bundle
        scorer = Scorer(replace(bundle, model=model)) if model else self.scorer
        lookups = DirectLookups(self.states, self.scores)
        return RequestScorer(scorer, lookups, self.scores, MemoryStream(), self.clock)


class Refusing:
    """A model that takes nothing."""

    def score(self, rows: Any) -> list[float]:
        msg = "not for me"
        raise ValueError(msg)


def history(bundle: Bundle) -> list[Any]:
    """Card payments of a week with holes; some come after their lateness."""
    random, found = Random(7), []
    for number in range(EVENTS):
        at = NOON + number * 25 * MINUTE
        late = 2 * DAY if random.random() < 0.05 else 0
        event = {
            "source": "transactions",
            "transaction_id": number,
            "event_time": iso(at - late),
            "customer_id": random.randrange(CUSTOMERS),
            "terminal_id": random.randrange(TERMINALS),
            "amount": round(random.lognormvariate(3, 1), 2),
        }
        found.append(record(event, at, number))
    return HoleMaker(bundle.definition, HOLES).pierced(found)


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return load_bundle(root / "layers" / "model")


@pytest.fixture(scope="module")
def day(bundle: Bundle) -> Iterator[Day]:
    with serve_moto() as endpoint:
        client = dynamodb_client(endpoint)
        empty_stores(client)
        found = Day(bundle, client)
        outcome = found.stream.score(history(bundle))
        assert (outcome.scored, outcome.failed) == (EVENTS, None)
        yield found


@pytest.fixture(scope="module")
def again(root: Path) -> Bundle:
    """The same bundle in another process, as it were: nothing is shared with what scored."""
    return load_bundle(root / "layers" / "model")


def bits(score: float) -> bytes:
    return pack("<d", score)


def test_every_stored_score_is_computed_again_from_its_record_alone(
    day: Day, again: Bundle
) -> None:
    stored = stored_scores(day.client)
    assert len(stored) == EVENTS
    for each in stored.values():
        assert bits(recompute(each, again)) == bits(each.score)
    causes = Counter(i.cause for each in stored.values() for i in each.imputed.values())
    assert {
        Cause.NOT_IN_EVENT,
        Cause.INVALID,
        Cause.NEVER_SEEN,
        Cause.WINDOW_EMPTY,
        Cause.LATE,
        Cause.NOT_COMPUTABLE,
    } <= causes.keys()
    assert len({each.score for each in stored.values()}) > EVENTS / 4


def test_batch_scores_are_too(day: Day, again: Bundle) -> None:
    batch = BatchScorer(day.scorer, day.states, day.scores, day.clock)
    batch.obey(Order(Step.RUN, Start(NOON + 8 * DAY, Trigger.DEMAND)), lambda: True)
    known = day.scores.get_known([f"customer#{number}" for number in range(CUSTOMERS)])
    found = [each.batch for each in known.values() if each.batch is not None]
    assert len(found) == CUSTOMERS
    for each in found:
        assert bits(recompute(each, again)) == bits(each.score)
        assert each.imputed["amount"].cause is Cause.NO_EVENT


def test_answer_of_the_endpoint_holds_as_much_as_the_record(day: Day, again: Bundle) -> None:
    event = {"transaction_id": "asked", "event_time": iso(NOON), "customer_id": 3,
             "terminal_id": 4, "amount": "9 EUR"}  # fmt: skip
    told = json.loads(str(answer(day.requests().score(encoded(event))).body))
    row = [told["features"][name] for name in again.manifest.inputs]
    assert bits(again.model.score([row])[0]) == bits(told["score"])
    assert told["imputed"]["amount"]["cause"] == "invalid"


def test_borrowed_score_leads_to_the_record_that_it_came_from(day: Day, again: Bundle) -> None:
    day.clock.set(NOON + (EVENTS - 1) * 25 * MINUTE)
    newest = max(stored_scores(day.client).values(), key=lambda r: (not r.late, r.event_time))
    event = {"transaction_id": "asked", "event_time": iso(day.clock.now()), "terminal_id": 4,
             "customer_id": newest.entities["customer"], "amount": 1}  # fmt: skip
    found = day.requests(Refusing()).score(encoded(event))
    assert (found.rung, found.score) == (Rung.LAST, newest.score)
    with pytest.raises(Rejected, match=f"the score is that of '{newest.id}'"):
        recompute(found, again)
    origin = day.scores.get(found.given)
    assert isinstance(origin, ScoreRecord)
    assert bits(recompute(origin, again)) == bits(found.score)


def test_another_model_is_not_taken_for_the_one_that_scored(day: Day, again: Bundle) -> None:
    stored = day.scores.get("0")
    assert stored is not None
    manifest = msgspec.structs.replace(again.manifest, model_version="other")
    with pytest.raises(BundleError, match="model version: got other"):
        recompute(stored, replace(again, manifest=manifest))
