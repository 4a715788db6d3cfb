"""BatchGetItem without botocore's layers: the read that every score waits for.

botocore takes several times the CPU of all else that a request does: HTTP stack, user agent, event
hooks, a parser for every protocol. Kept of it are credentials with their refresh, region and
endpoint, the hook ``before-send``, errors, and retries: what does not succeed at once goes to the
client itself where that may try again. Not used behind a proxy, nor where
``HEADRACE_LEAN_READS`` is ``off``.
"""

from __future__ import annotations

import ssl
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from botocore.httpsession import where
from botocore.session import get_session
from botocore.utils import get_environ_proxies

from headrace.adapters.operation import Operation, UnreadableAnswerError, Value
from headrace.adapters.signing import Signer
from headrace.adapters.wire import (
    Answer,
    ClosedError,
    Connection,
    Place,
    StaleConnectionError,
    WireError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials

    from headrace.adapters.items import Item

_JSON = "application/x-amz-json-1.0"
_PORTS = {"http": 80, "https": 443}
_FAILURES = (BotoCoreError, ClientError, OSError)


class _Found(TypedDict):
    Responses: dict[str, list[dict[str, Value]]]
    UnprocessedKeys: NotRequired[dict[str, Any]]


class LeanReads:
    """A client of DynamoDB whose ``batch_get_item`` takes the short way; all else is botocore's.

    Args:
        client: Of DynamoDB, made by boto3.
        credentials: That its requests are signed with.
        authorities: PEM file of certificate authorities; the system's where None.
    """

    most_kept = 8

    def __init__(self, client: Any, credentials: Credentials, authorities: str | None) -> None:
        self._client, self._config = client, client.meta.config
        self._url = client.meta.endpoint_url
        parts = urlsplit(self._url)
        tls = ssl.create_default_context(cafile=authorities) if parts.scheme == "https" else None
        host = parts.hostname or ""
        self._place = Place(host, parts.port or _PORTS[parts.scheme], tls)
        self._host, self._credentials = parts.netloc.rpartition("@")[2], credentials
        self._read = self._operation("BatchGetItem", msgspec.json.Decoder(_Found).decode)
        self._kept: deque[Connection] = deque()
        self._tries_again = (self._config.retries or {}).get("total_max_attempts") != 1

    def __getattr__(self, name: str) -> Any:
        """Every other operation."""
        return getattr(self._client, name)

    def batch_get_item(self, **request: Any) -> Item:
        """As botocore's, with ``RequestItems`` whose keys are text and numbers.

        Raises:
            ClientError: DynamoDB refused.
            BotoCoreError: It did not answer in time or as it should.
        """
        try:
            return self._done(self._read, request)
        except (BotoCoreError, ClientError):
            if not self._tries_again:
                raise
        found: Item = self._client.batch_get_item(**request)
        return found

    def begin_batch_get_item(self, **request: Any) -> LeanCall | None:
        """Send the request on a kept connection, without waiting; None where there is none."""
        if not self._kept:
            return None
        return self._begin(self._read, request)

    def _operation(self, name: str, decode: Callable[[bytes], Any]) -> Operation:
        headers = {
            "host": self._host,
            "content-type": _JSON,
            "x-amz-target": f"DynamoDB_20120810.{name}",
        }
        region = self._client.meta.region_name
        return Operation(name, Signer(self._credentials, "dynamodb", region, headers), decode)

    def _done(self, operation: Operation, request: Item) -> Item:
        """The answer, by a new connection where those that were kept have gone stale."""
        seconds = self._config.read_timeout
        while True:
            call = self._begin(operation, request)
            call.proceed(lambda: seconds)
            if not call.is_stale():
                return call.result()

    def _begin(self, operation: Operation, request: Item) -> LeanCall:
        """Send a request, on a new connection where none is kept."""
        send = partial(self._sent, operation, msgspec.json.encode(request))
        return LeanCall(self._url, send, self._keep, operation.parse)

    def _sent(self, operation: Operation, body: bytes) -> Connection | Answer:
        """The connection that a request went out on, or what a hook answers in its place."""
        headers = operation.signer.signed(body)
        request = AWSPreparedRequest("POST", self._url, headers, body, stream_output=False)
        for _, answered in self._client.meta.events.emit(operation.hook, request=request):
            if answered is not None:
                headers = {name.lower(): value for name, value in answered.headers.items()}
                return Answer(answered.status_code, headers, answered.content)
        head = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        length = len(request.body)
        start = f"POST / HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n"
        found = self._take()
        try:
            found.send(start.encode("latin-1") + request.body, self._config.read_timeout)
        except OSError:
            found.close()
            raise
        return found

    def _take(self) -> Connection:
        try:
            return self._kept.pop()
        except IndexError:
            return Connection(self._place, self._config.connect_timeout)

    def _keep(self, connection: Connection) -> None:
        if len(self._kept) < self.most_kept:
            self._kept.append(connection)
        else:
            connection.close()


class LeanCall:
    """A request that was sent: its answer is read by whoever waits for it, without a thread.

    Args:
        url: Of the endpoint, for errors.
        send: Gives the connection that the request went out on, or the answer at once.
        keep: Takes the connection when the answer is read.
        parse: Makes what is asked for of the answer, or raises what it says went wrong.
    """

    def __init__(
        self,
        url: str,
        send: Callable[[], Connection | Answer],
        keep: Callable[[Connection], None],
        parse: Callable[[Answer], Item],
    ) -> None:
        self._url, self._keep, self._parse = url, keep, parse
        self._connection: Connection | None = None
        self._found: Item | None = None
        self._error: BotoCoreError | ClientError | None = None
        self._stale = False
        try:
            sent = send()
            if isinstance(sent, Answer):
                self._found = self._parse(sent)
            else:
                self._connection = sent
        except _FAILURES as error:
            self._note(error)

    def done(self) -> bool:
        """Whether there is an answer or an error."""
        return self._found is not None or self._error is not None

    def exception(self) -> BotoCoreError | ClientError | None:
        """What went wrong, so far."""
        return self._error

    def result(self) -> Item:
        """The answer.

        Raises:
            ClientError: DynamoDB refused.
            BotoCoreError: It did not answer in time or as it should.
        """
        if self._error is not None:
            raise self._error
        if self._found is None:
            self.abandon()
            raise ReadTimeoutError(endpoint_url=self._url)
        return self._found

    def proceed(self, left: Callable[[], float]) -> None:
        """Read on until the answer is there, or no time is left for the next bytes of it.

        Args:
            left: Seconds.
        """
        if self._connection is None:  # done, or given up
            return
        try:
            answer = self._connection.receive(left)
            if answer is not None:
                self._release(self._connection)
                self._found = self._parse(answer)
        except _FAILURES as error:
            self._note(error)

    def is_stale(self) -> bool:
        """Whether the connection had been closed before the request: another one may do."""
        return self._stale

    def abandon(self) -> None:
        """Give up the answer and its connection; for one that is done, nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _release(self, connection: Connection) -> None:
        self._connection = None
        if connection.reusable:
            self._keep(connection)
        else:
            connection.close()

    def _note(self, error: BotoCoreError | ClientError | OSError) -> None:
        """Note what failed, in botocore's terms, and give up the connection."""
        self._stale = isinstance(error, StaleConnectionError)
        self._error = _in_botocore_s_terms(error, self._url)
        self.abandon()


def lean(client: Any, kind: type[LeanReads] = LeanReads) -> Any:
    """The client of DynamoDB with the short way, or as it is where that would not do."""
    signer = getattr(client, "_request_signer", None)  # the only one who knows whose client it is
    credentials = getattr(signer, "_credentials", None)
    url = client.meta.endpoint_url
    if credentials is None or urlsplit(url).path not in ("", "/") or get_environ_proxies(url):
        return client
    return kind(client, credentials, _authorities(client))


def _authorities(client: Any) -> str:
    """The PEM file that the client trusts."""
    try:
        told = client._endpoint.http_session._verify
    except AttributeError:  # another botocore: a session of our own knows it too, but takes time
        told = get_session().get_config_variable("ca_bundle")
    return told if isinstance(told, str) else str(where())


def _in_botocore_s_terms(
    error: BotoCoreError | ClientError | OSError, url: str
) -> BotoCoreError | ClientError:
    if isinstance(error, (BotoCoreError, ClientError)):
        return error
    if isinstance(error, TimeoutError):
        return ConnectTimeoutError(endpoint_url=url, error=error)
    if isinstance(error, ClosedError):
        return ConnectionClosedError(endpoint_url=url, error=error)
    if isinstance(error, WireError):
        return UnreadableAnswerError(error=error)
    return EndpointConnectionError(endpoint_url=url, error=error)
