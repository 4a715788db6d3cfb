"""What a function builds when Lambda initialises it."""

from __future__ import annotations

import pytest

from headrace import bootstrap
from headrace.errors import Misconfigured

VARIABLE = "AWS_LAMBDA_INITIALIZATION_TYPE"


def test_lambda_builds_when_it_initialises(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setenv(VARIABLE, "on-demand")
    bootstrap.begin(lambda: built.append(1))
    assert built == [1]


def test_elsewhere_nothing_is_built_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.delenv(VARIABLE, raising=False)
    bootstrap.begin(lambda: built.append(1))
    assert built == []


@pytest.mark.parametrize(
    ("kind", "builds"),
    [("snap-start", 1), ("provisioned-concurrency", 1), ("on-demand", 0), (None, 0)],
)
def test_what_few_requests_need_is_built_where_none_waits_for_it(
    kind: str | None, builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    monkeypatch.delenv(VARIABLE, raising=False)
    if kind is not None:
        monkeypatch.setenv(VARIABLE, kind)
    bootstrap.begin_early(lambda: built.append(1))
    assert len(built) == builds


def test_what_cannot_be_built_is_left_for_the_first_invocation_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def build() -> None:
        tried.append(1)
        message = "no table"
        raise Misconfigured(message)

    monkeypatch.setenv(VARIABLE, "on-demand")
    bootstrap.begin(build)
    assert tried == [1]
