"""Moto in a process of its own: a stream that keeps its rate however much it holds.

python -m tests.load.stream_server PORT
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.local.moto_server import serve_moto
from tests.engines import answers, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def moto_beside(folder: Path) -> Iterator[str]:
    """Its endpoint; what it does is not in this process's time.

    Args:
        folder: The project.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.load.stream_server", str(port)]
    with running(command, folder, {}, lambda: answers(port, "/moto-api/")):
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    with serve_moto(int(sys.argv[1])):
        threading.Event().wait()  # until it is stopped
