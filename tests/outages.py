"""DynamoDB going wrong in front of the real endpoint: what scoring requests meet, one by one.

A front between the functions and an engine passes requests on, or throttles, delays, swallows or
cuts them, for one table or for all. The test of the ladder and its benchmark play the same outages.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace import bootstrap
from headrace.events import us_to_text
from headrace.local.deploy import local_client
from headrace.local.stack import LocalAws
from headrace.scores import BatchScore
from tests.aws import empty_table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ENDPOINT = "AWS_ENDPOINT_URL_DYNAMODB"
_HELD_SECONDS = 60.0
_THROTTLED = json.dumps({"__type": "ProvisionedThroughputExceededException"}).encode()


class Fault(Enum):
    """What becomes of a request."""

    NONE = "passed on"
    THROTTLED = "throttled"
    SLOW = "slow"
    SILENT = "never answered"
    CUT = "connection cut"


class Front:
    """Stands before an engine; ``fault`` strikes requests that name a table, "" any."""

    def __init__(self, engine: str) -> None:
        self.fault, self.table, self.slow_seconds = Fault.NONE, "", 0.0
        self.engine = urlsplit(engine).netloc
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.front = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Let go of what is held, and stop."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def release(self) -> None:
        """Let go of all requests that are held."""
        self._released.set()
        self._released = threading.Event()

    def hold(self, seconds: float) -> None:
        """Keep a request waiting."""
        self._released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    front: Front

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    _engine: http.client.HTTPConnection | None = None

    def do_POST(self) -> None:
        front = self.server.front
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = front.fault if front.table.encode() in body else Fault.NONE
        if fault is Fault.THROTTLED:
            self._answer(400, _THROTTLED)
            return
        if fault in (Fault.SILENT, Fault.CUT):
            if fault is Fault.SILENT:
                front.hold(_HELD_SECONDS)
            self.close_connection = True
            return
        if fault is Fault.SLOW:
            front.hold(front.slow_seconds)
        self._pass_on(front, body)

    def _pass_on(self, front: Front, body: bytes) -> None:
        self._engine = self._engine or http.client.HTTPConnection(front.engine, timeout=30)
        self._engine.request("POST", "/", body, dict(self.headers))
        answer = self._engine.getresponse()
        self._answer(answer.status, answer.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What goes wrong, and what an answer must say then.

    Attributes:
        name: For people.
        rung: Where the score must come from.
        reason: Why; None for real time.
        fault: What becomes of DynamoDB requests.
        table: Part of the name of the table that it strikes; "" strikes all.
        customer: Who is asked about; see ``Scene``.
        refused: Nobody listens where DynamoDB should be.
        modelless: The bundle's model is missing.
        opened: The circuit is open already.
    """

    name: str
    rung: str
    reason: str | None
    fault: Fault = Fault.NONE
    table: str = "StateTable"
    customer: str = "known"
    refused: bool = False
    modelless: bool = False
    opened: bool = False


OUTAGES = (
    Outage("nothing", "real_time", None),
    Outage("states throttled", "last", "store_unavailable", Fault.THROTTLED),
    Outage("states slower than the budget", "last", "store_slow", Fault.SLOW),
    Outage("states accepted and never answered", "last", "store_slow", Fault.SILENT),
    Outage("states: connection cut", "last", "store_unavailable", Fault.CUT),
    Outage("circuit open", "last", "circuit_open", Fault.SILENT, opened=True),
    Outage("state unreadable", "last", "state_unreadable", customer="unreadable"),
    Outage("model missing", "last", "model_not_loadable", modelless=True),
    Outage("states silent, batch score", "batch", "store_slow", Fault.SILENT, customer="batch"),
    Outage("states silent, cold entity", "prior", "store_slow", Fault.SILENT, customer="cold"),
    Outage("both tables throttled", "prior", "store_unavailable", Fault.THROTTLED, ""),
    Outage("both tables never answer", "prior", "store_slow", Fault.SILENT, ""),
    Outage("connection refused", "prior", "store_unavailable", refused=True),
)  # fmt: skip


