"""Training rows as the model would see them at serving time: through the same imputer.

May import imputation and definition.
"""

from __future__ import annotations

from math import nan
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.definition import INDICATOR, Required
from headrace.imputation import Absent, Cause, Imputer, grouping_fields
from headrace.policies import steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.definition import Definition
    from headrace.offline.feed import Feed

BY = "by "
"""First part of the columns with the groups of events."""


def group_columns(definition: Definition, events: Feed) -> pl.DataFrame:
    """The group of each event in the fields that policies group by.

    Returns:
        The id of the events, and ``by <field>`` as ``imputation.group_key`` has it.
    """
    schema = events.frame.schema
    keys = [
        _group_keys(schema[name], name).alias(BY + name)
        for name in grouping_fields(definition)
        if name in schema
    ]
    return events.frame.select(events.source.id, *keys).unique(events.source.id, keep="first")


def scorable_rows(definition: Definition, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that lack nothing that is required; at serving, a lower rung answers the others."""
    for name in definition.columns:
        policies = steps(definition.policy(name))
        if Required() in policies:
            stand_ins = [definition.feature_for(name, policy) for policy in policies]
            names = [name, *(each for each in stand_ins if each)]
            rows = rows.filter(pl.any_horizontal(pl.col(names).is_not_null()))
    return rows


def imputed_rows(
    definition: Definition,
    rows: pl.DataFrame,
    imputer: Imputer,
    cause: Cause = Cause.NOT_IN_EVENT,
) -> pl.DataFrame:
    """Impute rows as they would be at serving time.

    Args:
        definition: Says the columns.
        rows: As of ``train.training_rows``: absent values are null.
        imputer: With its fitted statistics.
        cause: Why values are absent; ``NO_EVENT`` in rows of the batch run.

    Returns:
        Every column and indicator as float, NaN where the model sees NaN.
    """
    keys = {BY + name: name for name in grouping_fields(definition) if BY + name in rows.columns}
    needed = rows.select(*definition.stored_features, *keys)
    filled = []
    for name in definition.columns:
        is_absent = rows[name].is_null()
        absent = needed.filter(is_absent).iter_rows(named=True)
        found = [imputer.impute(name, _absent(row, keys, cause)).value for row in absent]
        values = rows[name].cast(pl.Float64).to_numpy(writable=True)
        values[is_absent.to_numpy()] = [nan if value is None else value for value in found]
        filled.append(pl.Series(name, values))
    missing = [
        rows[name.removesuffix(INDICATOR)].is_null().cast(pl.Float64).alias(name)
        for name in definition.indicators
    ]
    return pl.DataFrame([*filled, *missing])


def _absent(row: Mapping[str, Any], keys: Mapping[str, str], cause: Cause) -> Absent:
    fields = SimpleNamespace(**{field: row[key] for key, field in keys.items()})
    return Absent(cause, row, fields)


def _group_keys(dtype: pl.DataType, name: str) -> pl.Expr:
    """A column of group keys; numbers and flags are whole ones."""
    column = pl.col(name)
    return (column if dtype == pl.String else column.cast(pl.Int64)).cast(pl.String)
