"""Moto over HTTP in this process, one request at a time."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.moto_api._internal.models import moto_api_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Moto keeps its state per process, so one lock serves however many servers there are.
_MOTO = threading.Lock()


@contextmanager
def serve_moto(
    port: int = 0,
    around: Callable[[Any], Any] = lambda inner: inner,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """Serve an empty moto on this machine for as long as the context lasts.

    Args:
        port: Where to listen; 0 takes a free one.
        around: Given the WSGI application, what is served in its place, such as one that listens.
        host: The address to listen at; another one for who is in a container.

    Yields:
        The endpoint's URL, for boto3's ``endpoint_url``.
    """
    with _MOTO:
        moto_api_backend.reset()
    application = around(_one_at_a_time(_application()))
    server = make_server(host, port, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="moto", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _application() -> Any:
    logging.getLogger("moto").setLevel(logging.WARNING)
    return DomainDispatcherApplication(create_backend_app)


def _one_at_a_time(application: Any) -> Callable[..., Iterable[bytes]]:
    """Moto loses acknowledged writes when threads share it; under a lock every race is exact."""

    def locked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # The request's body is read before the lock is taken: a client that stalls while sending
        # must not hold up everyone else.
        with _MOTO:
            answer = application(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()

    return locked


class _Quiet(WSGIRequestHandler):
    """Answers without a line on standard error for each request, and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""
