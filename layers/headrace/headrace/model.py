"""The bundle: a trained model with all that belongs to it, verified before anything is loaded.

Hashes, library versions and the definition's hash are compared before the model is unpickled;
golden rows are scored after. May import imputation, loading, definition and errors.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from math import nan
from typing import TYPE_CHECKING, Any, Protocol

import joblib
import msgspec
import numpy as np

from headrace.errors import BundleError
from headrace.imputation import Imputer, Statistic, unfitted
from headrace.loading import definition_hash, load_definition
from headrace.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.definition import Definition

FORMAT = 2
MANIFEST = "manifest.json"
MODEL = "model.joblib"
IMPUTATION = "imputation.json"
GOLDEN = "golden.json"
REFERENCE = "reference.json"
GOLDEN_TOLERANCE = 1e-9
SERVING = "scikit-learn"
_PICKLE_BOUND = ("scikit-learn",)


class Model(Protocol):
    """Turns input rows into scores."""

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Probabilities of the positive class, 0 to 1.

        Args:
            rows: Shape (n, inputs), in the manifest's order of inputs; NaN where the definition
                leaves a value absent.
        """


class SklearnModel:
    """A scikit-learn classifier or pipeline with ``predict_proba``."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """See ``Model.score``."""
        if not rows:
            return []
        found = self._estimator.predict_proba(np.asarray(rows, dtype=np.float64))
        scores: list[float] = found[:, 1].tolist()
        return scores


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


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is and what it came from.

    Attributes:
        format: Version of this layout.
        model_version: First 12 hex digits of a hash over the files and the definition.
        definition_hash: Hash of the definition that it was trained with.
        inputs: Names of the model's inputs, in order.
        serving: How the model is scored: ``scikit-learn``.
        estimator: The estimator, as text.
        libraries: Distribution -> version that it was trained with.
        trained_from: First event time of the training rows, ISO 8601 UTC.
        trained_to: Event time up to which they go.
        rows: Number of training rows.
        prior: Positive rate of the training rows: the score when nothing is known.
        metrics: Metrics on the rows that were held out.
        files: File name -> SHA-256.
    """

    format: int
    model_version: str
    definition_hash: str
    inputs: list[str]
    serving: str
    estimator: str
    libraries: dict[str, str]
    trained_from: str
    trained_to: str
    rows: int
    prior: float
    metrics: dict[str, float]
    files: dict[str, str]


class GoldenRow(msgspec.Struct, frozen=True):
    """Inputs (None stands for NaN) with the score that training saw for them."""

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
        BundleError: A file is missing, altered, made for another definition or by another
            scikit-learn, or golden rows score differently.
    """
    definition = load_definition(model_dir / "definition.py")
    folder = model_dir / "bundle"
    manifest = _read_manifest(folder)
    _check_fit(manifest, definition)
    files = {name: _read_verified(folder / name, sha) for name, sha in manifest.files.items()}
    imputer = Imputer(definition, _decoded(files, IMPUTATION, dict[str, list[Statistic]]))
    model = SklearnModel(_unpickled(_part(files, MODEL)))
    _check_golden(model, _decoded(files, GOLDEN, list[GoldenRow]))
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
    manifest = _read_manifest(model_dir / "bundle")
    nothing = Imputer(definition, unfitted(definition))
    return Bundle(definition, manifest, AbsentModel(why), nothing)


def content_version(files: Mapping[str, str], found_hash: str) -> str:
    """The model version that belongs to these files (name -> SHA-256) and definition hash."""
    text = json.dumps([sorted(files.items()), found_hash])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256(data: bytes) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(data).hexdigest()


def _read_manifest(folder: Path) -> Manifest:
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
        msg = f"{MANIFEST}: format is {manifest.format}; this version reads {FORMAT}"
        raise BundleError(msg)
    return manifest


def _check_fit(manifest: Manifest, definition: Definition) -> None:
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
    if manifest.serving != SERVING:
        msg = f"{MANIFEST}: serving is {manifest.serving!r}; this version serves {SERVING!r}"
        raise BundleError(msg)
    expected = content_version(manifest.files, manifest.definition_hash)
    if manifest.model_version != expected:
        msg = f"model version: got {manifest.model_version}; the files make it {expected}"
        raise BundleError(msg)
    for name in _PICKLE_BOUND:
        trained, here = manifest.libraries.get(name, "unknown"), version(name)
        if _minor(trained) != _minor(here):
            msg = f"{name}: got {here}; the model was trained with {trained}: train again"
            raise BundleError(msg)


def _minor(full: str) -> list[str]:
    return full.split(".")[:2]


def _read_verified(path: Path, expected: str) -> bytes:
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


def _unpickled(data: bytes) -> Any:
    try:
        return joblib.load(io.BytesIO(data))
    except Exception as error:
        msg = f"{MODEL}: cannot be unpickled ({error!r}); expected an estimator: train again"
        raise BundleError(msg) from error


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
            msg = f"golden row {number}: score is {score!r}; training saw {row.score!r}"
            raise BundleError(msg)
