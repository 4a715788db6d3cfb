"""A compiled model: scores in onnxruntime, without scikit-learn. May import nothing of the project.

One thread and operations that treat every row by itself: a row's score has the same bits alone and
in any batch.
"""

from __future__ import annotations

from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence

# Keys of the model's metadata: numbers of the inputs in which it takes NaN, and infinity.
TAKES_NAN, TAKES_INFINITY = "headrace.takes_nan", "headrace.takes_infinity"

_FATAL_ONLY = 4

Matrix = np.ndarray[Any, np.dtype[np.float64]]


class OnnxModel:
    """Probability of the positive class, or a regressor's prediction, in double precision.

    Args:
        data: What ``headrace.offline.compile`` made.

    Attributes:
        columns: How many inputs it takes.

    Raises:
        ValueError: These bytes are no model that this onnxruntime can run.
    """

    def __init__(self, data: bytes) -> None:
        session = _session(data)
        taken = session.get_modelmeta().custom_metadata_map
        self._run = session.run
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]
        self.columns = int(session.get_inputs()[0].shape[-1])
        self._takes_nan = _mask(taken.get(TAKES_NAN, ""), self.columns)
        self._takes_infinity = _mask(taken.get(TAKES_INFINITY, ""), self.columns)

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """One score per row.

        Args:
            rows: Shape (n, inputs).

        Raises:
            ValueError: A value that the model does not take, as scikit-learn would not.
        """
        if not rows:
            return []
        x = np.array(rows, dtype=np.float64)
        # A sum is not finite where a summand is not, and of one row quicker than numpy's look.
        finite = isfinite(sum(rows[0])) if len(rows) == 1 else np.isfinite(x).all()
        if not finite:
            self._check_taken(x)
        (found,) = self._run(self._outputs, {self._input: x})
        scores: list[float] = found.ravel().tolist()
        if isnan(sum(scores)):
            place = next(n for n, score in enumerate(scores) if isnan(score))
            msg = f"row {place}: the model gives NaN; expected values that it was trained for"
            raise ValueError(msg)
        return scores

    def _check_taken(self, x: Matrix) -> None:
        wrong = (np.isnan(x) & ~self._takes_nan) | (np.isinf(x) & ~self._takes_infinity)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            got = x[row, column]
            msg = f"row {row}: input {column} is {got}, which the model does not take"
            raise ValueError(msg)


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        msg = f"onnxruntime {onnxruntime.__version__} cannot load it ({error})"
        raise ValueError(msg) from error


def _mask(numbers: str, columns: int) -> Any:
    mask = np.zeros(columns, dtype=bool)
    mask[[int(each) for each in numbers.split(",") if each]] = True
    return mask
