"""Random and altered programs under the compiler's sanitizers, for some seconds. Wants gcc.

`python tests/benchmarks/fuzz_program.py [--seconds 60] [--seed 0]`: builds the C of
layers/headrace/program with AddressSanitizer and UndefinedBehaviorSanitizer, which end the process
at a read outside or an overflow, and holds it to its twin in Python by bits and by refusals.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c11", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=undefined", "-DPy_LIMITED_API=0x030b0000", "-fPIC",
         "-shared"]  # fmt: skip
ALTERED, ROWS, MANY = 60, 4, 1_000


def main() -> None:
    """Build and run again with the sanitizers, or, so run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.library:
        print(json.dumps(compared(Path(chosen.library), chosen.seconds, chosen.seed)))
        return
    with TemporaryDirectory() as folder:
        library = built(Path(folder))
        libraries = [gcc("-print-file-name=lib" + name) for name in ("asan.so", "ubsan.so")]
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves some behind
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "headrace")]),
        }
        command = [sys.executable, __file__, "--library", str(library), "--seconds",
                   str(chosen.seconds), "--seed", str(chosen.seed)]  # fmt: skip
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def gcc(*arguments: str) -> str:
    return subprocess.run(
        ["gcc", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def built(folder: Path) -> Path:
    library = folder / "_program.abi3.so"
    sources = map(str, sorted((ROOT / "layers" / "headrace" / "program").glob("*.c")))
    gcc(*FLAGS, "-I" + sysconfig.get_path("include"), *sources, "-o", str(library), "-lm")
    return library


def compared(library: Path, seconds: float, seed: int) -> dict[str, int]:
    """How many programs of each kind were the same in both; the first that is not ends it."""
    sys.modules["headrace._program"] = loaded(library)
    from tests.unit import test_program as made

    programs = altered = ran = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        random = Random(seed + programs)
        data = made.any_program(random)
        rows = [[random.choice(made.VALUES) for _ in range(made.COLUMNS)] for _ in range(ROWS)]
        made.agree(data, rows)
        alone_as_together(made, data, random)
        for _ in range(ALTERED):
            ran += made.agree(made.altered(random, data), rows)
        programs, altered = programs + 1, altered + ALTERED
    return {"programs": programs, "altered": altered, "of_which_ran": ran}


def loaded(library: Path) -> Any:
    spec = importlib.util.spec_from_file_location("headrace._program", library)
    if spec is None or spec.loader is None:
        msg = f"{library}: is no library; expected what gcc built"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alone_as_together(made: Any, data: bytes, random: Random) -> None:
    model = made.program_of(data)
    rows: Sequence[list[float]] = [
        [random.gauss(0, 3) for _ in range(made.COLUMNS)] for _ in range(MANY)
    ]
    alone = {tuple(row): made.bits(model, row) for row in rows}
    scored = [list(row) for row, found in alone.items() if isinstance(found, bytes)]
    together = [made.pack("<d", score) for score in model.score(scored)]
    if together != [alone[tuple(row)] for row in scored]:
        msg = "a row scores otherwise among others than alone"
        raise AssertionError(msg)


if __name__ == "__main__":
    main()
