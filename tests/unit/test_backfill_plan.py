"""How a history in S3 is listed and cut, and what is refused before any work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from headrace.adapters.objects import Objects, Stored, split
from headrace.definition import Number
from headrace.errors import Misconfigured, TooLarge
from headrace.offline.backfill_plan import (
    MOST_BYTES,
    MOST_FILE_BYTES,
    MOST_ITEMS,
    Order,
    Plan,
    partitions_of,
    plan_of,
)
from headrace.tables import Table
from layers.model.definition import customer, definition

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = Order("s3://lake/e", "s3://lake/out", "s3://lake/l")


@dataclass
class Listed(Objects):
    """Objects that are listed only: address -> bytes."""

    sizes: dict[str, int]

    def find(self, folder: str) -> Iterator[Stored]:
        for uri in sorted(self.sizes):
            if uri.startswith(folder):
                yield Stored(uri, self.sizes[uri], "e")


def planned(order: Order = ORDER, more: dict[str, int] | None = None) -> Plan:
    named = {"e/1.parquet": 1, "l/1.parquet": 1} | (more or {})
    return plan_of(definition, Listed({f"s3://lake/{n}": size for n, size in named.items()}), order)


def names(plan: Plan) -> list[str]:
    return [each.uri.removeprefix("s3://lake/") for each in plan.files[definition.scored.name]]


def test_files_are_in_the_order_of_paths_and_others_are_left_out() -> None:
    others = {"e/_tmp/0.parquet": 1, "e/.x.parquet": 1, "e/a.csv": 1, "ee/0.parquet": 1}
    plan = planned(more={"e/a-b/1.parquet": 1, "e/a/2.parquet": 1} | others)
    assert names(plan) == ["e/1.parquet", "e/a/2.parquet", "e/a-b/1.parquet"]
    one = planned(Order("s3://lake/e/1.parquet", "s3://lake/out"), {"e/1.parquet.parquet": 1})
    assert names(one) == ["e/1.parquet"]
    assert definition.label.source.name not in one.files


def test_partitions_go_by_the_largest_source_unless_they_are_given() -> None:
    assert planned().partitions == 1
    assert planned(more={"l/2.parquet": 45_000_000}).partitions == 5
    assert planned(Order("s3://lake/e", "s3://lake/out", partitions=7)).partitions == 7


def test_place_that_has_something_or_history_that_has_nothing_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"out/part-0 is there already"):
        planned(more={"out/part-0": 1})
    assert planned(more={"out/_work/former/x": 1, "out2/x": 1}).partitions == 1
    with pytest.raises(Misconfigured, match=r"s3://lake/none: no \.parquet file"):
        planned(Order("s3://lake/none", "s3://lake/out"))


def test_history_that_no_invocation_could_read_is_refused() -> None:
    with pytest.raises(TooLarge, match="bytes of the history"):
        planned(
            more={
                f"e/{n}.parquet": MOST_FILE_BYTES for n in range(1 + MOST_BYTES // MOST_FILE_BYTES)
            }
        )
    with pytest.raises(TooLarge, match=r"e/1\.parquet: bytes"):
        planned(more={"e/1.parquet": MOST_FILE_BYTES + 1})
    many = planned(Order("s3://lake/e", "s3://lake/out", partitions=MOST_ITEMS))
    with pytest.raises(TooLarge, match="partitions of entities"):
        many.planned("w", ["customer"])


def test_definition_with_tables_is_refused() -> None:
    table = Table(name="profile", entity=customer, fields={"limit": Number()})
    with pytest.raises(Misconfigured, match=r"has tables \(profile\)"):
        plan_of(replace(definition, tables=[table]), Listed({}), ORDER)


def test_partition_of_an_id_is_the_same_everywhere() -> None:
    """By CRC-32 of its text, whose check value is 0xCBF43926: what one takes, no other does."""
    ids = pl.Series(["123456789", None, "123456789"])
    assert partitions_of(ids, 2**16).to_list() == [0x3926, 0, 0x3926]
    assert partitions_of(pl.Series([123456789]), 2**16).to_list() == [0x3926]


@pytest.mark.parametrize("uri", ["lake/x", "s3://", "s3:/lake/x", "/tmp/x"])
def test_what_is_no_address_in_s3_is_refused(uri: str) -> None:
    with pytest.raises(Misconfigured, match="expected an address in S3"):
        split(uri)
