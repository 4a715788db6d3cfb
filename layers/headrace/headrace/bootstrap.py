"""The only place that chooses adapters: builds each use case once per process."""

from __future__ import annotations

import gc

_OBJECTS_BETWEEN_COLLECTIONS = 50_000
gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)  # for imports too; see settle()

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.adapters import aws
from headrace.adapters.batches import ROUNDS
from headrace.adapters.clock import SystemClock
from headrace.adapters.dynamodb import DynamoScores, DynamoStates
from headrace.adapters.kinesis import KinesisStream
from headrace.adapters.lean import lean
from headrace.adapters.lean_writes import LeanClient
from headrace.adapters.lookups import DeadlineLookups, Stores
from headrace.adapters.s3 import S3KeptRecords, S3Quarantine
from headrace.adapters.tables import DynamoStatesWithRows, DynamoTable, TableNames
from headrace.circuit import Circuit
from headrace.compiled_fold import AVAILABLE as FOLD
from headrace.errors import BundleError, HeadraceError
from headrace.loading import load_definition
from headrace.model import load_bundle, load_without_model
from headrace.program import COMPILED as MODEL
from headrace.requests import RequestScorer
from headrace.scoring import Scorer, StreamScorer
from headrace.settings import (
    Settings,
    read_settings,
    starts_before_requests,
    starts_on_lambda,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.batch import BatchScorer
    from headrace.definition import Definition
    from headrace.redrive import Redriver


_LEAST_PATIENCE_SECONDS = 0.2  # for a TLS handshake too; the deadline does not depend on it


@cache
def _settings() -> Settings:
    return read_settings()


@cache
def _scorer() -> Scorer:
    bundle = load_bundle(_settings().model_dir)
    if bundle.manifest.not_compiled:
        # Imported here: it reads the environment, which other users of this module have not set.
        from headrace.adapters.telemetry import note_not_compiled

        note_not_compiled(bundle.manifest.not_compiled)
    slow = [name for name, there in (("fold", FOLD), ("model", MODEL)) if not there]
    if slow:
        from headrace.adapters.telemetry import note_in_python

        note_in_python(slow)
    return Scorer(bundle)


@cache
def _definition() -> Definition:
    """What says which tables are looked up; the model need not be loadable for it."""
    return load_definition(_settings().model_dir / "definition.py")


def _states(
    client: Any, settings: Settings, definition: Definition, rounds: int = ROUNDS
) -> DynamoStates:
    """Entity states, with rows of tables where the definition has any."""
    if not definition.tables:
        return DynamoStates(client, settings.state_table, SystemClock(), rounds)
    tables: dict[str, list[str]] = {}
    for table in definition.tables:
        tables.setdefault(table.entity.name, []).append(table.name)
    names = TableNames(settings.state_table, settings.feature_table)
    return DynamoStatesWithRows(client, names, tables, SystemClock(), rounds)


@cache
def state_store() -> DynamoStates:
    """Entity states."""
    return _states(_dynamodb(), _settings(), _definition())


@cache
def score_store() -> DynamoScores:
    """Scores."""
    return _scores(_dynamodb())


def _scores(client: Any) -> DynamoScores:
    settings = _settings()
    return DynamoScores(client, settings.score_table, SystemClock(), settings.score_retention_days)


@cache
def _dynamodb() -> Any:
    return _short(aws.client("dynamodb"), _settings())


def _short(client: Any, settings: Settings) -> Any:
    """A client of DynamoDB that takes the short way where the settings let it."""
    return lean(client, LeanClient) if settings.lean_reads else client


@cache
def stream_scorer() -> StreamScorer:
    """Scores records of the stream."""
    quarantine = S3Quarantine(aws.LateClient("s3"), _settings().quarantine_bucket)
    found = StreamScorer(_scorer(), state_store(), score_store(), quarantine, SystemClock())
    settle()
    return found


@cache
def lookups() -> DeadlineLookups:
    """Reads of requests, by a client of their own: it gives up soon and never tries again."""
    settings, clock = _settings(), SystemClock()
    seconds = settings.store_budget_ms / 1_000
    client = aws.impatient_client("dynamodb", max(_LEAST_PATIENCE_SECONDS, 2 * seconds))
    states = _states(_short(client, settings), settings, _definition(), rounds=1)
    scores = _scores(client)
    found = DeadlineLookups(Stores(states, scores, states.begin), seconds, Circuit(), clock)
    found.warm()
    return found


@cache
def request_scorer() -> RequestScorer:
    """Answers requests, and without a model those that it can."""
    stream = KinesisStream(aws.LateClient("kinesis"), _settings().stream)
    scores = _scores(aws.LateClient("dynamodb"))  # of single events, with time to try again
    found = RequestScorer(_request_parts(), lookups(), scores, stream, SystemClock())
    settle()
    return found


@cache
def settle() -> None:
    """Keep what is loaded by now, which stays, out of Python's garbage collections; once.

    A full collection walks the whole heap of boto3 and the model and stops every thread meanwhile:
    200 ms were measured, four times what a request has. And a batch of events makes more objects
    than Python's threshold thousands of times over, with hardly a cycle among them: collecting at
    each was half of the stream's CPU. Hence the higher threshold above, which stands before the
    imports because collections were a tenth of a cold start too.
    """
    gc.freeze()


def _request_parts() -> Scorer:
    """Of the request path, which also answers where the model cannot be loaded."""
    try:
        return _scorer()
    except BundleError as error:
        scorer = Scorer(load_without_model(_settings().model_dir, str(error)))
        # Imported here for the reason given above.
        from headrace.adapters.telemetry import note_model_not_loaded

        note_model_not_loaded(error)
        return scorer


@cache
def batch_scorer() -> BatchScorer:
    """Runs the batch path."""
    from headrace.batch import BatchScorer  # here: other functions start sooner without it

    found = BatchScorer(_scorer(), state_store(), score_store(), SystemClock())
    settle()
    return found


def redriver(settings: Settings, client: Callable[[str], Any]) -> Redriver:
    """Redrives what a deployment kept: for an operator, whose environment says nothing of it.

    Args:
        settings: Of the deployment.
        client: Makes a client of an AWS service, by its name.
    """
    from headrace.redrive import Redriver  # for the reason given above

    clock, scorer = SystemClock(), Scorer(load_bundle(settings.model_dir))
    return Redriver(
        scorer,
        _states(_short(client("dynamodb"), settings), settings, scorer.definition),
        scores_of(settings, client),
        S3KeptRecords(client("s3"), settings.quarantine_bucket),
        clock,
    )


def states_of(settings: Settings, client: Callable[[str], Any]) -> DynamoStates:
    """The entity states of a deployment, without rows of tables, for an operator."""
    return DynamoStates(client("dynamodb"), settings.state_table, SystemClock())


def scores_of(settings: Settings, client: Callable[[str], Any]) -> DynamoScores:
    """The scores of a deployment, for an operator."""
    return DynamoScores(
        client("dynamodb"), settings.score_table, SystemClock(), settings.score_retention_days
    )


def batch_scorer_of(settings: Settings, client: Callable[[str], Any]) -> BatchScorer:
    """Runs the batch path on a deployment's tables, for an operator."""
    from headrace.batch import BatchScorer  # for the reason given above

    clock = SystemClock()
    scorer = Scorer(load_bundle(settings.model_dir))
    states = _states(_short(client("dynamodb"), settings), settings, scorer.definition)
    return BatchScorer(scorer, states, scores_of(settings, client), clock)


def table_store_of(settings: Settings, client: Callable[[str], Any]) -> DynamoTable:
    """Where loads of tables go, for an operator."""
    return DynamoTable(client("dynamodb"), settings.feature_table, SystemClock())


def begin(build: Callable[[], object]) -> None:
    """Build a function's use case when Lambda initialises it: then it is in SnapStart's snapshot.

    Elsewhere it is built when it is first used. What cannot be built says so then, in any case.
    """
    if starts_on_lambda():
        with suppress(HeadraceError):
            build()


def begin_early(build: Callable[[], object]) -> None:
    """Build what few requests need where no request waits for the start of the function.

    That is so before SnapStart's snapshot, and with provisioned concurrency.
    """
    if starts_before_requests():
        build()


def now() -> int:
    """The time, microseconds UTC."""
    return SystemClock().now()


def forget() -> None:
    """Drop everything built so far; the environment is read again at the next use."""
    for built in (_settings, _scorer, _definition, _dynamodb, state_store, score_store,
                  stream_scorer, lookups, request_scorer, batch_scorer):  # fmt: skip
        built.cache_clear()
