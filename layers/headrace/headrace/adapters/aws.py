"""Clients of AWS with a timeout and bounded retries on every call, and calls in parallel."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import JSONFileLoader, create_loader
from botocore.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AWS_ERRORS = (BotoCoreError, ClientError)
PARALLEL_CALLS = 8
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,  # three attempts end before the request function's 15 seconds do
    retries={"total_max_attempts": 3, "mode": "standard"},
    max_pool_connections=PARALLEL_CALLS,
)

T = TypeVar("T")
R = TypeVar("R")


def client(service: str) -> Any:
    """A client of one AWS service; region, credentials and endpoint come from the environment.

    By botocore itself: boto3 adds nothing to a client but the import of S3 transfers, which is a
    sixth of a cold start.
    """
    return _made(service, _CONFIG)


class LateClient:
    """A client that is made when it is first used: for what most invocations never call.

    Args:
        service: Such as ``kinesis``.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    @cached_property
    def _made(self) -> Any:
        return client(self._service)

    def __getattr__(self, name: str) -> Any:
        """What the client has."""
        return getattr(self._made, name)


def impatient_client(service: str, seconds: float) -> Any:
    """A client that never repeats a request, and gives up on a silent socket after a while.

    Args:
        service: Such as ``dynamodb``.
        seconds: To connect, and again from one received byte to the next.
    """
    config = Config(
        connect_timeout=seconds,
        read_timeout=seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=2 * PARALLEL_CALLS,
        tcp_keepalive=True,
    )
    return _made(service, config)


class _QuickFiles(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """Reads botocore's descriptions of services with msgspec, which makes clients sooner."""

    def load_file(self, file_path: str) -> Any:
        """See botocore: the path is without its ending; None where there is no such file."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            return msgspec.json.decode(plain.read_bytes())
        if packed.is_file():
            return msgspec.json.decode(gzip.decompress(packed.read_bytes()))
        return None


def _made(service: str, config: Config) -> Any:
    session = Session()
    loader = create_loader(session.get_config_variable("data_path"))
    loader.file_loader = _QuickFiles()
    # Else it looks through what botocore ships of 400 services: a quarter of making a client.
    loader.list_available_services = lambda type_name: [service]
    session.register_component("data_loader", loader)
    return session.create_client(service, config=config)


def error_code(error: BotoCoreError | ClientError) -> str:
    """AWS's code of an error, or the exception's name where AWS did not answer."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def in_parallel(call: Callable[[T], R], arguments: Sequence[T]) -> list[R]:
    """Results of a call for each argument, in order; a single one without a thread."""
    if len(arguments) <= 1:
        return [call(argument) for argument in arguments]
    with ThreadPoolExecutor(min(PARALLEL_CALLS, len(arguments))) as pool:
        return list(pool.map(call, arguments))