class Scene:
    """The stack on this machine with its front, and customers of whom each knows something else.

    ``known`` was scored, ``unreadable`` too but its state was altered, ``batch`` has a batch score
    only, and nothing is stored of ``cold``.
    """

    def __init__(self, aws: LocalAws, front: Front, engine: str, scratch: Path) -> None:
        self.aws, self.front = aws, front
        self._dynamodb = local_client("dynamodb", engine)
        self._tables = {table.name.rpartition("-")[2]: table.name for table in aws.stack.tables}
        self._scratch = scratch
        self._number = 0

    def prepare(self) -> None:
        """Make what is stored of the customers."""
        events = [self.event(customer) for customer in ("known", "unreadable")]
        self.aws.put([(json.dumps(e).encode(), str(e["customer_id"])) for e in events])
        assert self.aws.drain().records == len(events)
        self._dynamodb.update_item(
            TableName=self._tables["StateTable"],
            Key={"entity": {"S": "customer#unreadable"}},
            UpdateExpression="SET #s = :s",
            ExpressionAttributeNames={"#s": "state"},
            ExpressionAttributeValues={":s": {"B": b"not a state"}},
        )
        now = int(datetime.now(UTC).timestamp())
        score = BatchScore(
            entity="customer", entity_id="batch", as_of=us_to_text(now * 1_000_000), score=0.25,
            model_version="batch", definition_hash="", features={}, imputed={}, age=None,
            expires=now + 86_400,
        )  # fmt: skip
        bootstrap.score_store().put_batch([score])

    def event(self, customer: str) -> dict[str, Any]:
        """An event of now, each with an id of its own."""
        self._number += 1
        return {
            "source": "transactions",
            "transaction_id": f"t{self._number}",
            "event_time": datetime.now(UTC).isoformat(),
            "customer_id": customer,
            "terminal_id": "terminal",
            "amount": 57.16,
        }

    @contextmanager
    def during(self, outage: Outage) -> Iterator[None]:
        """Let the outage begin, after the function has started, and end."""
        wanted = {ENDPOINT: _nowhere() if outage.refused else self.front.url}
        if outage.modelless:
            wanted["HEADRACE_MODEL_DIR"] = str(self._without_model())
        with environment(wanted):
            if outage.modelless:
                bootstrap.forget()
            self._start_requests(outage)
            self.front.fault, self.front.table = outage.fault, outage.table
            self.front.slow_seconds = 10 * bootstrap.lookups().budget_seconds
            try:
                yield
            finally:
                self.front.fault = Fault.NONE
                self.front.release()
        if outage.modelless:
            bootstrap.forget()

    def _start_requests(self, outage: Outage) -> None:
        """A function as after a cold start: circuit closed, connections open."""
        bootstrap.lookups.cache_clear()
        bootstrap.request_scorer.cache_clear()
        bootstrap.request_scorer()
        circuit = bootstrap.lookups().circuit
        while outage.opened and not circuit.is_open:
            circuit.failed(bootstrap.lookups().watch.seconds())

    def _without_model(self) -> Path:
        folder = self._scratch / "model"
        if not folder.exists():
            shutil.copytree(ROOT / "layers" / "model", folder)
            (folder / "bundle" / "model.program").unlink()
        return folder


@contextmanager
def scene(budget_ms: int, dynamodb: str | None = None) -> Iterator[Scene]:
    """Local AWS with a front before DynamoDB.

    Args:
        budget_ms: What a request has for its reads.
        dynamodb: URL of an engine that plays DynamoDB alone; moto plays it where None.
    """
    parameters = {"StoreBudgetMs": str(budget_ms), "LogLevel": "ERROR"}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        logs = io.StringIO()
        aws = stack.enter_context(
            LocalAws.start(ROOT / "template.yaml", parameters=parameters, logs=logs)
        )
        engine = dynamodb or aws.endpoint_url
        if dynamodb is not None:
            client = local_client("dynamodb", dynamodb)
            for table in aws.stack.tables:
                (key,) = table.key_roles
                empty_table(client, table.name, key)
        front = Front(engine)
        stack.callback(front.close)
        stack.enter_context(environment({ENDPOINT: front.url}))
        bootstrap.forget()
        found = Scene(aws, front, engine, scratch)
        found.prepare()
        yield found


@contextmanager
def environment(wanted: dict[str, str]) -> Iterator[None]:
    """These variables, until the end."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _nowhere() -> str:
    """URL of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
