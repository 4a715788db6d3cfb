"""The bundle: a trained model with all that belongs to it, verified before anything is loaded.

Hashes and the definition's hash are compared before the compiled model is loaded; golden rows are
scored after. Nothing is unpickled, unless the definition and the manifest say that scikit-learn
serves. May import program, onnx_model, manifest, imputation, loading, definition and errors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headrace.errors import BundleError
from headrace.imputation import Imputer, Statistic, unfitted
from headrace.loading import definition_hash, load_definition
from headrace.manifest import Manifest
from headrace.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.definition import Definition
    from headrace.onnx_model import OnnxModel
    from headrace.program import Runnable

FORMAT = 3
MANIFEST = "manifest.json"
COMPILED = "model.program"
ONNX = "model.onnx"  # of bundles from before there were programs
ORIGINAL = "model.joblib"
IMPUTATION = "imputation.json"
GOLDEN = "golden.json"
REFERENCE = "reference.json"
# Processors may differ in the last bits of a power or a dot product, some 1e-15; what would move a
# decision is far above this.
GOLDEN_TOLERANCE = 1e-9
PROGRAM, ONNXRUNTIME, SCIKIT_LEARN = "program", "onnxruntime", "scikit-learn"
_SERVED_FROM = {PROGRAM: COMPILED, ONNXRUNTIME: ONNX, SCIKIT_LEARN: ORIGINAL}


class Model(Protocol):
    """Turns input rows into scores."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Probabilities of the positive class, 0 to 1.

        Args:
            rows: Shape (n, inputs), in the manifest's order of inputs; NaN where the definition
                leaves a value absent.

        Raises:
            ValueError: A row holds what the model does not take.
        """


def scores_of(
    model: Model, rows: Sequence[Sequence[float]], refusal: type[Exception] = ValueError
) -> list[float | None]:
    """Scores in one call, or row by row where that is refused: one per row, None for the refused.

    Args:
        model: Of which a row's score is the same alone and among others.
        rows: As of ``Model.score``.
        refusal: What the model raises over a row that it does not take.
    """
    try:
        return list(model.score(rows))
    except refusal:
        return [None] if len(rows) == 1 else [scores_of(model, [r], refusal)[0] for r in rows]


class AbsentModel:
    """Stands where a model could not be loaded.

    Attributes:
        why: What was wrong with it.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Scores nothing.

        Raises:
            BundleError: There are rows.
        """
        if rows:
            raise BundleError(self.why)
        return []


class GoldenRow(msgspec.Struct, frozen=True):
    """Inputs (None stands for NaN) with the score that the served model gave for them."""

    inputs: list[float | None]
    score: float

    def row(self) -> list[float]:
        """The inputs as the model takes them."""
        return [nan if value is None else value for value in self.inputs]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle, ready to score."""

    definition: Definition
    manifest: Manifest
    model: Model
    imputer: Imputer
    reference: Reference = field(default_factory=dict)


def load_bundle(model_dir: Path) -> Bundle:
    """Load ``definition.py`` and the bundle beside it.

    Args:
        model_dir: Folder with ``definition.py`` and ``bundle/``.

    Raises:
        DefinitionError: The definition has mistakes.
        BundleError: A file is missing, altered or made for another definition, the model does not
            load, or golden rows score differently.
    """
    definition = load_definition(model_dir / "definition.py")
    folder = model_dir / "bundle"
    manifest = read_manifest(folder)
    check_fit(manifest, definition)
    unused = {*_SERVED_FROM.values()} - {_SERVED_FROM[manifest.serving]}  # may be large
    files = {
        name: read_verified(folder / name, sha)
        for name, sha in manifest.files.items()
        if name not in unused
    }
    imputer = Imputer(definition, _decoded(files, IMPUTATION, dict[str, list[Statistic]]))
    model = _served(manifest, files)
    golden = _decoded(files, GOLDEN, list[GoldenRow])
    _check_golden(model, golden)
    if manifest.serving != SCIKIT_LEARN:
        _check_alone(model, golden)
    reference = _decoded(files, REFERENCE, Reference)
    return Bundle(definition, manifest, model, imputer, reference)


def load_without_model(model_dir: Path, why: str) -> Bundle:
    """Definition and manifest only: enough to read events and to know the prior.

    Args:
        model_dir: Folder with ``definition.py`` and ``bundle/``.
        why: The model is not loaded.

    Raises:
        DefinitionError: The definition has mistakes.
        BundleError: The manifest is missing or malformed.
    """
    definition = load_definition(model_dir / "definition.py")
    manifest = read_manifest(model_dir / "bundle")
    nothing = Imputer(definition, unfitted(definition))
    return Bundle(definition, manifest, AbsentModel(why), nothing)


