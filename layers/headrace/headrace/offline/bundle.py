"""Write a bundle: compile the model, prove it, seal the files. May import compile and model."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import joblib
import msgspec
import numpy as np

from headrace.definition import INDICATOR, AsNan
from headrace.errors import BundleError
from headrace.loading import definition_hash, load_definition
from headrace.manifest import Manifest
from headrace.model import (
    COMPILED,
    FORMAT,
    GOLDEN,
    IMPUTATION,
    MANIFEST,
    ONNX,
    ORIGINAL,
    PROGRAM,
    REFERENCE,
    SCIKIT_LEARN,
    GoldenRow,
    check_fit,
    content_version,
    read_manifest,
    read_verified,
    sha256,
)
from headrace.offline.compile import (
    Compiled,
    certify,
    compiled_for,
    nan_taken,
    onnx_of,
    require,
)
from headrace.offline.model_card import CARD, how_trained, model_card
from headrace.onnx_model import OnnxModel
from headrace.policies import steps
from headrace.program import program_of
from headrace.sklearn_model import SklearnModel, unpickled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.definition import Definition
    from headrace.offline.edge_rows import Matrix
    from headrace.offline.train import Trained

GOLDEN_ROWS = 50
LIBRARIES = ("scikit-learn", "numpy", "joblib")


def write_bundle(model_dir: Path, definition: Definition, trained: Trained) -> Manifest:
    """Compile a model and write its bundle beside the definition.

    Returns:
        The manifest.

    Raises:
        BundleError: There are no training rows, or the definition leaves an input absent in which
            the estimator does not take NaN.
        NotCompiled: The model does not compile to one that scores alike, and the definition
            refuses that; an existing bundle stays as it was.
    """
    rows = np.asarray(trained.inputs, dtype=np.float64)
    _require_nan_taken(definition, trained.estimator, rows)
    golden = _golden_rows(trained)
    proof = {"training": rows, "golden": golden}
    thresholds = _thresholds(trained.prior, trained.threshold)
    compiled = compiled_for(definition, trained.estimator, proof, thresholds)
    buffer = io.BytesIO()
    joblib.dump(trained.estimator, buffer, compress=("zlib", 9))
    contents = {
        ORIGINAL: buffer.getvalue(),
        **_served(compiled, trained.estimator, golden),
        IMPUTATION: _pretty(trained.statistics),
        REFERENCE: _pretty(trained.reference),
    }
    manifest = msgspec.structs.replace(
        manifest_of(definition, " ".join(repr(trained.estimator).split())),
        trained_from=trained.split.start.isoformat(),
        trained_to=trained.split.end.isoformat(),
        rows=len(trained.inputs),
        prior=trained.prior,
        metrics={name: round(each.value, 6) for name, each in trained.metrics.items()},
        threshold=trained.threshold,
        intervals=_intervals(trained),
        training=how_trained(trained),
    )
    sealed = _sealed(manifest, compiled, contents)
    written = _write(model_dir / "bundle", contents, sealed)
    # Not sealed: it scores nothing, and its words may change without a new model.
    (model_dir / "bundle" / CARD).write_text(
        model_card(definition, sealed, trained), encoding="utf-8"
    )
    return written


def compile_bundle(model_dir: Path, rows: Matrix | None = None) -> Manifest:
    """Compile the original of a bundle again, and prove it on golden and edge rows.

    Args:
        model_dir: Folder with ``definition.py`` and ``bundle/``.
        rows: Rows of data to prove it on too, shape (n, inputs).

    Returns:
        The new manifest; without rows the old one, if every file comes out as it was.

    Raises:
        BundleError: The bundle is altered or does not fit the definition or scikit-learn.
        NotCompiled: As of ``write_bundle``.
    """
    folder, definition = model_dir / "bundle", load_definition(model_dir / "definition.py")
    manifest = read_manifest(folder)
    check_fit(manifest, definition)
    contents = {name: read_verified(folder / name, sha) for name, sha in manifest.files.items()}
    estimator = unpickled(contents[ORIGINAL], manifest.libraries, ORIGINAL).estimator
    golden = _decoded_rows(contents[GOLDEN])
    proof = {"golden": golden} if rows is None else {"training": rows, "golden": golden}
    thresholds = _thresholds(manifest.prior, manifest.threshold)
    compiled = compiled_for(definition, estimator, proof, thresholds)
    for name in (COMPILED, ONNX):  # the latter of bundles from before there were programs
        contents.pop(name, None)
    contents |= _served(compiled, estimator, golden)
    sealed = _sealed(manifest, compiled, contents)
    if rows is None and _same(sealed, manifest):
        return manifest  # whose certificate is of all training rows
    return _write(folder, contents, sealed)


def bundle_as_onnx(model_dir: Path) -> bytes:
    """A bundle's model as ONNX, proven on golden rows and on edge rows made of them.

    Args:
        model_dir: As of ``compile_bundle``.

    Raises:
        BundleError, NotCompiled: As of ``compile_bundle``.
    """
    folder = model_dir / "bundle"
    manifest = read_manifest(folder)
    original, golden = (read_verified(folder / n, manifest.files[n]) for n in (ORIGINAL, GOLDEN))
    estimator = unpickled(original, manifest.libraries, ORIGINAL).estimator
    rows = _decoded_rows(golden)
    data = onnx_of(estimator, rows)
    proof = certify(estimator, OnnxModel(data), {"golden": rows}, (), manifest.inputs)
    require(proof, f"{type(estimator).__name__} as ONNX")
    return data


def _thresholds(prior: float, threshold: float | None) -> tuple[float, ...]:
    """Where flips of decisions are counted."""
    return (0.5, prior) if threshold is None else (0.5, prior, threshold)


def _intervals(trained: Trained) -> dict[str, tuple[float, float]]:
    return {
        name: (round(each.low, 6), round(each.high, 6))
        for name, each in trained.metrics.items()
        if each.low is not None and each.high is not None
    }


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether files and libraries are the same, so that either's certificate holds for both."""
    return (one.files, one.libraries) == (other.files, other.libraries)


