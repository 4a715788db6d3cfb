"""A model served by scikit-learn itself: imported only where the manifest says so, and offline."""

from __future__ import annotations

import io
from importlib.metadata import version
from math import isnan
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from headrace.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PICKLE_BOUND = ("scikit-learn",)


class SklearnModel:
    """A scikit-learn classifier or pipeline with ``predict_proba``, or a regressor."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self._is_classifier = hasattr(estimator, "predict_proba")

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Probabilities of the positive class, or predictions; see ``Model.score``.

        Raises:
            ValueError: A value that the model does not take, or that makes it give NaN.
        """
        if not rows:
            return []
        x = np.asarray(rows, dtype=np.float64)
        found = self.estimator.predict_proba(x)[:, 1] if self._is_classifier else (
            self.estimator.predict(x)
        )  # fmt: skip
        scores: list[float] = found.tolist()
        if isnan(sum(scores)):
            place = next(n for n, score in enumerate(scores) if isnan(score))
            msg = f"row {place}: the model gives NaN; expected values that it was trained for"
            raise ValueError(msg)
        return scores


def unpickled(data: bytes, libraries: Mapping[str, str], name: str) -> SklearnModel:
    """The model of a file whose hash has been checked.

    Args:
        data: The file.
        libraries: Distribution -> version that it was pickled with.
        name: Of the file, for messages.

    Raises:
        BundleError: Another scikit-learn is here, or the file is no pickle.
    """
    for library in _PICKLE_BOUND:
        trained, here = libraries.get(library, "unknown"), version(library)
        if _minor(trained) != _minor(here):
            msg = f"{library}: got {here}; the model was trained with {trained}: train again"
            raise BundleError(msg)
    try:
        return SklearnModel(joblib.load(io.BytesIO(data)))
    except Exception as error:
        msg = f"{name}: cannot be unpickled ({error!r}); expected an estimator: train again"
        raise BundleError(msg) from error


def _minor(full: str) -> list[str]:
    return full.split(".")[:2]
