"""Which table of the definition a file is loaded into."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer

from headrace.cli.load_batch import table_of
from headrace.definition import Number, Table
from tests.fakes import card, make_definition

profile = Table(name="profile", entity=card, fields={"limit": Number()})


def test_only_table_need_not_be_named() -> None:
    assert table_of(make_definition(tables=[profile]), None) is profile


@pytest.mark.parametrize(
    ("tables", "name", "message"),
    [
        ([], None, "the definition has no table; declare one with Table(...)"),
        ([], "profile", "the definition has no table; declare one"),
        ([profile], "prophile", "--table: got 'prophile'; expected one of profile"),
        ([profile, replace(profile, name="risk")], None,
         "--table: got nothing; expected one of profile, risk"),
    ],
)  # fmt: skip
def test_table_that_is_not_there_is_told_with_those_that_are(
    tables: list[Table], name: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        table_of(make_definition(tables=tables), name)
    assert message in " ".join(capsys.readouterr().err.split())
