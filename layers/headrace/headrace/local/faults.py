"""Faults of AWS on demand, through botocore's own hooks: a test kit for any code that uses boto3.

with inject(Faults(throttle=0.02, lost_response=0.01), seed=7) as injected:
    ...  # clients that are made from here on
print(injected.counts)

Faults strike below botocore's retries, so that these are tested too. No emulator does any of this
by itself. May import botocore only.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, fields
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session
from botocore.session import Session

from headrace.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW_SECONDS = 0.2
_WRITES = frozenset({"PutItem", "BatchWriteItem", "UpdateItem", "PutObject"})
_TOO_FAST = "ProvisionedThroughputExceededException"
_SKEWED = "InvalidSignatureException"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>injected</Message></Error>"


class Crashed(SystemExit):
    """The process ended here: nothing that follows is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often what goes wrong: probabilities from 0 to 1, per request.

    Attributes:
        throttle: AWS refuses the request for its rate.
        skew: DynamoDB refuses the request, since the clock of who signed it is minutes off.
        lost_response: AWS does what is asked, but the answer never comes.
        unprocessed: A part of a batch read or write is left undone, and named in the answer.
        partial_put: Kinesis takes only a part of the records of a PutRecords.
        crash: The process ends, before or after a write was done.
        slow: Whoever sends the request waits for a fifth of a second before.
    """

    throttle: float = 0.0
    skew: float = 0.0
    lost_response: float = 0.0
    unprocessed: float = 0.0
    partial_put: float = 0.0
    crash: float = 0.0
    slow: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Faults from text such as ``throttle=0.02,crash=0.01``.

        Raises:
            Misconfigured: An unknown fault, or no probability.
        """
        known = ", ".join(each.name for each in fields(cls))
        rates: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            try:
                rate = float(value)
            except ValueError:
                rate = -1.0
            if name not in cls.__dataclass_fields__ or not 0 <= rate <= 1:
                msg = f"faults: got {part!r}; expected one of {known}, each with 0 to 1"
                raise Misconfigured(msg)
            rates[name] = rate
        return cls(**rates)


