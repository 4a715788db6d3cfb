"""Batch features: a table that a job computes, looked up by entity; a part of what users write.

May import fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from headrace.fields import Entity, Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Values of an entity that are loaded as a whole, such as every night.

    Attributes:
        name: Unique; first part of the names of its features.
        entity: Whose values these are.
        fields: Column -> its type and bounds: Number or Flag.
        id: Column with the entity's id; ``<entity>_id`` where empty.
        valid_for: A row that was loaded longer ago than this is missing, with cause expired.
    """

    name: str
    entity: Entity
    fields: Mapping[str, Field]
    id: str = ""
    valid_for: timedelta = timedelta(days=2)

    @property
    def id_column(self) -> str:
        """The column with the entity's id."""
        return self.id or f"{self.entity.name}_id"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the table's features: ``<table>_<field>``."""
        return tuple(f"{self.name}_{field}" for field in self.fields)
