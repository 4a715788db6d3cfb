"""The SAM CLI on template.yaml: validate, build, local invoke and local start-api."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from samtranslator.yaml_helper import yaml_parse

from headrace.errors import Unavailable
from headrace.local.http import call
from headrace.local.lambda_runtime import find_python, run_lambda
from headrace.local.moto_server import serve_moto
from headrace.local.stack import LocalAws
from tests.conftest import obtained
from tests.engines import free_port, running
from tests.environments import environment
from tests.recorded import FUNCTIONS, RECORDED, Recorded, check_answer
from tests.sam.containers import Docker, docker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.sam]

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
TABLES = ("--parameter-overrides", "TableBucket=files")
_IMAGE = (
    "from samcli.local.docker.lambda_image import LambdaImage as I; print(I._INVOKE_REPO_PREFIX)"
)


class Sam(NamedTuple):
    """The SAM CLI of an environment."""

    folder: Path
    variables: dict[str, str]

    @property
    def command(self) -> str:
        return str(self.folder / "bin" / "sam")

    def run(self, *arguments: str) -> str:
        """What a command writes to standard output; its standard error where it fails."""
        done = subprocess.run(
            [self.command, *arguments], env=self.variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


class Local(NamedTuple):
    """What `sam local` runs on: a built template that leads to AWS's services on this machine."""

    sam: Sam
    template: Path
    options: tuple[str, ...]


@pytest.fixture(scope="module")
def sam() -> Sam:
    folder = obtained(
        "SAM CLI", lambda: environment("sam-1.170.0", REQUIREMENTS, Path(sys.executable))
    )
    variables = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SAM_CLI_TELEMETRY": "0",
        # It asks AWS for the account's number before each command, and need not wait for it.
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "1",
    }
    try:
        python = find_python("python3.13")
    except Unavailable as error:
        pytest.skip(f"sam build wants the functions' Python: {error}")
    variables["PATH"] = f"{python.parent}:{variables['PATH']}"
    return Sam(folder, variables)


@pytest.fixture(scope="module")
def built(sam: Sam, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `sam build`."""
    folder = tmp_path_factory.mktemp("build")
    sam.run("build", "-t", str(root / "template.yaml"), "--build-dir", str(folder / "build"),
            "--cache-dir", str(folder / "cache"), *TABLES)  # fmt: skip
    return folder / "build"


@pytest.fixture(scope="module")
def local(sam: Sam, built: Path, root: Path) -> Iterator[Local]:
    """The built template with the tables of a moto that containers reach."""
    image = subprocess.check_output([sam.folder / "bin" / "python", "-c", _IMAGE], text=True)
    with ExitStack() as cleanup:
        name = f"{image.strip()}/python:3.13-x86_64"
        engine: Docker = obtained("Docker", lambda: cleanup.enter_context(docker(name)))
        endpoint = cleanup.enter_context(serve_moto(host=engine.gateway()))
        aws = cleanup.enter_context(
            LocalAws.start(
                root / "template.yaml",
                endpoint=endpoint,
                parameters={"TableBucket": "files"},
                logs=io.StringIO(),
                # Functions of this process would change its variables, and `sam local` takes those
                # that it is started with over the template's.
                play=run_lambda,
            )
        )
        aws.client("s3").create_bucket(Bucket="files")
        template = built / "local.json"
        template.write_text(json.dumps(led_to(aws, endpoint, built / "template.yaml")))
        variables = sam.variables | engine.variables
        yield Local(Sam(sam.folder, variables), template, (*engine.options, *TABLES))


def led_to(aws: LocalAws, endpoint: str, template: Path) -> dict[str, Any]:
    """The built template with the functions' variables as they are on this machine."""
    found: dict[str, Any] = yaml_parse(template.read_text(encoding="utf-8"))
    variables = dict(aws.stack.functions["ScoreStreamFunction"].environment)
    variables["AWS_ENDPOINT_URL"] = endpoint
    found["Globals"]["Function"]["Environment"]["Variables"] = variables
    return found


def test_template_is_valid_by_sam_and_its_lint(sam: Sam, root: Path) -> None:
    assert "is a valid SAM Template" in sam.run(
        "validate", "--lint", "-t", str(root / "template.yaml")
    )


def test_build_fills_every_function_and_layer(built: Path) -> None:
    for function in FUNCTIONS.values():
        assert (built / function / "app.py").is_file()
    assert (built / "HeadraceLayer" / "python" / "headrace" / "scoring.py").is_file()
    assert (built / "RuntimeLayer" / "python" / "numpy").is_dir()
    assert (built / "TableLayer" / "python" / "polars").is_dir()
    assert (built / "ModelLayer" / "model" / "bundle" / "manifest.json").is_file()


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each.name)
def test_recorded_event_is_answered_in_a_container(local: Local, recorded: Recorded) -> None:
    """Its exit code is 0 even where the function failed: the answer counts."""
    answer = local.sam.run(
        "local", "invoke", recorded.function, "-t", str(local.template),
        "-e", str(recorded.path), *local.options,
    )  # fmt: skip
    check_answer(recorded, json.loads(answer))


def test_api_answers_in_a_container(local: Local) -> None:
    port = free_port()
    command = [
        *(local.sam.command, "local", "start-api", "-t", str(local.template)),
        *("-p", str(port), *local.options),
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, local.template.parent, local.sam.variables, lambda: answers(url)):
        began = time.monotonic()
        assert call(url, "GET", "/health").status == 200
        event = next(r for r in RECORDED if r.name == "score_request/2_score").event()
        answer = call(url, "POST", "/scores", event["body"])
        assert (answer.status, answer.json()["rung"]) == (200, "real_time")
        assert call(url, "GET", "/scores/17").json()["id"] == "17"
        assert call(url, "GET", "/scores/999").status == 404
        assert time.monotonic() - began < 120


def answers(url: str) -> bool:
    """Whether the front listens; it starts no container for a path that it does not have."""
    try:
        call(url, "GET", "/")
    except Unavailable:
        return False
    return True
