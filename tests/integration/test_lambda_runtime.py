"""The functions under Lambda's own Python runtime, from the sources and from the built layers."""

from __future__ import annotations

import io
import json
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Unavailable
from headrace.local.lambda_runtime import (
    Sandboxes,
    built_layers,
    find_python,
    run_lambda,
    run_lambda_with_layers,
)
from headrace.local.runtime import FunctionFailed, play_lambda
from headrace.local.stack import LocalAws
from tests.conftest import obtained
from tests.layers import scoring_layers
from tests.recorded import FUNCTIONS, RECORDED, Recorded, check_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.local.stack import Player

pytestmark = pytest.mark.slow
BUCKET = "files"


@pytest.fixture(scope="module")
def in_process(root: Path) -> dict[str, Any]:
    """What the functions answer in this process, by event."""
    with started(root, play_lambda) as aws:
        return {each.name: aws.runtime.invoke(each.function, each.event()) for each in RECORDED}


@pytest.fixture(scope="module", params=["sources", "layers"])
def aws(
    request: pytest.FixtureRequest, root: Path, in_process: dict[str, Any]
) -> Iterator[LocalAws]:
    """After ``in_process`` has ended: one local AWS at a time."""
    with started(root, player(request.param, root)) as running:
        yield running


def player(files: str, root: Path) -> Player:
    if files == "sources":
        return run_lambda
    layers = built_layers(root)
    if not all((layers / name).is_dir() for name in ("TableLayer", "image")):
        pytest.skip(f"{layers.relative_to(root)} is not whole; `make layers` builds it")
    obtained("layers", scoring_layers)  # as the project is now
    try:
        find_python("python3.13")
    except Unavailable as error:
        pytest.skip(str(error))
    return partial(run_lambda_with_layers, layers)


def started(root: Path, play: Player) -> LocalAws:
    aws = LocalAws.start(
        root / "template.yaml", play=play, parameters={"TableBucket": BUCKET}, logs=io.StringIO()
    )
    aws.client("s3").create_bucket(Bucket=BUCKET)
    return aws


def timeless(answer: Any) -> Any:
    """An answer without what differs from run to run, or from Python 3.11 to 3.13."""
    kept = {name: answer[name] for name in answer if name != "seconds"}
    if "body" in kept:
        kept["body"] = re.sub(r'"(?:scored_at|title)":"[^"]*"', "", kept["body"])
    return kept


def test_there_are_events_for_every_function_and_route(root: Path) -> None:
    assert {each.function for each in RECORDED} == set(FUNCTIONS.values())
    assert {path.parent.name for path in root.glob("functions/*/app.py")} == set(FUNCTIONS)
    resources = {each.event().get("resource") for each in RECORDED} - {None}
    template = (root / "template.yaml").read_text(encoding="utf-8")
    assert resources == set(re.findall(r'Path: "?(/[a-z][^"\s]*)', template)) != set()


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each.name)
def test_recorded_event_is_answered_as_in_process(
    aws: LocalAws, in_process: dict[str, Any], recorded: Recorded
) -> None:
    answer = aws.runtime.invoke(recorded.function, recorded.event())
    check_answer(recorded, answer)
    assert timeless(answer) == timeless(in_process[recorded.name])


def test_bad_records_of_the_recorded_events_are_in_quarantine(aws: LocalAws) -> None:
    (bucket,) = aws.stack.buckets
    kept = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix="quarantine/")["Contents"]
    assert len(kept) == 2


def test_two_invocations_of_one_function_overlap(aws: LocalAws) -> None:
    assert isinstance(aws.runtime, Sandboxes)
    health = next(each for each in RECORDED if each.name == "score_request/1_health").event()
    begun = threading.Barrier(2)
    answers: list[int] = []

    def ask() -> None:
        begun.wait(10)
        answers.append(aws.runtime.invoke("ScoreRequestFunction", health)["statusCode"])

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]


def test_error_of_a_function_comes_back_with_its_type(aws: LocalAws) -> None:
    assert isinstance(aws.runtime, Sandboxes)
    with pytest.raises(FunctionFailed, match="RunRejected") as failure:
        aws.runtime.invoke("ScoreBatchFunction", {"as_of": "yesterday"})
    assert failure.value.error_type == "RunRejected"
    told = json.loads(aws.runtime.call("ScoreBatchFunction", b'{"as_of": "yesterday"}').payload)
    assert set(told) == {"errorMessage", "errorType", "requestId", "stackTrace"}
    assert "in lambda_handler" in "".join(told["stackTrace"])
