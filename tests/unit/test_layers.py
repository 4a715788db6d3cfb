"""The layers' builder: the same zip for the same bytes, and what is refused."""

from __future__ import annotations

import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.layers import builder

ROOT = Path(__file__).resolve().parents[2]


layers = builder()


def folder_of(path: Path, **files: bytes) -> list[Path]:
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return sorted(path.iterdir())


def layer(name: str, size: int, glibc: tuple[int, int] = (2, 17)) -> Any:
    return layers.Layer(name, Path(), size, 0, "", glibc)


def test_zip_is_the_same_whenever_and_by_whom_it_is_made(tmp_path: Path) -> None:
    zips = []
    for number, mode in enumerate([0o600, 0o755]):
        files = folder_of(tmp_path / str(number), a=b"one", b=b"two")
        for path in files:
            path.chmod(mode)
            os.utime(path, (time.time() - 86_400 * number, 0))
        target = tmp_path / f"{number}.zip"
        layers.pack(files, tmp_path / str(number), target)
        zips.append(target.read_bytes())
    assert zips[0] == zips[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert {info.filename: archive.read(info) for info in archive.infolist()} == {
            "a": b"one", "b": b"two",
        }  # fmt: skip


def test_newest_glibc_is_that_of_any_library(tmp_path: Path) -> None:
    files = folder_of(
        tmp_path / "x",
        **{"a.so": b"GLIBC_2.4\0GLIBC_2.17\0", "b.so.1": b"xGLIBC_2.28", "c.txt": b"GLIBC_2.99"},
    )
    assert layers.newest_glibc(files) == (2, 28)
    assert layers.newest_glibc([files[2]]) == (0, 0)


def test_layers_that_are_too_large_or_want_too_new_a_glibc_are_told() -> None:
    names = {name for each in layers.FUNCTIONS.values() for name in each}
    fine = {name: layer(name, 10 * 2**20) for name in names}
    assert layers._too_large(fine) == layers._too_new(fine) == []
    large = fine | {"RuntimeLayer": layer("RuntimeLayer", 140 * 2**20)}
    assert layers._too_large(large) == ["scoring: 160 MB; expected at most 80"]
    new = fine | {"TableLayer": layer("TableLayer", 1, (2, 38))}
    assert layers._too_new(new) == ["TableLayer: wants glibc (2, 38); Lambda has (2, 34)"]


def test_architecture_that_lambda_has_not_is_refused() -> None:
    assert layers.build_all("riscv") == [
        "architecture is 'riscv'; expected one of x86_64, arm64"
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", layers.ARCHITECTURES)
def test_wheels_are_asked_for_by_the_architecture(architecture: str) -> None:
    made = subprocess.run(
        ["make", "-n", "-s", "-C", ROOT / "layers" / "runtime", "build-RuntimeLayer"],
        env={**os.environ, "ARTIFACTS_DIR": "/tmp/x", "ARCH": architecture},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    machine = {"x86_64": "x86_64", "arm64": "aarch64"}[architecture]
    assert f"--platform manylinux_2_28_{machine} " in made.stdout
    assert "--python-version 3.13" in made.stdout
    assert "--require-hashes" in made.stdout
