"""Local AWS as a whole: START HERE to see how template.yaml is played on one machine.

with LocalAws.start(Path("template.yaml")) as aws:
    aws.put([(b'{"source": "transactions", ...}', "596")])
    aws.drain()
    aws.api.request("GET", "/scores/17").json()
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from headrace.adapters.clock import SystemClock
from headrace.local import NotEmulated
from headrace.local.deploy import deploy, endpoint_url, local_client
from headrace.local.http import Endpoint
from headrace.local.moto_server import serve_moto
from headrace.local.producer import put_records
from headrace.local.resources import Stack
from headrace.local.runtime import FunctionFailed, play_lambda
from headrace.local.schedule import next_run, scheduled_event
from headrace.local.template import declared_parameters, read_stack
from headrace.local.triggers import Delivery, StreamTrigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from headrace.local.records import Arrival
    from headrace.local.resources import Function, Schedule, StreamMapping

MODEL_DIR = Path("layers", "model")  # beside the template
LOCAL_PARAMETERS = {"StoreBudgetMs": "2000"}
"""What local mode sets otherwise than AWS where nobody says anything else.

The engines of one machine are slower than DynamoDB (moto takes 150 ms for a large read, more while
the machine is busy): with the 50 ms of AWS requests would go down the ladder for no fault at all.
"""
_LONGEST_WAIT_SECONDS = 3600.0  # a machine that slept finds its schedule within the hour
_US_PER_SECOND = 1_000_000
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


class Invoker(Protocol):
    """What runs functions: ``runtime.Runtime`` or ``lambda_runtime.Sandboxes``."""

    def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """Call a function with an event as JSON gives it; its answer likewise.

        Raises:
            FunctionFailed: As Lambda would report it.
        """


class Player(Protocol):
    """What makes an invoker: ``runtime.play_lambda`` or those of ``lambda_runtime``."""

    def __call__(
        self, functions: Mapping[str, Function], endpoint: str, model_dir: Path, logs: TextIO, /
    ) -> AbstractContextManager[Invoker]:
        """An invoker, until the end; arguments as of ``play_lambda``."""


class LocalAws:
    """A stack that runs on this machine; one at a time in a process. Made by ``start``."""

    def __init__(
        self,
        stack: Stack,
        endpoint_url: str,
        runtime: Invoker,
        arrival: Arrival | None = None,
    ) -> None:
        self.stack, self.endpoint_url, self.runtime = stack, endpoint_url, runtime
        self._cleanup = ExitStack()
        self._clock = SystemClock()
        self._clients: dict[str, Any] = {}
        self._triggers = [self._trigger(mapping, arrival) for mapping in stack.mappings]

    @classmethod
    def start(
        cls,
        template: Path,
        *,
        endpoint: str | None = None,
        parameters: Mapping[str, str] | None = None,
        model_dir: Path | None = None,
        arrival: Arrival | None = None,
        logs: TextIO | None = None,
        play: Player = play_lambda,
    ) -> LocalAws:
        """Create what the template describes and be ready to invoke its functions.

        Args:
            template: The SAM template.
            endpoint: URL that plays AWS's services, or ``localstack`` for where localstack-client
                says that it is; None starts moto in this process.
            parameters: Values for the template's parameters, over ``LOCAL_PARAMETERS`` and their
                defaults.
            model_dir: Folder of definition.py and the bundle; layers/model beside the template.
            arrival: Tells functions another arrival time of a record, for replays of history.
            logs: Where the functions write; standard error.
            play: What runs the functions: this process, or Lambda's own runtime.

        Raises:
            NotEmulated: The template asks for something that local mode does not play.
            Unavailable: The endpoint does not answer.
        """
        stack = read_stack(template, _local_parameters(template) | dict(parameters or {}))
        models = model_dir or template.parent / MODEL_DIR
        with ExitStack() as cleanup:
            url = endpoint_url(endpoint) if endpoint else cleanup.enter_context(serve_moto())
            runtime = cleanup.enter_context(
                play(stack.functions, url, models.resolve(), logs or sys.stderr)
            )
            deploy(stack, url)
            aws = cls(stack, url, runtime, arrival)
            aws._cleanup = cleanup.pop_all()
            return aws

    def __enter__(self) -> LocalAws:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop everything and leave the environment as it was."""
        self._cleanup.close()

    def client(self, service: str) -> Any:
        """A boto3 client of one of the stack's services."""
        if service not in self._clients:
            self._clients[service] = local_client(service, self.endpoint_url)
        return self._clients[service]

    def put(self, records: Iterable[tuple[bytes, str]]) -> list[str]:
        """Put (data, partition key) pairs on the stream; their sequence numbers.

        Raises:
            StreamUnavailable: Kinesis did not take all of them.
            TooLarge: A record is larger than Kinesis takes.
        """
        names = {stream.name for stream in self.stack.streams}
        if len(names) != 1:
            msg = f"the template has {len(names)} streams; expected one to put records on"
            raise NotEmulated(msg)
        return put_records(self.client("kinesis"), names.pop(), records, self._clock)

    def drain(self) -> Delivery:
        """Deliver all that is on the stream, without waiting for batches to fill.

        Raises:
            StreamUnavailable: Kinesis did not answer.
            StoreUnavailable: A batch that failed every retry could not be kept.
        """
        total = Delivery()
        for trigger in self._triggers:
            total = total.plus(trigger.drain())
        return total

    def run_schedule(self, as_of: datetime, function: str | None = None) -> Any:
        """Fire a schedule as if it were ``as_of`` (whole seconds); what its function returns.

        Args:
            as_of: When it would have fired.
            function: Logical id of whose schedule it is; the only one by default.

        Raises:
            FunctionFailed: The function raised.
            NotEmulated: There is no such schedule, or more than one.
        """
        found = [each for each in self.stack.schedules if function in {None, each.function}]
        if len(found) != 1:
            whose = function or "the template"
            msg = f"{whose} has {len(found)} schedules; expected one to run"
            raise NotEmulated(msg)
        return self.runtime.invoke(found[0].function, scheduled_event(found[0], as_of))

    @cached_property
    def api(self) -> Endpoint:
        """The REST API; it listens from the first use on."""
        endpoint = Endpoint(self.stack, self.runtime.invoke)
        self._cleanup.callback(endpoint.close)
        return endpoint

    @property
    def delivered(self) -> Delivery:
        """All that the triggers have delivered so far."""
        total = Delivery()
        for trigger in self._triggers:
            total = total.plus(trigger.delivered)
        return total

    def serve(self) -> None:
        """Run the triggers, the schedules and the API in the background until closed."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=trigger.run, args=(stop,), daemon=True)
            for trigger in self._triggers
        ]
        threads += [
            threading.Thread(target=self._run_schedule, args=(schedule, stop), daemon=True)
            for schedule in self.stack.schedules
            if schedule.enabled
        ]
        for thread in threads:
            thread.start()
            self._cleanup.callback(thread.join)
        self._cleanup.callback(stop.set)  # runs first
        _LOG.info("serving %s", self.api.base_url)

    def _run_schedule(self, schedule: Schedule, stop: threading.Event) -> None:
        due = next_run(schedule.expression, self._now())
        while not stop.is_set():
            seconds = (due - self._now()).total_seconds()
            if seconds > 0:
                stop.wait(min(seconds, _LONGEST_WAIT_SECONDS))
                continue
            try:
                self.runtime.invoke(schedule.function, scheduled_event(schedule, due))
            except FunctionFailed as error:
                _LOG.warning("scheduled run of %s failed: %s", f"{due:%Y-%m-%dT%H:%M:%SZ}", error)
            due = next_run(schedule.expression, due)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now() / _US_PER_SECOND, UTC)

    def _trigger(self, mapping: StreamMapping, arrival: Arrival | None) -> StreamTrigger:
        return StreamTrigger(
            mapping,
            partial(self.runtime.invoke, mapping.function),
            kinesis=self.client("kinesis"),
            s3=self.client("s3"),
            clock=self._clock,
            arrival=arrival,
        )


def _local_parameters(template: Path) -> dict[str, str]:
    declared = declared_parameters(template)
    return {name: value for name, value in LOCAL_PARAMETERS.items() if name in declared}
