"""What a bundle says of itself. May import certificate."""

from __future__ import annotations

import msgspec

from headrace.certificate import Certificate


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is and what it came from.

    Attributes:
        format: Version of this layout.
        model_version: First 12 hex digits of a hash over the files and the definition.
        definition_hash: Hash of the definition that it was trained with.
        inputs: Names of the model's inputs, in order.
        serving: What scores: ``program``; ``scikit-learn`` where the definition allows it;
            ``onnxruntime`` in bundles from before there were programs.
        estimator: The estimator, as text.
        libraries: Distribution -> version that it was trained with.
        trained_from: First event time of the training rows, ISO 8601 UTC.
        trained_to: Event time up to which they go.
        rows: Number of training rows.
        prior: Positive rate of the training rows: the score when nothing is known.
        metrics: Metrics on the rows that were held out.
        files: File name -> SHA-256.
        certificate: What was compared when it was compiled; None if it never scored.
        not_compiled: Why scikit-learn serves; empty where it does not.
        threshold: Scores at or above it are positive decisions; None where none was chosen.
        intervals: Metric -> ends of its bootstrap interval.
        training: How it was trained, as text: gap, test, search, calibration, rule, seed.
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
    certificate: Certificate | None = None
    not_compiled: str = ""
    threshold: float | None = None
    intervals: dict[str, tuple[float, float]] = {}
    training: dict[str, str] = {}
