"""Lambda's own Python runtime around small functions: their answers, and their faults."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace.local.runtime_api import MOST_ANSWER_BYTES
from headrace.local.sandbox import Answer, Program, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("awslambdaric", reason="AWS builds it for Linux; it comes with `make setup`")

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"
OBEDIENT = """
import os, signal, sys, time
CALLS = []
def lambda_handler(event, context):
    CALLS.append(1)
    scope = {**globals(), "event": event, "context": context}
    exec(event["run"], scope)
    return scope["answer"]
"""


class Logs(list[str]):
    """What a function wrote."""

    def text(self, wanted: str) -> str:
        """All of it, once it has this; what a function writes comes on a way of its own."""
        end = time.monotonic() + 10
        while wanted not in "".join(self) and time.monotonic() < end:
            time.sleep(0.01)
        return "".join(self)


@pytest.fixture(scope="module")
def logs() -> Logs:
    return Logs()


def program(folder: Path, source: str, **changed: Any) -> Program:
    (folder / "app.py").write_text(source, encoding="utf-8")
    return Program(
        command=(
            sys.executable,
            "-m",
            "awslambdaric",
            changed.pop("handler", "app.lambda_handler"),
        ),
        folder=folder,
        environment={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "COLOUR": "blue"},
        arn=ARN,
        timeout_seconds=changed.pop("timeout_seconds", 20.0),
        memory_mb=128,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, logs: Logs) -> Iterator[Callable[[str], Answer]]:
    """Runs lines in one sandbox that stays warm as long as it can."""
    folder = tmp_path_factory.mktemp("function")
    sandbox = Sandbox(program(folder, OBEDIENT), logs.append)
    yield lambda lines: sandbox.invoke(json.dumps({"run": lines}).encode())
    sandbox.stop()


def one(folder: Path, source: str, **changed: Any) -> tuple[dict[str, Any], str]:
    """The error of a function that is invoked once, and its logs."""
    logs = Logs()
    sandbox = Sandbox(program(folder, source, **changed), logs.append)
    try:
        answer = sandbox.invoke(b"{}")
        assert answer.is_error
        assert not sandbox.warm
        return json.loads(answer.payload), logs.text("REPORT")
    finally:
        sandbox.stop()


def error(answer: Answer) -> dict[str, Any]:
    assert answer.is_error
    told: dict[str, Any] = json.loads(answer.payload)
    return told


def test_function_stays_warm_and_its_context_is_lambda_s(run: Callable[[str], Answer]) -> None:
    told = "answer = [len(CALLS), context.invoked_function_arn, bool(context.aws_request_id), "
    told += "10_000 < context.get_remaining_time_in_millis() <= 20_000]"  # a start takes some of it
    assert json.loads(run(told).payload) == [1, ARN, True, True]
    assert json.loads(run("answer = len(CALLS)").payload) == 2


def test_function_sees_no_variable_of_this_process(
    run: Callable[[str], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "mine")
    run("os._exit(3)")
    seen = json.loads(run("answer = dict(os.environ)").payload)
    assert "SECRET" not in seen
    assert seen["COLOUR"] == "blue"


def test_error_of_a_handler_has_type_message_and_trace(run: Callable[[str], Answer]) -> None:
    told = error(run("raise ValueError('no')"))
    assert (told["errorType"], told["errorMessage"]) == ("ValueError", "no")
    assert "line 7, in lambda_handler" in told["stackTrace"][0]
    assert told["requestId"]


def test_answer_that_is_no_json_is_an_error_of_marshalling(run: Callable[[str], Answer]) -> None:
    told = error(run("answer = {1}"))
    assert told["errorType"] == "Runtime.MarshalError"
    assert told["errorMessage"].startswith("Unable to marshal response: ")
    assert told["stackTrace"] == []


def test_answer_over_six_megabytes_is_an_error_and_the_next_one_starts_anew(
    run: Callable[[str], Answer],
) -> None:
    told = error(run(f"answer = 'x' * {MOST_ANSWER_BYTES}"))
    assert told == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size (6291558 bytes) exceeded maximum allowed payload "
        "size (6291556 bytes).",
    }
    assert json.loads(run("answer = len(CALLS)").payload) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sys.exit(3)", "Runtime exited with error: exit status 3"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "Runtime exited with error: signal: killed"),
    ],
)
def test_process_that_ends_is_told_and_the_next_one_starts_anew(
    line: str, reason: str, run: Callable[[str], Answer]
) -> None:
    told = error(run(line))
    assert told["errorType"] == "Runtime.ExitError"
    assert told["errorMessage"].endswith(f" Error: {reason}")
    assert json.loads(run("answer = len(CALLS)").payload) == 1


def test_function_out_of_time_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    source = "import subprocess\ndef lambda_handler(event, context):\n"
    source += "    subprocess.run(['sh', '-c', 'sleep 2; touch alive'])\n"
    told, logs = one(tmp_path, source, timeout_seconds=1)
    request = told["errorMessage"].split()[1]
    assert told == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds",
    }
    assert f"REPORT RequestId: {request}\tDuration: 100" in logs
    assert "Status: timeout" in logs
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        (
            "import no_such_module",
            "app.lambda_handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'no_such_module'",
        ),
        (
            "def lambda_handler(",
            "app.lambda_handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': '(' was never closed (app.py, line 1)",
        ),
        (
            "",
            "app.lambda_handler",
            "Runtime.HandlerNotFound",
            "Handler 'lambda_handler' missing on module 'app'",
        ),
        (
            "",
            "lambda_handler",
            "Runtime.MalformedHandlerName",
            "Bad handler 'lambda_handler': not enough values to unpack (expected 2, got 1)",
        ),
        ("raise KeyError('TABLE')", "app.lambda_handler", "KeyError", "'TABLE'"),
        ("import os; os._exit(1)", "app.lambda_handler", "Runtime.ExitError", "exit status 1"),
    ],
    ids=["import", "syntax", "no handler", "bad handler", "raises", "ends"],
)
def test_function_that_cannot_be_loaded_is_told_as_lambda_tells_it(
    source: str, handler: str, kind: str, message: str, tmp_path: Path
) -> None:
    told, _ = one(tmp_path, source, handler=handler)
    assert told["errorType"] == kind
    assert told["errorMessage"].endswith(message)


def test_loading_that_takes_too_long_begins_again_within_the_invocation(tmp_path: Path) -> None:
    source = "import pathlib, time\nfirst = not pathlib.Path('seen').exists()\n"
    source += "pathlib.Path('seen').touch()\nif first:\n    time.sleep(60)\n"
    source += "def lambda_handler(event, context):\n    return first\n"
    sandbox = Sandbox(program(tmp_path, source), Logs().append, init_seconds=2.0)
    assert sandbox.invoke(b"{}") == Answer(b"false")
    sandbox.stop()


def test_what_a_function_writes_and_lambda_s_own_lines_go_to_the_logs(
    run: Callable[[str], Answer], logs: Logs
) -> None:
    logs.clear()
    run("print('from the function'); print('and its fault', file=sys.stderr); answer = 1")
    written = logs.text("and its fault")
    assert "from the function\n" in written
    assert "START RequestId: " in written
    assert "\tMemory Size: 128 MB\tMax Memory Used: " in written
