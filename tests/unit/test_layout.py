"""The architecture as facts: what imports what, who reads the environment and the clock."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "layers" / "headrace" / "headrace"
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = sorted((ROOT / "functions").glob("*/*.py"))
LOCKS = [
    ROOT / "requirements.txt",
    ROOT / "requirements-dev.txt",
    ROOT / "layers" / "runtime" / "requirements.txt",
    ROOT / "layers" / "runtime" / "tables.txt",
    ROOT / "layers" / "runtime" / "backfill.txt",
]
LONGEST_MODULE = 351

NOT_FOR_SCORING = {"sklearn", "scipy", "joblib", "pandas", "skl2onnx", "onnx", "polars"}
READS_ENVIRONMENT = {"settings.py", "local/runtime.py"}
READS_CLOCK = {"adapters/clock.py"}
MAY_READ_CLOCK_IN = {"local", "cli", "offline"}
CLOCK_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
}
ENVIRONMENT = {"os.environ", "os.getenv", "os.putenv"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def within(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression, cut down to its last two names; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if not isinstance(node, ast.Attribute):
        return ""
    return f"{dotted(node.value).rpartition('.')[2]}.{node.attr}".lstrip(".")


def names_used(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module refers to or imports from os and time."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield node.lineno, dotted(node)
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "time"}:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def uses(path: Path, names: set[str]) -> list[str]:
    return [f"{named(path)}:{line}: {name}" for line, name in names_used(path) if name in names]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def contracts() -> dict[str, dict[str, Any]]:
    """The import linter's contracts by id."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {each["id"]: each for each in project["tool"]["importlinter"]["contracts"]}


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))


