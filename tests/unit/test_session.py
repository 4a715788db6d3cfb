"""What `headrace up` leaves for other commands, and what these say where it is gone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.errors import Unavailable
from headrace.local.session import Session, read_session, remove_session, write_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def session_at(listener: socket.socket) -> Session:
    return Session(f"http://127.0.0.1:{listener.getsockname()[1]}/live", "http://x", "events")


def test_session_is_read_while_its_endpoint_listens(
    listener: socket.socket, tmp_path: Path
) -> None:
    write_session(tmp_path, session_at(listener))
    assert read_session(tmp_path) == session_at(listener)


def test_session_of_what_was_killed_is_told_from_none(
    listener: socket.socket, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="no local AWS is running; start it with `headrace up`"):
        read_session(tmp_path)
    write_session(tmp_path, session_at(listener))
    listener.close()
    with pytest.raises(Unavailable, match="`headrace up` has ended: nothing listens at http://127"):
        read_session(tmp_path)
    remove_session(tmp_path)
    with pytest.raises(Unavailable, match="no local AWS is running"):
        read_session(tmp_path)


def test_second_local_aws_in_a_project_is_refused(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "template.yaml").touch()
    write_session(tmp_path, session_at(listener))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["up"])

    assert result.exit_code == 1
    assert "local AWS runs already at http://127.0.0.1" in result.stderr
    assert read_session(tmp_path) == session_at(listener)