def manifest_of(definition: Definition, estimator: str) -> Manifest:
    """What a manifest says before there is a model: no files, no rows."""
    found = definition_hash(definition)
    return Manifest(
        format=FORMAT,
        model_version=content_version({}, found),
        definition_hash=found,
        inputs=list(definition.inputs),
        serving=PROGRAM,
        estimator=estimator,
        libraries={name: version(name) for name in LIBRARIES},
        trained_from="",
        trained_to="",
        rows=0,
        prior=0.0,
        metrics={},
        files={},
    )


def _require_nan_taken(definition: Definition, estimator: Any, rows: Matrix) -> None:
    """What training data never lacks can still be absent live, and the model would refuse it."""
    left = [
        name
        for name in definition.inputs
        if not name.endswith(INDICATOR) and AsNan() in steps(definition.policy(name))
    ]
    if not left or not len(rows):
        return
    refused = sorted(set(left) - set(nan_taken(estimator, rows[0], definition.inputs)))
    if refused:
        msg = (
            f"imputation: AsNan() leaves {', '.join(refused)} absent, where "
            f"{type(estimator).__name__} takes no NaN; expected another policy, or an estimator "
            "that takes NaN, such as HistGradientBoostingClassifier or one behind an imputer"
        )
        raise BundleError(msg)


def _golden_rows(trained: Trained) -> Matrix:
    """Training rows at even ranks of their score, so that the whole range is checked."""
    scores = SklearnModel(trained.estimator).score(trained.inputs)
    if not scores:
        msg = f"{GOLDEN}: got no training row; expected some"
        raise BundleError(msg)
    ranked = np.argsort(scores, kind="stable")
    places = np.unique(np.linspace(0, len(ranked) - 1, GOLDEN_ROWS).round().astype(int))
    return np.asarray([trained.inputs[n] for n in ranked[places].tolist()], dtype=np.float64)


def _decoded_rows(golden: bytes) -> Matrix:
    return np.asarray([row.row() for row in msgspec.json.decode(golden, type=list[GoldenRow])])


def _served(compiled: Compiled, estimator: Any, golden: Matrix) -> dict[str, bytes]:
    """The compiled model, if there is one, and what the model that serves gives for golden rows."""
    rows = golden.tolist()
    if compiled.data is None:
        return {GOLDEN: _golden(rows, SklearnModel(estimator).score(rows))}
    scores = program_of(compiled.data).score(rows)
    return {COMPILED: compiled.data, GOLDEN: _golden(rows, scores)}


def _golden(rows: list[list[float]], scores: list[float]) -> bytes:
    return _pretty([GoldenRow(list(row), score) for row, score in zip(rows, scores, strict=True)])


def _sealed(manifest: Manifest, compiled: Compiled, contents: Mapping[str, bytes]) -> Manifest:
    """The manifest with what serves, and the hashes of the files."""
    files = {name: sha256(contents[name]) for name in sorted(contents)}
    libraries = {name: manifest.libraries[name] for name in LIBRARIES if name in manifest.libraries}
    return msgspec.structs.replace(
        manifest,
        model_version=content_version(files, manifest.definition_hash),
        serving=SCIKIT_LEARN if compiled.data is None else PROGRAM,
        libraries=libraries,
        files=files,
        certificate=compiled.certificate,
        not_compiled=compiled.why_not,
    )


def _write(folder: Path, contents: Mapping[str, bytes], manifest: Manifest) -> Manifest:
    """The manifest last, so that a bundle is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in (COMPILED, ONNX):
        (folder / name).unlink(missing_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(_pretty(manifest))
    return manifest


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
