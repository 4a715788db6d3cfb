from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from headrace.errors import Misconfigured
from headrace.offline.backfill import Knowledge, backfill
from headrace.offline.backfill_parts import Folder, How, backfill_parts
from headrace.offline.feed import feed_of
from headrace.offline.simulator import Plan, simulate
from layers.model.definition import definition
from tests import strategies as own
from tests.unit.test_backfill import feeds_of, frame_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.strategies import Case


def written(case: Case, folder: Path, cut: int) -> list[Folder]:
    """The case's files, each cut in two."""
    found = []
    sources = (case.definition.scored, case.definition.label.source)
    for source, rows in zip(sources, (case.events, case.labels), strict=True):
        path = folder / source.name
        path.mkdir(exist_ok=True)
        for number, part in enumerate((rows[:cut], rows[cut:])):
            frame_of(part).write_parquet(path / f"{number}.parquet")
        found.append(Folder.of(path, source))
    return found


def read(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


@settings(max_examples=8)
@given(own.cases())
def test_parts_of_any_size_give_what_all_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    for size, kind in ((9, Knowledge.AS_KNOWN), (1_000, Knowledge.AS_HAPPENED)):
        folder = tmp_path_factory.mktemp("parts")
        done = backfill_parts(
            case.definition, written(case, folder, 5), folder / "out", How(kind, size)
        )
        whole = backfill(case.definition, feeds_of(case), kind)

        assert_frame_equal(read(folder / "out"), whole.features, check_exact=True)
        assert done.events == len(whole.features)


def test_simulated_traffic_in_parts_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    traffic = simulate(Plan(customers=60, terminals=80, days=40))
    sources = (definition.scored, definition.label.source)
    for source, frame in zip(sources, (traffic.events, traffic.labels), strict=True):
        (tmp_path / source.name / "day").mkdir(parents=True)
        for number, part in enumerate(frame.iter_slices(1_500)):
            part.write_parquet(tmp_path / source.name / "day" / f"{number}.parquet")
    folders = [Folder.of(tmp_path / source.name, source) for source in sources]
    seen: list[int] = []
    backfill_parts(definition, folders, tmp_path / "out", How(size=700), seen.append)

    assert len(list((tmp_path / "out").iterdir())) > 5
    found = read(tmp_path / "out")
    feeds = [feed_of(traffic.events, sources[0]), feed_of(traffic.labels, sources[1])]
    expected = backfill(definition, feeds).features
    assert_frame_equal(found, expected, check_exact=True)
    assert sum(seen) == 4 * len(traffic.events)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no \.parquet file"):
        Folder.of(tmp_path, definition.scored)
