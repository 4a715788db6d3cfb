"""What a handler sees of Lambda, as the local mode plays it."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.local import NotEmulated
from headrace.local.resources import Function
from headrace.local.runtime import MOST_PAYLOAD_BYTES, FunctionFailed, play_lambda

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENDPOINT = "http://127.0.0.1:1"


def function(folder: Path, source: str, **changed: Any) -> Function:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(source, encoding="utf-8")
    plain = Function(
        logical_id=folder.name,
        name=f"stack-{folder.name}",
        arn=f"arn:aws:lambda:us-east-1:123456789012:function:stack-{folder.name}",
        code=folder,
        handler="app.lambda_handler",
        timeout_seconds=3,
        memory_mb=256,
        environment={},
    )
    return replace(plain, **changed)


def handler(body: str) -> str:
    return f"import os, sys\ndef lambda_handler(event, context):\n    {body}\n"


def call(one: Function, event: Mapping[str, Any], logs: io.StringIO | None = None) -> Any:
    functions = {one.logical_id: one}
    with play_lambda(functions, ENDPOINT, one.code, logs or io.StringIO()) as runtime:
        return runtime.invoke(one.logical_id, event)


def test_handler_gets_a_copy_of_the_event_and_only_json_crosses(tmp_path: Path) -> None:
    event = {"a": {"b": 1}, "pair": (1, 2)}
    one = function(tmp_path / "f", handler("event['a']['b'] = 2; return {'got': event, 1: ()}"))
    assert call(one, event) == {"got": {"a": {"b": 2}, "pair": [1, 2]}, "1": []}
    assert event["a"] == {"b": 1}


def test_handlers_with_the_same_module_name_do_not_meet(tmp_path: Path) -> None:
    functions = {
        name: function(tmp_path / name, f"NAME = {name!r}\n" + handler("return NAME"))
        for name in ("first", "second")
    }
    with play_lambda(functions, ENDPOINT, tmp_path, io.StringIO()) as runtime:
        assert [runtime.invoke(name, {}) for name in functions] == ["first", "second"]


def test_handler_stays_warm_within_a_session_and_starts_cold_in_the_next(tmp_path: Path) -> None:
    source = "CALLS = []\n" + handler("CALLS.append(1); return len(CALLS)")
    one = function(tmp_path / "f", source)
    with play_lambda({"f": one}, ENDPOINT, tmp_path, io.StringIO()) as runtime:
        assert [runtime.invoke("f", {}), runtime.invoke("f", {})] == [1, 2]
    assert call(one, {}) == 1


def test_context_says_what_lambda_says(tmp_path: Path) -> None:
    names = "function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb"
    one = function(
        tmp_path / "f",
        handler(
            f"return [getattr(context, name) for name in {names!r}] + "
            "[bool(context.aws_request_id), 2000 < context.get_remaining_time_in_millis() <= 3000]"
        ),
    )
    assert call(one, {}) == ["stack-f", "$LATEST", one.arn, 256, True, True]


def test_environment_is_the_template_s_with_the_endpoint_and_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://elsewhere")
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    before = dict(os.environ)
    one = function(
        tmp_path / "f",
        handler("return dict(os.environ)"),
        environment={"COLOUR": "blue", "HEADRACE_MODEL_DIR": "/opt/model"},
    )
    seen = call(one, {})
    assert dict(os.environ) == before
    assert seen["COLOUR"] == "blue"
    assert seen["HEADRACE_MODEL_DIR"] == str(tmp_path / "f")
    assert seen["AWS_ENDPOINT_URL"] == ENDPOINT
    assert (seen["AWS_ACCESS_KEY_ID"], seen["AWS_REGION"]) == ("local", "us-east-1")
    assert "127.0.0.1" in seen["NO_PROXY"]
    assert "AWS_ENDPOINT_URL_DYNAMODB" not in seen


def test_credentials_that_are_there_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    one = function(tmp_path / "f", handler("return os.environ['AWS_ACCESS_KEY_ID']"))
    assert call(one, {}) == "mine"


def test_functions_that_disagree_on_a_variable_are_refused(tmp_path: Path) -> None:
    functions = {
        name: function(tmp_path / name, handler("return 1"), environment={"COLOUR": name})
        for name in ("red", "blue")
    }
    with (
        pytest.raises(NotEmulated, match="COLOUR is 'blue' and another function has 'red'"),
        play_lambda(functions, ENDPOINT, tmp_path, io.StringIO()),
    ):
        pass


def test_handler_without_a_file_is_refused_at_the_start(tmp_path: Path) -> None:
    one = function(tmp_path / "f", handler("return 1"), handler="elsewhere.lambda_handler")
    with pytest.raises(NotEmulated, match="elsewhere"):
        call(one, {})


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        ("raise ValueError('no')", "ValueError"),
        ("sys.exit(1)", "SystemExit"),
        ("return {1, 2}", "Runtime.MarshalError"),
        (f"return 'x' * {MOST_PAYLOAD_BYTES}", "Function.ResponseSizeTooLarge"),
    ],
)
def test_failure_is_told_as_lambda_tells_it(body: str, error_type: str, tmp_path: Path) -> None:
    with pytest.raises(FunctionFailed) as failure:
        call(function(tmp_path / "f", handler(body)), {})
    assert failure.value.error_type == error_type


def test_event_over_six_megabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FunctionFailed, match="RequestEntityTooLarge"):
        call(function(tmp_path / "f", handler("return 1")), {"x": "x" * MOST_PAYLOAD_BYTES})


def test_module_that_cannot_be_imported_fails_each_invocation(tmp_path: Path) -> None:
    one = function(tmp_path / "f", "import no_such_module\n")
    with pytest.raises(FunctionFailed, match="no_such_module"):
        call(one, {})


def test_invocation_that_lambda_would_have_ended_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = function(tmp_path / "f", handler("return context.get_remaining_time_in_millis()"))
    ticks = iter([0.0, 3.5, 4.0])
    with play_lambda({"f": one}, ENDPOINT, tmp_path, io.StringIO()) as runtime:
        runtime.monotonic = lambda: next(ticks)
        assert runtime.invoke("f", {}) == 0
        assert runtime.overruns == 1
    assert "AWS would have ended it after 3 s" in caplog.text


def test_what_a_function_prints_goes_to_the_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = io.StringIO()
    call(function(tmp_path / "f", handler("print('from the function')")), {}, logs)
    print("from the test")  # noqa: T201
    assert logs.getvalue() == "from the function\n"
    assert capsys.readouterr().out == "from the test\n"