def test_imports_point_inwards_only() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run(
        [linter, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_module_from_scoring_inwards_is_held_pure() -> None:
    found = contracts()
    layers = [re.findall(r"\w+", layer) for layer in found["inwards"]["layers"]]
    scoring = next(place for place, layer in enumerate(layers) if "scoring" in layer)
    inner = {name for layer in layers[scoring:] for name in layer}
    here = {f"headrace.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem in inner}
    assert set(found["pure-core"]["source_modules"]) == here


def test_one_module_alone_may_bring_scikit_learn_to_what_scores() -> None:
    found = contracts()["compiled"]
    assert found["ignore_imports"] == [
        "headrace.model -> headrace.sklearn_model",
        "headrace.adapters.parquet -> polars",
    ]
    assert set(found["forbidden_modules"]) >= NOT_FOR_SCORING
    scoring = [path for path in MODULES if within(path).split("/")[0] not in MAY_READ_CLOCK_IN]
    names = NOT_FOR_SCORING | {"pickle"}
    users = {
        within(path)
        for path in scoring + FUNCTIONS
        if {name.partition(".")[0] for name in imported(path)} & names
    }
    assert users == {"sklearn_model.py", "adapters/parquet.py"}
    loaders = {
        within(path)
        for path in MODULES
        if any(name.startswith("headrace.adapters.parquet") for name in imported(path))
    }
    assert {name for name in loaders if "/" not in name} == set()
    assert {name for name in loaders if name.startswith("adapters/")} == {"adapters/table_files.py"}


SCORE_IN_A_FRESH_PROCESS = """
import importlib.util, sys
from pathlib import Path
from headrace import bootstrap
from headrace.model import load_bundle
from headrace.scoring import Scorer
root = Path(sys.argv[1])
scorer = Scorer(load_bundle(root / "layers" / "model"))
(score,) = scorer.bundle.model.score([[1.0] * len(scorer.bundle.manifest.inputs)])
for path in sorted((root / "functions").glob("score_*/app.py")):
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(0 < score < 1, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_functions_and_a_score_load_neither_numpy_nor_scikit_learn_nor_what_compiles() -> None:
    settings = {
        "PYTHONPATH": str(PACKAGE.parent),
        "POWERTOOLS_SERVICE_NAME": "headrace",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    run = subprocess.run(
        [sys.executable, "-c", SCORE_IN_A_FRESH_PROCESS, ROOT],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    scored, *loaded = run.stdout.split()
    assert scored == "True"
    assert "headrace" in loaded
    assert (NOT_FOR_SCORING | {"numpy", "onnxruntime"}) & set(loaded) == set()


def test_functions_import_neither_each_other_nor_what_is_not_for_lambda() -> None:
    others = {path.parent.name for path in FUNCTIONS} | {"app", "functions"}
    not_for_lambda = ("headrace.offline", "headrace.local", "headrace.cli")
    wrong = [
        f"{named(path)}: {name}"
        for path in FUNCTIONS
        for name in sorted(imported(path))
        if name.partition(".")[0] in others or name.startswith(not_for_lambda)
    ]
    assert wrong == []


def test_only_settings_and_the_local_runtime_touch_the_environment() -> None:
    strict = [path for path in MODULES if within(path) not in READS_ENVIRONMENT]
    assert [use for path in strict + FUNCTIONS for use in uses(path, ENVIRONMENT)] == []


def test_only_the_clock_tells_the_time_to_what_scores() -> None:
    strict = [
        path
        for path in MODULES
        if within(path) not in READS_CLOCK and within(path).split("/")[0] not in MAY_READ_CLOCK_IN
    ]
    assert [use for path in strict + FUNCTIONS for use in uses(path, CLOCK_CALLS)] == []


def test_the_walk_finds_the_environment_and_the_clock_however_written(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import os, datetime\nfrom os import environ\nfrom time import time_ns\n"
        "a = os.environ['A']\nb = datetime.datetime.now()\nc = self.clock.now()\n"
    )
    found = {name for _, name in names_used(module)}
    assert {"os.environ", "time.time_ns", "datetime.now"} <= found
    assert "clock.now" not in CLOCK_CALLS


def test_modules_stay_short_enough_to_read_in_one_go() -> None:
    lengths = {
        named(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in MODULES + FUNCTIONS
    }
    assert {path: lines for path, lines in lengths.items() if lines >= LONGEST_MODULE} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        named(path)
        for path in MODULES + FUNCTIONS
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


@pytest.mark.parametrize("lock", LOCKS, ids=named)
def test_lock_file_names_no_package_index(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert re.findall(r"\w+://\S+|^--?(?:extra-)?(?:index|find-links)\S*.*$", text, re.M) == []


@pytest.mark.parametrize("lock", LOCKS, ids=named)
def test_every_locked_requirement_has_a_version_and_a_hash(lock: Path) -> None:
    loose = [
        entry.splitlines()[0]
        for entry in re.split(r"\n(?=[a-z])", lock.read_text(encoding="utf-8"), flags=re.I)
        if not entry.startswith("#") and not ("==" in entry and "--hash=sha256:" in entry)
    ]
    assert loose == []


def test_all_locks_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        pins = re.findall(
            r"^([\w.\[\],-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), flags=re.M
        )
        for name, version in pins:
            versions.setdefault(name.partition("[")[0], set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_lambda_gets_what_the_package_needs_except_what_it_brings_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[><=\[]", entry)[0] for entry in project["dependencies"]}
    layer = (ROOT / "layers" / "runtime" / "requirements.in").read_text(encoding="utf-8")
    assert {line for line in layer.splitlines() if not line.startswith("#")} == needed - {"boto3"}


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=named)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"^    [^\n]*$|```.*?```|`[^`\n]+`", text, flags=re.M | re.S)
    named_targets = set(re.findall(r"\bmake ([a-z][a-z-]*)\b", "\n".join(code)))
    assert named_targets - make_targets() == set()


def test_every_public_make_target_is_in_its_help() -> None:
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^make ([a-z-]+)", run.stdout, flags=re.M)) == make_targets()
