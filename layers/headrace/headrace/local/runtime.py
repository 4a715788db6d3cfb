"""Lambda's part for the handlers: their environment, their context and JSON in between.

Differences that matter: all functions share this process and its environment, one invocation
runs at a time, and a time-out is told afterwards, since nothing in this process can be stopped
from outside. The only module of the local mode that touches the environment.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import threading
import time
import traceback
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, cast

from headrace.errors import HeadraceError
from headrace.local import NotEmulated
from headrace.local.deploy import ACCESS_KEY, SECRET_KEY
from headrace.local.intrinsics import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from headrace.local.resources import Function

MOST_PAYLOAD_BYTES = 6 * 1024 * 1024  # of a synchronous invocation, each way
_LOG = logging.getLogger("local_aws")  # not below the functions' own logger, "headrace"


class FunctionFailed(HeadraceError):  # noqa: N818 - named for what happened
    """A function raised, could not be loaded, or answered with what is not JSON.

    Attributes:
        error_type: As Lambda reports it, such as ``ValueError`` or ``Runtime.MarshalError``.
    """

    def __init__(self, function: str, error_type: str, message: str) -> None:
        self.error_type = error_type
        super().__init__(f"{function}: {error_type}: {message}")


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler is told of its invocation, as Lambda's own context has it."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    aws_request_id: str
    log_group_name: str
    log_stream_name: str
    deadline: float
    monotonic: Callable[[], float]
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return max(0, int((self.deadline - self.monotonic()) * 1000))


@dataclass
class Runtime:
    """Invokes handlers; to be used inside ``play_lambda``.

    Attributes:
        functions: By logical id.
        monotonic: Seconds, to tell the remaining time by.
        overruns: How many invocations AWS would have ended before they were through.
    """

    functions: Mapping[str, Function]
    monotonic: Callable[[], float] = time.monotonic
    overruns: int = 0
    _handlers: dict[str, Callable[[Any, Context], Any]] = field(default_factory=dict)
    # Handlers keep globals (Powertools' metrics) of which each Lambda process has its own.
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """Call a function with a copy of the event, as JSON gives it; its answer likewise.

        Raises:
            FunctionFailed: As Lambda would report it.
        """
        function = self.functions[logical_id]
        payload = encode_event(function, event)
        with self._one_at_a_time, _function_writes(sys.stdout):
            answer = self._call(function, json.loads(payload))
        return _round_trip(function, answer)

    def _call(self, function: Function, event: Any) -> Any:
        started = self.monotonic()
        try:
            handler = self._handlers.get(function.logical_id) or self._load(function)
            return handler(event, self._context(function, started))
        # Lambda reports whatever a function raises, and a function that exits as well.
        except (Exception, SystemExit) as error:
            traceback.print_exc(file=sys.stdout)  # where a function's logs go
            if isinstance(error, SystemExit):
                self._start_anew()
            raise FunctionFailed(function.name, type(error).__name__, str(error)) from error
        finally:
            self._note_overrun(function, self.monotonic() - started)

    def _start_anew(self) -> None:
        """The next invocation meets a new process."""
        self._handlers.clear()
        _forget_read_once()

    def _load(self, function: Function) -> Callable[[Any, Context], Any]:
        handler = load_handler(function)
        self._handlers[function.logical_id] = handler
        return handler

    def _context(self, function: Function, started: float) -> Context:
        return Context(
            function_name=function.name,
            invoked_function_arn=function.arn,
            memory_limit_in_mb=function.memory_mb,
            aws_request_id=str(uuid.uuid4()),
            log_group_name=f"/aws/lambda/{function.name}",
            log_stream_name="local",
            deadline=started + function.timeout_seconds,
            monotonic=self.monotonic,
        )

    def _note_overrun(self, function: Function, seconds: float) -> None:
        if seconds > function.timeout_seconds:
            self.overruns += 1
            _LOG.warning(
                "%s ran %.1f s; AWS would have ended it after %d s, local mode cannot",
                function.name,
                seconds,
                function.timeout_seconds,
            )


def encode_event(function: Function, event: Mapping[str, Any]) -> bytes:
    """An event as JSON.

    Raises:
        FunctionFailed: It is larger than Lambda takes.
    """
    payload = json.dumps(event).encode()
    if len(payload) > MOST_PAYLOAD_BYTES:
        message = f"event has {len(payload):,} bytes; expected at most {MOST_PAYLOAD_BYTES:,}"
        raise FunctionFailed(function.name, "RequestEntityTooLargeException", message)
    return payload


def _round_trip(function: Function, answer: Any) -> Any:
    try:
        payload = json.dumps(answer)
    except (TypeError, ValueError) as error:
        raise FunctionFailed(function.name, "Runtime.MarshalError", str(error)) from error
    if len(payload.encode()) > MOST_PAYLOAD_BYTES:
        message = f"answer has {len(payload):,} bytes; expected at most {MOST_PAYLOAD_BYTES:,}"
        raise FunctionFailed(function.name, "Function.ResponseSizeTooLarge", message)
    return json.loads(payload)


def load_handler(function: Function) -> Callable[[Any, Context], Any]:
    """Import a function's module anew, under a name of its own, and find the handler in it."""
    path, attribute = _handler_place(function)
    spec = importlib.util.spec_from_file_location(f"{function.logical_id}_{path.stem}", path)
    if spec is None or spec.loader is None:
        msg = f"function {function.logical_id}: {path} cannot be imported"
        raise NotEmulated(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Callable[[Any, Context], Any] = getattr(module, attribute)
    return handler


def _handler_place(function: Function) -> tuple[Path, str]:
    module, _, attribute = function.handler.rpartition(".")
    path = function.code / f"{module}.py"
    if not path.is_file():
        msg = f"function {function.logical_id}: its handler is {function.handler}; expected {path}"
        raise NotEmulated(msg)
    return path, attribute


@contextmanager
def play_lambda(
    functions: Mapping[str, Function], endpoint: str, model_dir: Path, logs: TextIO
) -> Iterator[Runtime]:
    """Give this process the environment that the template gives its functions, until the end.

    Args:
        functions: By logical id.
        endpoint: URL that all AWS clients of the functions go to.
        model_dir: Folder of definition.py and the bundle, in place of /opt/model.
        logs: Where the functions' standard output goes, in place of CloudWatch.

    Raises:
        NotEmulated: A handler's file is missing, or two functions want different values of one
            variable.
    """
    for function in functions.values():
        _handler_place(function)
    wanted = function_environment(functions) | lambda_variables(endpoint)
    wanted["HEADRACE_MODEL_DIR"] = str(model_dir)
    with _environment(wanted), _stdout_by_thread(logs):
        _forget_read_once()
        try:
            yield Runtime(functions)
        finally:
            _forget_read_once()


def function_environment(functions: Mapping[str, Function]) -> dict[str, str]:
    """The variables of all functions together.

    Raises:
        NotEmulated: Two functions want different values of one variable.
    """
    together: dict[str, str] = {}
    for function in functions.values():
        for name, value in function.environment.items():
            if together.setdefault(name, value) != value:
                msg = (
                    f"function {function.logical_id}: {name} is {value!r} and another function "
                    f"has {together[name]!r}; local mode runs all in one process and needs one"
                )
                raise NotEmulated(msg)
    return together


def lambda_variables(endpoint: str) -> dict[str, str]:
    """Variables that lead a function's AWS clients to an endpoint."""
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
    }
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        variables |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return variables