class Injector:
    """Strikes the requests of the clients that it watches.

    Attributes:
        counts: Fault -> how often it struck.
    """

    def __init__(self, faults: Faults, seed: int = 0) -> None:
        self.faults, self.counts = faults, Counter[str]()
        self._random, self._lock = Random(seed), threading.Lock()
        self._http = URLLib3Session(timeout=5)
        self._paused = False

    def watch(self, events: Any) -> None:
        """Strike requests of a client, given its ``meta.events``; once, however often asked."""
        me = f"faults-{id(self)}"
        events.register_first("before-send", self._before_send, f"{me}-send")
        for operation, hold, tell in (
            ("kinesis.PutRecords", self._hold_records, self._tell_records),
            ("dynamodb.BatchWriteItem", self._hold_items, self._tell_items),
        ):
            events.register(f"provide-client-params.{operation}", hold, f"{me}-hold-{operation}")
            events.register(f"after-call.{operation}", tell, f"{me}-tell-{operation}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let everything go well for a while."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _strikes(self, fault: str) -> bool:
        rate: float = getattr(self.faults, fault)
        with self._lock:
            struck = not self._paused and rate > 0 and self._random.random() < rate
            self.counts[fault] += struck
        return struck

    def _before_send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        service, operation = event_name.split(".")[1:]
        if operation in _WRITES and self._strikes("crash"):
            with self._lock:
                done = self._random.random() < 0.5
            if done:
                self._http.send(request)
            raise Crashed(1)
        if self._strikes("slow"):
            time.sleep(SLOW_SECONDS)
        if self._strikes("throttle"):
            return _throttled(request.url, service)
        if service == "dynamodb" and self._strikes("skew"):
            return _refused(request.url, _SKEWED)
        if self._strikes("lost_response"):
            self._http.send(request)
            raise ConnectionClosedError(endpoint_url=request.url)
        return self._without_keys(request) if operation == "BatchGetItem" else None

    def _without_keys(self, request: Any) -> AWSResponse | None:
        """The answer without the items of some keys, which it names as unprocessed."""
        tables = json.loads(request.body)["RequestItems"]
        held = {
            table: [asked["Keys"][at] for at in self._places("unprocessed", len(asked["Keys"]))]
            for table, asked in tables.items()
        }
        if not any(held.values()):
            return None
        answer = self._http.send(request)
        if answer.status_code != HTTPStatus.OK:
            return answer
        told = json.loads(answer.content)
        left = told.setdefault("UnprocessedKeys", {})
        for table, keys in held.items():
            found = told["Responses"].get(table, [])
            told["Responses"][table] = [
                item for item in found if not any(key.items() <= item.items() for key in keys)
            ]
            if keys:
                again = left.setdefault(table, {**tables[table], "Keys": []})
                again["Keys"] += [key for key in keys if key not in again["Keys"]]
        return AWSResponse(request.url, answer.status_code, {}, _Raw(json.dumps(told).encode()))

    def _places(self, fault: str, count: int) -> list[int]:
        """Which of ``count`` parts of a request are held back: half of them, or none."""
        if count < 2 or not self._strikes(fault):
            return []
        with self._lock:
            return sorted(self._random.sample(range(count), count // 2))

    def _hold_records(
        self, params: dict[str, Any], context: dict[str, Any], **_: Any
    ) -> dict[str, Any] | None:
        held = self._places("partial_put", len(params["Records"]))
        context["held"] = held
        return {**params, "Records": _others(params["Records"], held)} if held else None

    def _tell_records(self, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        held = context.pop("held", [])
        if held and "Records" in parsed:
            for at in held:
                parsed["Records"].insert(at, {"ErrorCode": _TOO_FAST})
            parsed["FailedRecordCount"] = parsed.get("FailedRecordCount", 0) + len(held)

    def _hold_items(
        self, params: dict[str, Any], context: dict[str, Any], **_: Any
    ) -> dict[str, Any] | None:
        held, asked = {}, dict(params["RequestItems"])
        for table, puts in params["RequestItems"].items():
            places = self._places("unprocessed", len(puts))
            if places:
                held[table] = [puts[at] for at in places]
                asked[table] = _others(puts, places)
        context["held"] = held
        return {**params, "RequestItems": asked} if held else None

    def _tell_items(self, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        held = context.pop("held", {})
        if not held or "Error" in parsed:
            return
        left = parsed.setdefault("UnprocessedItems", {})
        for table, puts in held.items():
            left.setdefault(table, []).extend(puts)


def _others(parts: list[Any], held: list[int]) -> list[Any]:
    return [part for at, part in enumerate(parts) if at not in held]


def _throttled(url: str, service: str) -> AWSResponse:
    if service == "s3":
        return AWSResponse(url, 503, {}, _Raw(_SLOW_DOWN))
    return _refused(url, _TOO_FAST)


def _refused(url: str, code: str) -> AWSResponse:
    body = json.dumps({"__type": code, "message": "injected"}).encode()
    return AWSResponse(url, 400, {}, _Raw(body))


class _Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        """The body at once."""
        yield self.read()


_SPARED: WeakSet[Any] = WeakSet()


def spared(session: Any) -> Any:
    """A botocore session whose clients ``inject`` lets be: of who plays AWS, not of who uses it."""
    _SPARED.add(session)
    return session


@contextmanager
def inject(faults: Faults, seed: int = 0) -> Iterator[Injector]:
    """Strike all clients that boto3 or botocore make for as long as the context lasts.

    Args:
        faults: What goes wrong, how often.
        seed: The same requests in the same order meet the same faults.
    """
    injector, make = Injector(faults, seed), Session.create_client

    def watched(session: Any, *args: Any, **options: Any) -> Any:
        client = make(session, *args, **options)
        if session not in _SPARED:
            injector.watch(client.meta.events)
        return client

    Session.create_client = watched
    try:
        yield injector
    finally:
        Session.create_client = make
