"""Tools in Python environments of their own, which would not get along with `.venv`: obtained once.

LocalStack and the SAM CLI pin other versions of what the tests use. Each is installed by uv from
requirements with hashes into ``.engines/``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.engines import CACHE, OBTAIN_SECONDS, NotHereError

_UV = Path(sys.executable).parent / "uv"


def environment(name: str, requirements: Path, python: Path) -> Path:
    """The folder of an environment with these requirements; made the first time.

    Args:
        name: Of the folder.
        requirements: With hashes.
        python: What to make it from.

    Raises:
        NotHereError: The packages cannot be obtained.
    """
    folder = CACHE / name
    stamp, wanted = folder / "installed", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    CACHE.mkdir(exist_ok=True)
    _uv("venv", "--quiet", "--python", str(python), str(folder))
    into = ("--python", str(folder / "bin" / "python"))
    _uv("pip", "install", "--quiet", *into, "--require-hashes", "-r", str(requirements))
    stamp.write_text(wanted, encoding="utf-8")
    return folder


def _uv(*arguments: str) -> None:
    try:
        subprocess.run(
            [_UV, *arguments], check=True, capture_output=True, text=True, timeout=OBTAIN_SECONDS
        )
    except FileNotFoundError as error:
        msg = f"{_UV} is missing: `make setup` installs it"
        raise NotHereError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"uv took over {OBTAIN_SECONDS:.0f} s; a network would make it run"
        raise NotHereError(msg) from error
    except subprocess.CalledProcessError as error:
        msg = f"`uv {' '.join(arguments[:2])}` failed: {error.stderr.strip()[-500:]}"
        raise NotHereError(msg) from error
