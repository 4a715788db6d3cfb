"""What a function finds of Lambda's file system and environment on this machine."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Unavailable
from headrace.local.lambda_runtime import (
    BuiltLayers,
    Sandboxes,
    Sources,
    built_layers,
    find_python,
    program,
    run_lambda,
)
from headrace.local.resources import Function
from headrace.local.runtime import MOST_PAYLOAD_BYTES, FunctionFailed
from headrace.local.template import read_stack

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT = "http://127.0.0.1:1"


def function(environment: Mapping[str, str], *layers: str) -> Function:
    return Function(
        logical_id="F",
        name="stack-F",
        arn="arn:aws:lambda:us-east-1:123456789012:function:stack-F",
        code=Path("/code"),
        handler="app.lambda_handler",
        timeout_seconds=3,
        memory_mb=256,
        environment=environment,
        layers=layers,
    )


def test_every_function_of_the_template_has_its_layers_in_order(root: Path) -> None:
    functions = read_stack(root / "template.yaml", {"TableBucket": "files"}).functions
    shared = ("HeadraceLayer", "RuntimeLayer", "ModelLayer")
    assert {name: each.layers for name, each in functions.items()} == {
        "ScoreStreamFunction": shared,
        "ScoreRequestFunction": shared,
        "ScoreBatchFunction": shared,
        "LoadBatchFunction": ("HeadraceLayer", "TableLayer", "ModelLayer"),
    }
    assert {each.runtime for each in functions.values()} == {"python3.13"}


def test_function_imports_its_own_folder_first_and_of_layers_the_last_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    placed = BuiltLayers(tmp_path).place(function({}, "first", "second"))
    folders = ["second/python", "first/python", "image"]
    expected = ["/code", *(str(tmp_path / each) for each in folders)]
    assert placed["PYTHONPATH"].split(":") == expected
    assert placed["LAMBDA_TASK_ROOT"] == "/code"


def test_paths_below_opt_are_those_of_the_last_layer_that_has_them(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "model").mkdir(parents=True)
    (tmp_path / "first" / "only").touch()
    wanted = {"MODEL": "/opt/model", "ONLY": "/opt/only", "NONE": "/opt/absent", "PLAIN": "/x"}
    placed = BuiltLayers(tmp_path).place(function(wanted, "first", "second"))
    assert {name: placed[name] for name in wanted} == {
        "MODEL": str(tmp_path / "second" / "model"),
        "ONLY": str(tmp_path / "first" / "only"),
        "NONE": "/opt/absent",
        "PLAIN": "/x",
    }


def test_layer_that_is_not_built_is_told_with_what_builds_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"layer third is not at .*; `make layers`"):
        BuiltLayers(tmp_path).place(function({}, "third"))


def test_layers_are_looked_for_where_they_are_built_for_this_machine(tmp_path: Path) -> None:
    folder = built_layers(tmp_path)
    assert folder.parent == tmp_path / "dist" / "layers"
    assert folder.name in {"x86_64", "arm64"}


def test_environment_is_lambda_s_and_the_template_s_with_real_folders(tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric", reason="AWS builds it for Linux")
    one = function({"HEADRACE_MODEL_DIR": "/opt/model", "COLOUR": "blue"})
    made = program(one, ENDPOINT, Sources(tmp_path))
    assert made.command == (sys.executable, "-m", "awslambdaric", "app.lambda_handler")
    environment = made.environment
    assert environment["HEADRACE_MODEL_DIR"] == str(tmp_path)
    assert environment["COLOUR"] == "blue"
    assert environment["AWS_ENDPOINT_URL"] == ENDPOINT
    assert environment["_HANDLER"] == "app.lambda_handler"
    assert environment["LAMBDA_TASK_ROOT"] == "/code"
    assert environment["PYTHONPATH"].split(":")[0] == "/code"
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["TZ"] == ":UTC"


def test_python_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no python2\.99 on the PATH or in pyenv"):
        find_python("python2.99")
    version = f"python3.{sys.version_info.minor}"
    assert find_python(version).is_file()


def test_event_over_six_megabytes_is_refused(tmp_path: Path) -> None:
    sandboxes = Sandboxes({"F": function({})}, {}, io.StringIO())
    with pytest.raises(FunctionFailed, match="RequestEntityTooLarge"):
        sandboxes.invoke("F", {"x": "x" * MOST_PAYLOAD_BYTES})


def test_answers_and_errors_cross_as_json_and_sandboxes_end_with_the_run(tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric", reason="AWS builds it for Linux")
    (tmp_path / "app.py").write_text(
        "import os\ndef lambda_handler(event, context):\n"
        "    return [os.getpid(), 1 / event['by'], context.function_name, (1, 2)]\n"
    )
    functions = {"F": replace(function({}), code=tmp_path)}
    with run_lambda(functions, ENDPOINT, tmp_path, io.StringIO()) as sandboxes:
        process, *rest = sandboxes.invoke("F", {"by": 2})
        assert rest == [0.5, "stack-F", [1, 2]]
        with pytest.raises(FunctionFailed) as failure:
            sandboxes.invoke("F", {"by": 0})
        assert failure.value.error_type == "ZeroDivisionError"
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()
