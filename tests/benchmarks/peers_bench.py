"""Headrace beside its peers, each in its own process and environment, a round each in turn.

Requests: from an event to a score, one read of two entities from a stub that answers at once, CPU.
Streams: six windows over two entities, CPU per event; Headrace's figure includes packing and
unpacking its states, with ids against repetition, which the others do not have. Their packages are
installed, locked, into .engines/peers. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from request import MODEL
from stub import stub

from headrace.model import load_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = ROOT / ".engines" / "peers"
ROUNDS = {"request": 15, "stream": 7}
ONE_CORE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "layers" / "headrace")}


class Worker:
    """A process that measures a round when it is told to."""

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        command = [python, "-W", "ignore", str(HERE / "peers" / script), *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "HEADRACE_DEBUG" not in os.environ else None,
            text=True,
            env={**os.environ, **ONE_CORE},
        )
        self._script = script

    def told(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            msg = f"{self._script} ended with {self._process.wait()}"
            raise RuntimeError(msg)
        return line

    def tell(self, line: str) -> None:
        """A line for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def round(self) -> float:
        """What one round measures."""
        self.tell("")
        return float(self.told())

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure all, in turns."""
    peer = install()
    width = str(len(load_bundle(MODEL).manifest.inputs))
    model = str(MODEL / "bundle" / "model.joblib")
    requests = measured(
        "request",
        [
            Worker(sys.executable, "headrace_request.py"),
            Worker(sys.executable, "boto3_request.py"),
            Worker(peer, "feast_request.py", model, width),
        ],
    )
    streams = measured(
        "stream",
        [
            Worker(sys.executable, "headrace_fold.py"),
            Worker(peer, "river_fold.py"),
            Worker(peer, "bytewax_fold.py"),
        ],
    )
    print(
        json.dumps(
            {
                **named("request", ["headrace", "boto3_scikit_learn", "feast"], requests),
                **named("stream", ["headrace", "river", "bytewax"], streams),
            }
        )
    )


def install() -> str:
    """The peers' Python, with their locked packages."""
    locked = HERE / "peers" / "requirements.txt"
    python, stamp = PEERS / "bin" / "python", PEERS / "locked"
    if not stamp.exists() or stamp.read_bytes() != locked.read_bytes():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(PEERS)], check=True)
        command = [uv, "pip", "install", "-q", "-p", str(python), "--require-hashes", "-r"]
        subprocess.run([*command, str(locked)], check=True)
        stamp.write_bytes(locked.read_bytes())
    return str(python)


def measured(kind: str, workers: Sequence[Worker]) -> list[float]:
    """Each worker's median over the rounds; a first round warms up."""
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.stop)
            if kind == "request":
                worker.tell(str(stack.enter_context(stub(worker.told().strip().encode()))))
        rounds = [[worker.round() for worker in workers] for _ in range(ROUNDS[kind] + 1)]
    return [median(times) for times in zip(*rounds[1:], strict=True)]


def named(kind: str, names: Sequence[str], us: Sequence[float]) -> dict[str, float]:
    """Microseconds of each, and how many times less ours is."""
    found = {f"{kind}_{name}_us": round(value, 1) for name, value in zip(names, us, strict=True)}
    for name, value in zip(names[1:], us[1:], strict=True):
        found[f"{kind}_times_less_than_{name}"] = round(value / us[0], 2)
    return found


if __name__ == "__main__":
    main()
