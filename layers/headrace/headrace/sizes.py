"""How large an entity's state may get, and what is done to keep it so.

DynamoDB takes items of 400 KB. May import definition only.
"""

from __future__ import annotations

from headrace.definition import (
    Aggregate,
    DistinctCount,
    First,
    Last,
    LastN,
    Mean,
    Std,
    Sum,
    View,
)

MAX_TILES = 2_000
"""Tiles of one hop view."""

MAX_BYTES = 380_000
"""All views of an entity."""

MAX_HEAD = 4_096
"""Single events that a hop view keeps."""

MAX_HOP_BYTES = 250_000
"""Tiles and heads of all hop views of an entity."""

MAX_ROWS_BYTES = 350_000
"""Rows of all exact views of an entity, less where hop views leave less room; a view that would
take more than its share goes on as a hop view."""

OVERFLOW_TILES = 96
"""Tiles that the longest window of such a view has, where their size allows it."""

OVERFLOW_TILES_BYTES = 200_000
"""Tiles of all such views of an entity."""


HEAD_SLACK = 1.25
"""Rows over the head that are moved into tiles together."""


def hop_bytes_of(view: View) -> int:
    """How many bytes a hop view may take in an item."""
    if view.hop is None:
        return 0
    tiles = (view.retention / view.hop + 2) * (9 + sum(map(tile_bytes_of, view.aggregates)))
    return int(tiles + view.head * HEAD_SLACK * row_bytes_of(view))


def row_bytes_of(view: View) -> int:
    """How many bytes a row may take; most take half of that."""
    return 14 + 8 * len({aggregate.field for aggregate in view.aggregates} - {""})


def tile_bytes_of(aggregate: Aggregate) -> int:
    """How many bytes an aggregate takes in a tile, at most."""
    match aggregate:
        case DistinctCount():
            return 9 * 256 + 5
        case Sum() | Mean() | Std():
            return 24
        case First() | Last():
            return 20
        case LastN():
            return 19 * aggregate.n + 3
    return 9
