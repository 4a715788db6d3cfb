"""Build the Lambda layers into dist/layers/, by their Makefiles as `sam build` does, and check.

Each zip is the same for the same input: names sorted, times and rights fixed. What is checked: the
size that a function's layers unpack to, the newest symbol of glibc that they want, and that a
python3.13 of this architecture with nothing else on its path loads the model and scores its golden
rows. Beside the layers goes what Lambda itself brings, with which `headrace up --runtime layers`
runs the functions. Uses the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "HeadraceLayer": "headrace",
    "RuntimeLayer": "runtime",
    "TableLayer": "runtime",
    "ModelLayer": "model",
    "BackfillLibraryLayer": "headrace",
    "BackfillWheelsLayer": "runtime",
    "BackfillModelLayer": "model",
}
FUNCTIONS = {
    "scoring": ["HeadraceLayer", "RuntimeLayer", "ModelLayer"],
    "loading tables": ["HeadraceLayer", "TableLayer", "ModelLayer"],
    "backfill": ["BackfillLibraryLayer", "BackfillWheelsLayer", "BackfillModelLayer"],
}
MOST_MB = {"scoring": 80, "loading tables": 235, "backfill": 242}
"""Lambda's limit is 250 for a function with its layers; scoring keeps far below it by choice."""

MOST_GLIBC = (2, 34)  # of Amazon Linux 2023, which python3.13 runs on
ARCHITECTURES = ["x86_64", "arm64"]
COMPILER = ROOT / ".tools" / "compiler"
_TIME = (1980, 1, 1, 0, 0, 0)
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")
_MB = 2**20

GOLDEN = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from headrace.model import load_bundle
bundle = load_bundle(Path(sys.argv[3]))  # compares every golden row
import aws_lambda_powertools
from headrace import compiled_fold, program
if not compiled_fold.AVAILABLE or not program.COMPILED:
    sys.exit("what is compiled to C, fold or program, is not there or does not load")
wrong = {"numpy", "onnxruntime", "scipy", "sklearn", "pandas", "joblib"} & set(sys.modules)
if wrong and bundle.manifest.serving == "program":
    sys.exit(f"imported to score: {wrong}")
print(bundle.manifest.model_version)
"""


class Layer(NamedTuple):
    """What was built."""

    name: str
    folder: Path
    unzipped: int
    zipped: int
    sha256: str
    glibc: tuple[int, int]


def main() -> None:
    """Build, tell and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=[], help="x86_64, arm64; both")
    chosen = parser.parse_args().architectures or ARCHITECTURES
    mistakes = [mistake for each in chosen for mistake in build_all(each)]
    for mistake in mistakes:
        print(f"layers: {mistake}", file=sys.stderr)
    sys.exit(1 if mistakes else 0)


def build_all(architecture: str) -> list[str]:
    """Build every layer for one architecture; what is wrong with them."""
    if architecture not in ARCHITECTURES:
        return [f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"]
    out = ROOT / "dist" / "layers" / architecture
    shutil.rmtree(out, ignore_errors=True)
    layers = {name: build(name, architecture, out) for name in FOLDERS}
    install_image(architecture, out / "image")
    print(f"{architecture:14} {'unzipped MB':>11} {'zipped MB':>10}  glibc  sha256")
    for layer in layers.values():
        version = ".".join(map(str, layer.glibc)) if any(layer.glibc) else "-"
        print(
            f"{layer.name:14} {layer.unzipped / _MB:11.1f} {layer.zipped / _MB:10.1f}  "
            f"{version:5}  {layer.sha256[:16]}"
        )
    told = {
        name: {**layer._asdict(), "folder": layer.folder.name} for name, layer in layers.items()
    }
    (out / "layers.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return [*_too_large(layers), *_too_new(layers), *_golden(layers, architecture)]


def build(name: str, architecture: str, out: Path) -> Layer:
    """One layer, by its Makefile."""
    folder = out / name
    folder.mkdir(parents=True)
    make(name, architecture, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    target = out / f"{name}.zip"
    pack(files, folder, target)
    data = target.read_bytes()
    return Layer(
        name,
        folder,
        sum(path.stat().st_size for path in files),
        len(data),
        hashlib.sha256(data).hexdigest(),
        newest_glibc(files),
    )


def make(name: str, architecture: str, folder: Path) -> None:
    """Fill an empty folder with what is to be unpacked into /opt."""
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "ARCH": architecture}
    command = ["make", "-s", "-C", str(ROOT / "layers" / FOLDERS[name]), f"build-{name}",
               f"PYTHON3={sys.executable}", f"COMPILER={COMPILER}"]  # fmt: skip
    subprocess.run(command, check=True, env=environment)


def install_image(architecture: str, folder: Path) -> None:
    """What Lambda's own image of Python brings, so that no layer has it."""
    platform_tag = f"manylinux2014_{'aarch64' if architecture == 'arm64' else architecture}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--platform", platform_tag, "--python-version", "3.13", "--only-binary=:all:",
               "--target", str(folder), "--require-hashes", "-r",
               str(ROOT / "layers" / "runtime" / "image.txt")]  # fmt: skip
    subprocess.run(command, check=True)


def pack(files: list[Path], folder: Path, target: Path) -> None:
    """A zip that depends on names and bytes only."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in files:
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16
            archive.writestr(info, path.read_bytes(), compresslevel=9)


def newest_glibc(files: list[Path]) -> tuple[int, int]:
    """The newest version of glibc that any library asks for; (0, 0) where there is none."""
    libraries = (path for path in files if ".so" in path.suffixes)
    versions = (
        (int(found[1]), int(found[2]))
        for path in libraries
        for found in _GLIBC.finditer(path.read_bytes())
    )
    return max(versions, default=(0, 0))


def _too_large(layers: dict[str, Layer]) -> list[str]:
    mistakes = []
    for function, names in FUNCTIONS.items():
        size = sum(layers[name].unzipped for name in names) / _MB
        print(f"for {function}: {size:.1f} MB unzipped, of at most {MOST_MB[function]}")
        if size > MOST_MB[function]:
            mistakes.append(f"{function}: {size:.0f} MB; expected at most {MOST_MB[function]}")
    return mistakes


def _too_new(layers: dict[str, Layer]) -> list[str]:
    return [
        f"{layer.name}: wants glibc {layer.glibc}; Lambda has {MOST_GLIBC}"
        for layer in layers.values()
        if layer.glibc > MOST_GLIBC
    ]


def _golden(layers: dict[str, Layer], architecture: str) -> list[str]:
    """Load the model from the layers alone, where this machine can."""
    here = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
    if sys.platform != "linux" or here.get(platform.machine().lower()) != architecture:
        print(f"golden rows: not checked, since this machine is not Linux on {architecture}")
        return []
    python = shutil.which("python3.13")
    works = python and subprocess.run([python, "-c", ""], check=False, capture_output=True)
    if not python or not works or works.returncode:
        print("golden rows: not checked, since there is no python3.13 here")
        return []
    paths = [str(layers[name].folder / "python") for name in ("HeadraceLayer", "RuntimeLayer")]
    model = str(layers["ModelLayer"].folder / "model")
    command = [python, "-I", "-S", "-B", "-c", GOLDEN, *paths, model]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return [f"golden rows: {done.stderr.strip()[-500:]}"]
    print(
        f"golden rows: python3.13 with these layers alone scores them (model {done.stdout.strip()})"
    )
    return []


if __name__ == "__main__":
    main()
