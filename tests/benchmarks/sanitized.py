"""The project's C under the compiler's sanitizers, which end the process at a read outside or an
overflow. Wants gcc."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c11", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=undefined", "-DPy_LIMITED_API=0x030b0000", "-fPIC",
         "-shared"]  # fmt: skip


def sanitized(part: str, told: str | None, compare: Callable[[float, int], dict[str, int]]) -> None:
    """Build a part and run this script again with the sanitizers, or, so run, compare.

    Args:
        part: ``fold`` or ``program``: a folder of layers/headrace.
        told: The script's documentation.
        compare: Gives counts after so many seconds, from a seed on.
    """
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.library:
        sys.modules[f"headrace._{part}"] = loaded(part, Path(chosen.library))
        print(json.dumps(compare(chosen.seconds, chosen.seed)))
        return
    with TemporaryDirectory() as folder:
        library = built(part, Path(folder))
        libraries = [gcc("-print-file-name=lib" + name) for name in ("asan.so", "ubsan.so")]
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves some behind
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "headrace")]),
        }
        command = [sys.executable, sys.argv[0], "--library", str(library), "--seconds",
                   str(chosen.seconds), "--seed", str(chosen.seed)]  # fmt: skip
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def gcc(*arguments: str) -> str:
    return subprocess.run(
        ["gcc", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def built(part: str, folder: Path) -> Path:
    library = folder / f"_{part}.abi3.so"
    sources = map(str, sorted((ROOT / "layers" / "headrace" / part).glob("*.c")))
    gcc(*FLAGS, "-I" + sysconfig.get_path("include"), *sources, "-o", str(library), "-lm")
    return library


def loaded(part: str, library: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"headrace._{part}", library)
    if spec is None or spec.loader is None:
        msg = f"{library}: is no library; expected what gcc built"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
