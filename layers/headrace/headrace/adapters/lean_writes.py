"""PutItem and BatchWriteItem without botocore's layers, for what a batch of events writes.

One conditional PutItem took botocore about a millisecond of CPU, more than the event took in all
else. The same is kept as of lean reads, and the same switch turns it off. Several puts are under
way at a time, on a connection each, without a thread: the one thread that there is hardly waits.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from headrace.adapters.aws import AWS_ERRORS, in_parallel
from headrace.adapters.lean import LeanReads
from headrace.adapters.operation import Value
from headrace.adapters.puts import is_lost, put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from botocore.credentials import Credentials

    from headrace.adapters.items import Item
    from headrace.adapters.lean import LeanCall
    from headrace.adapters.puts import AwsError

AT_ONCE = 64
"""Puts that are under way together, each on a connection of its own: with fewer, a function waits
for most of the time that DynamoDB takes."""

_SILENT = (ReadTimeoutError, ConnectTimeoutError, EndpointConnectionError)
_NO_PATIENCE = 0.001  # seconds: what has come is taken, nothing more is waited for


class _Put(TypedDict):
    Item: dict[str, Value]


class _PutRequest(TypedDict):
    PutRequest: _Put


class _Written(TypedDict):
    UnprocessedItems: NotRequired[dict[str, list[_PutRequest]]]


class LeanClient(LeanReads):
    """A client of DynamoDB that reads, and puts, the short way; all else is botocore's.

    Attributes:
        at_once: Puts that are under way together.
    """

    most_kept = at_once = AT_ONCE

    def __init__(self, client: Any, credentials: Credentials, authorities: str | None) -> None:
        super().__init__(client, credentials, authorities)
        self._put = self._operation("PutItem", msgspec.json.Decoder(dict[str, Any]).decode)
        self._write = self._operation("BatchWriteItem", msgspec.json.Decoder(_Written).decode)

    def batch_write_item(self, **request: Any) -> Item:
        """As botocore's, with ``RequestItems`` that are put, of the types that items here have.

        Hooks that hold items back, and say so, are called as botocore calls them.

        Raises:
            ClientError: DynamoDB refused.
            BotoCoreError: It did not answer in time or as it should.
        """
        meta, event, asked = self._client.meta, "dynamodb.BatchWriteItem", request
        told: Item = {"model": meta.service_model.operation_model("BatchWriteItem"), "context": {}}
        emit = meta.events.emit
        for _, other in emit(f"provide-client-params.{event}", params=request, **told):
            asked = other or asked
        try:
            answer = self._done(self._write, asked)
        except AWS_ERRORS:
            if not self._tries_again:
                raise
            found: Item = self._client.batch_write_item(**request)
            return found
        emit(f"after-call.{event}", parsed=answer, http_response=None, **told)
        return answer

    def put_each(self, requests: Sequence[Item]) -> list[AwsError | None]:
        """PutItem for each, several at a time; what went wrong with each, or None.

        What fails otherwise than by its condition is put by botocore, where that may try again:
        one that was done, and whose answer was lost, then loses against itself.

        Args:
            requests: As of ``put_item``, items of the types that items here have.
        """
        failed: dict[int, AwsError | None] = {**_Puts(self, requests).failures()}
        if self._tries_again:
            again = [number for number, error in failed.items() if not is_lost(error)]
            errors = in_parallel(partial(put, self._client), [requests[n] for n in again])
            failed |= dict(zip(again, errors, strict=True))
        return [failed.get(number) for number in range(len(requests))]

    def begin_put(self, request: Item) -> LeanCall:
        """Send a put, on a new connection where none is kept, without waiting for its answer."""
        return self._begin(self._put, request)


class _Puts:
    """Puts under way: one is begun for each that is done.

    Args:
        client: To send them with.
        requests: As of ``put_item``.
    """

    def __init__(self, client: LeanClient, requests: Sequence[Item]) -> None:
        self._client = client
        self._waiting = deque(enumerate(requests))
        self._begun: deque[tuple[int, Item, LeanCall]] = deque()
        self._failed: dict[int, AwsError] = {}
        self._patience: float = client.meta.config.read_timeout

    def failures(self) -> dict[int, AwsError]:
        """Do them all: number of a request -> what went wrong."""
        while self._waiting or self._begun:
            if self._waiting and len(self._begun) < self._client.at_once:
                self._begin(*self._waiting.popleft())
            else:
                self._finish(*self._begun.popleft())
        return self._failed

    def _begin(self, number: int, request: Item) -> None:
        call = self._client.begin_put(request)
        if call.done():  # it cannot be sent, so that the next ones may not be either
            self._finish(number, request, call)
        else:
            self._begun.append((number, request, call))

    def _finish(self, number: int, request: Item, call: LeanCall) -> None:
        call.proceed(lambda: self._patience)
        if call.is_stale():
            self._waiting.appendleft((number, request))
            return
        try:
            call.result()
        except AWS_ERRORS as error:
            self._failed[number] = error
            if isinstance(error, _SILENT):
                self._give_up(error)

    def _give_up(self, error: AwsError) -> None:
        """Nobody answers: what is begun gets no time any more, and what waits is not begun."""
        self._patience = _NO_PATIENCE
        self._failed.update((number, error) for number, _ in self._waiting)
        self._waiting.clear()
