"""State machines run by moto's Step Functions around functions in this process.

Two things differ from what is deployed and nothing else: ``ItemBatcher``, which moto's parser
refuses, is replaced by a first state of each child that makes a batch of its one item, and waits
between retries are one second at most.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.core.config import default_user_config
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from headrace.local.runtime import FunctionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pytest

ROLE = "arn:aws:iam::123456789012:role/machine"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:played"
_LONGEST_SECONDS = 60


class Lambda:
    """Lambda's Invoke, as much as a task needs.

    Args:
        run: The function.

    Attributes:
        events: What the function was invoked with, in order.
        before: Called with each event first; may raise as the function would.
    """

    def __init__(self, run: Callable[[dict[str, Any]], Any]) -> None:
        self._run = run
        self.events: list[dict[str, Any]] = []
        self.before: Callable[[dict[str, Any]], None] = lambda event: None
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        assert request.path.endswith("/invocations"), request.path
        with self._one_at_a_time:
            response = self._invoke(json.loads(request.get_data()))
        return response(environ, start_response)

    def _invoke(self, event: dict[str, Any]) -> Response:
        self.events.append(event)
        try:
            self.before(event)
            return Response(json.dumps(self._run(event)))
        except FunctionFailed as error:
            told = {"errorType": error.error_type, "errorMessage": str(error)}
            return Response(json.dumps(told), headers={"X-Amz-Function-Error": "Unhandled"})


@contextmanager
def played(
    run: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lambda]:
    """Lambda where moto's Step Functions looks for it: at MOTO_PORT on this machine."""
    function = Lambda(run)
    with served(function) as port:
        monkeypatch.setenv("MOTO_PORT", str(port))
        monkeypatch.setitem(default_user_config["stepfunctions"], "execute_state_machine", True)
        yield function


@contextmanager
def served(application: Any) -> Iterator[int]:
    """The port at which a WSGI application is served."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def playable(text: str, substitution: str) -> str:
    """A definition as moto's parser takes it, with a function for what the template fills in."""
    machine = json.loads(text)
    maps = [state for state in machine["States"].values() if state["Type"] == "Map"]
    tasks = list(machine["States"].values())
    for each in maps:
        assert each.pop("ItemBatcher") == {"MaxItemsPerBatch": 1}
        child = each["ItemProcessor"]
        assert child["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
        first = child["StartAt"]
        wrapped = {"Type": "Pass", "Parameters": {"Items.$": "States.Array($)"}, "Next": first}
        tasks += child["States"].values()
        child["States"] = {"Batch": wrapped, **child["States"]}
        child["StartAt"] = "Batch"
    for retry in (retry for state in tasks for retry in state.get("Retry", ())):
        retry["MaxDelaySeconds"] = 1
    return json.dumps(machine).replace(f"${{{substitution}}}", FUNCTION)


def execute(client: Any, definition: str, order: dict[str, Any], name: str) -> dict[str, Any]:
    """Run a state machine to its end."""
    machine = client.create_state_machine(name=name, definition=definition, roleArn=ROLE)
    arn = machine["stateMachineArn"]
    started = client.start_execution(stateMachineArn=arn, name=name, input=json.dumps(order))
    deadline = time.monotonic() + _LONGEST_SECONDS
    while True:
        found: dict[str, Any] = client.describe_execution(executionArn=started["executionArn"])
        if found["status"] != "RUNNING" or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