def content_version(files: Mapping[str, str], found_hash: str) -> str:
    """The model version that belongs to these files (name -> SHA-256) and definition hash."""
    text = json.dumps([sorted(files.items()), found_hash])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256(data: bytes) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle.

    Raises:
        BundleError: It is missing, malformed or of another format.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        msg = f"{MANIFEST}: cannot be read ({error.strerror}); expected a bundle: headrace train"
        raise BundleError(msg) from error
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        msg = f"{MANIFEST}: {error}; expected what `headrace train` writes"
        raise BundleError(msg) from error
    if manifest.format != FORMAT:
        msg = f"{MANIFEST}: format is {manifest.format}; this version reads {FORMAT}: train again"
        raise BundleError(msg)
    return manifest


def check_fit(manifest: Manifest, definition: Definition) -> None:
    """Compare a manifest with the definition beside it.

    Raises:
        BundleError: They do not belong together.
    """
    found = definition_hash(definition)
    if manifest.definition_hash != found:
        msg = (
            f"definition hash: got {found}; the model was trained with "
            f"{manifest.definition_hash}: train again with `headrace train`"
        )
        raise BundleError(msg)
    if manifest.inputs != list(definition.inputs):
        msg = f"inputs: got {manifest.inputs}; the definition says {list(definition.inputs)}"
        raise BundleError(msg)
    _check_serving(manifest, definition)
    expected = content_version(manifest.files, manifest.definition_hash)
    if manifest.model_version != expected:
        msg = f"model version: got {manifest.model_version}; the files make it {expected}"
        raise BundleError(msg)


def _check_serving(manifest: Manifest, definition: Definition) -> None:
    if manifest.serving not in _SERVED_FROM:
        msg = f"{MANIFEST}: serving is {manifest.serving!r}; expected {PROGRAM!r}"
        raise BundleError(msg)
    if manifest.serving == SCIKIT_LEARN and definition.if_not_compiled != SCIKIT_LEARN:
        msg = (
            f"{MANIFEST}: serving is {SCIKIT_LEARN!r}, which the definition does not allow; "
            f"expected {PROGRAM!r}, or if_not_compiled={SCIKIT_LEARN!r} in the definition"
        )
        raise BundleError(msg)


def read_verified(path: Path, expected: str) -> bytes:
    """A file whose SHA-256 is the expected one.

    Raises:
        BundleError: It is missing or altered.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path.name}: cannot be read ({error.strerror}); the manifest lists it"
        raise BundleError(msg) from error
    if sha256(data) != expected:
        msg = f"{path.name}: SHA-256 is {sha256(data)}; the manifest says {expected}"
        raise BundleError(msg)
    return data


def _part(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        msg = f"{MANIFEST}: files lacks {name}; expected it with its SHA-256"
        raise BundleError(msg)
    return files[name]


def _served(manifest: Manifest, files: Mapping[str, bytes]) -> Model:
    name = _SERVED_FROM[manifest.serving]
    data = _part(files, name)
    # Each is imported where it serves: a function pays for one, and may lack the others' libraries.
    if manifest.serving == SCIKIT_LEARN:
        from headrace.sklearn_model import unpickled

        return unpickled(data, manifest.libraries, name)
    try:
        model = _compiled(manifest, data)
    except ValueError as error:
        msg = f"{name}: {error}; expected what `headrace compile` writes"
        raise BundleError(msg) from error
    if model.columns != len(manifest.inputs):
        msg = f"{name}: takes {model.columns} inputs; the manifest lists {len(manifest.inputs)}"
        raise BundleError(msg)
    return model


def _compiled(manifest: Manifest, data: bytes) -> Runnable | OnnxModel:
    if manifest.serving == PROGRAM:
        from headrace.program import program_of

        return program_of(data)
    try:
        from headrace.onnx_model import OnnxModel
    except ModuleNotFoundError as error:
        msg = f"served by onnxruntime, and {error}; `headrace compile` makes it a program"
        raise ValueError(msg) from error
    return OnnxModel(data)


def _decoded(files: Mapping[str, bytes], name: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(_part(files, name), type=kind)
    except msgspec.DecodeError as error:
        msg = f"{name}: {error}; expected what `headrace train` writes"
        raise BundleError(msg) from error


def _check_golden(model: Model, golden: Sequence[GoldenRow]) -> None:
    if not golden:
        msg = f"{GOLDEN}: no rows; expected some, to check the model with"
        raise BundleError(msg)
    try:
        scores = model.score([row.row() for row in golden])
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        msg = f"{GOLDEN}: the model cannot score its rows ({error}); train again"
        raise BundleError(msg) from error
    for number, (row, score) in enumerate(zip(golden, scores, strict=True)):
        if not abs(score - row.score) <= GOLDEN_TOLERANCE:
            msg = f"golden row {number}: score is {score!r}; the bundle says {row.score!r}"
            raise BundleError(msg)


def _check_alone(model: Model, golden: Sequence[GoldenRow]) -> None:
    """A row scores alike alone and among others, on this processor too."""
    together = model.score([row.row() for row in golden])
    for number, (row, score) in enumerate(zip(golden, together, strict=True)):
        (alone,) = model.score([row.row()])
        if alone != score:
            msg = f"golden row {number}: score is {alone!r} alone and {score!r} in a batch"
            raise BundleError(msg)