def _leads_elsewhere(name: str) -> bool:
    """Whether a variable would send a client somewhere else than AWS_ENDPOINT_URL."""
    return name.startswith("AWS_ENDPOINT_URL_") or name == "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in filter(_leads_elsewhere, before):
        del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        touched = wanted.keys() | set(filter(_leads_elsewhere, before))
        for name in touched:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def _forget_read_once() -> None:
    """A new Lambda process has read no environment; what is not imported has not either."""
    for name in ("headrace.bootstrap", "headrace.table_bootstrap"):
        if name in sys.modules:
            sys.modules[name].forget()


class _ByThread:
    """Standard output that goes to the logs in a thread while it runs a function."""

    def __init__(self, usual: TextIO, logs: TextIO) -> None:
        self._usual, self._logs = usual, logs
        self.local = threading.local()

    def _target(self) -> TextIO:
        return self._logs if getattr(self.local, "in_function", False) else self._usual

    def write(self, text: str) -> int:
        return self._target().write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target(), name)


@contextmanager
def _stdout_by_thread(logs: TextIO) -> Iterator[None]:
    usual = sys.stdout
    sys.stdout = cast("TextIO", _ByThread(usual, logs))
    try:
        yield
    finally:
        sys.stdout = usual


@contextmanager
def _function_writes(stdout: Any) -> Iterator[None]:
    if not isinstance(stdout, _ByThread):
        yield
        return
    stdout.local.in_function = True
    try:
        yield
    finally:
        stdout.local.in_function = False
