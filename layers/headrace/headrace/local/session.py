"""What `headrace up` leaves for the other commands: where its stream and endpoint are."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from headrace.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

FILE = ".headrace-up.json"
_PATIENCE_SECONDS = 2.0


class Session(msgspec.Struct, frozen=True):
    """A running local AWS.

    Attributes:
        api_url: Base of the REST API, with its stage.
        endpoint_url: Where AWS's services are played.
        stream: Name of the event stream.
    """

    api_url: str
    endpoint_url: str
    stream: str


def write_session(project: Path, session: Session) -> None:
    """Leave the session in the project's folder."""
    (project / FILE).write_bytes(msgspec.json.encode(session))


def remove_session(project: Path) -> None:
    """Take it away again."""
    (project / FILE).unlink(missing_ok=True)


def read_session(project: Path) -> Session:
    """The session of the `headrace up` that runs in this project.

    Raises:
        Unavailable: None runs, or it ended without taking its session away.
    """
    try:
        session = msgspec.json.decode((project / FILE).read_bytes(), type=Session)
    except (OSError, msgspec.DecodeError) as error:
        msg = "no local AWS is running; start it with `headrace up` in another terminal"
        raise Unavailable(msg) from error
    url = session.api_url or session.endpoint_url
    if not _listens(url):
        msg = f"`headrace up` has ended: nothing listens at {url}; start it again"
        raise Unavailable(msg)
    return session


def _listens(url: str) -> bool:
    where = urlsplit(url)
    port = where.port or (443 if where.scheme == "https" else 80)
    try:
        with socket.create_connection((where.hostname or "", port), _PATIENCE_SECONDS):
            return True
    except OSError:
        return False
