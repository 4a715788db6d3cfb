"""The layers that scoring functions need, built as `make layers` does, and only where it is due."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from headrace.local.lambda_runtime import built_layers
from tests.engines import NotHereError

ROOT = Path(__file__).resolve().parents[1]
SCORING = ("HeadraceLayer", "RuntimeLayer", "ModelLayer")
_LOCKS = {"RuntimeLayer": "requirements.txt", "image": "image.txt"}


def builder() -> Any:
    """infra/layers.py, which is a script."""
    spec = importlib.util.spec_from_file_location("layers_builder", ROOT / "infra" / "layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scoring_layers() -> Path:
    """The folder with the layers of scoring functions and Lambda's image, up to date.

    Raises:
        NotHereError: Their packages cannot be obtained.
    """
    folder = built_layers(ROOT)
    for name in (*SCORING, "image"):
        _build(name, folder)
    return folder


def _build(name: str, folder: Path) -> None:
    """What is made of the project is made anew; what is installed from a lock only for another."""
    stamp, wanted = folder / f"{name}.lock", ""
    if name in _LOCKS:
        wanted = _hash(ROOT / "layers" / "runtime" / _LOCKS[name])
        if (folder / name).is_dir() and stamp.is_file() and stamp.read_text() == wanted:
            return
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir(parents=True)
    try:
        _fill(name, folder)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder / name)
        msg = f"{name} cannot be built: {error}; a network would make it run"
        raise NotHereError(msg) from error
    if wanted:
        stamp.write_text(wanted)


def _fill(name: str, folder: Path) -> None:
    layers = builder()
    if name == "image":
        layers.install_image(folder.name, folder / name)
    else:
        layers.make(name, folder.name, folder / name)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes() + sys.platform.encode()).hexdigest()
