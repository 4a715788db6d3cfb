"""What compiling proved of a model against its original. Imports nothing of the project."""

from __future__ import annotations

import msgspec


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of scores, row by row.

    Attributes:
        tolerance: Largest difference allowed; of a prediction above 1, relative to it.
        rows: Kind of rows -> how many were compared.
        refused: Rows that the original refuses, and the compiled model as well; not compared.
        largest_difference: Of all rows, as the tolerance counts it; 0 is bit for bit.
        worst: Kind of the row with the largest difference; empty where there is none.
        rows_over: Rows above the tolerance.
        flips: Decision threshold -> rows that fall on its other side.
        rows_apart: Rows whose score alone differs in any bit from that within a batch.
        takes_nan: Inputs in which the model takes NaN.
    """

    tolerance: float
    rows: dict[str, int]
    refused: int
    largest_difference: float
    worst: str
    rows_over: int
    flips: dict[str, int]
    rows_apart: int
    takes_nan: list[str]
