"""The deployed stream function under load, all shards at once.

The tables are DynamoDB Local's, stream and buckets moto's in a process of its own: kinesis-mock
takes ever fewer puts the more records it holds. Each shard has a poller of its own that plays the
mapping of template.yaml, so that invocations overlap as on AWS; the function runs under Lambda's
own runtime, in a process for each invocation at a time.
"""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.adapters.clock import SystemClock
from headrace.local.deploy import deploy, local_client
from headrace.local.lambda_runtime import run_lambda
from headrace.local.template import read_stack
from headrace.local.triggers import StreamTrigger
from tests.engines import dynamodb_engine, kinesis_mock
from tests.load.stream_server import moto_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.local.delivery import Invocation
    from headrace.local.resources import Stack, StreamMapping
    from headrace.local.stack import Invoker, Player
    from tests.engines import Engine

ROOT = Path(__file__).resolve().parents[2]
FUNCTION = "ScoreStreamFunction"
_RUNTIME = b"awslambdaric"


class OneShard:
    """A client of Kinesis for which a stream has one shard: what a poller of Lambda looks at."""

    def __init__(self, kinesis: Any, shard: str) -> None:
        self._kinesis, self._shard = kinesis, shard

    def list_shards(self, **asked: Any) -> dict[str, Any]:
        """Of the answer, the one shard."""
        answer = self._kinesis.list_shards(**asked)
        kept = [each for each in answer["Shards"] if each["ShardId"] == self._shard]
        return {**answer, "Shards": kept}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kinesis, name)


class Logs(io.StringIO):
    """What functions write in place of CloudWatch: only counts of their batches are kept.

    Attributes:
        conflicts: Lost races for an entity's state.
        repeated: Records that had been folded or scored before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conflicts = self.repeated = 0
        self._lock = threading.Lock()

    def write(self, line: str) -> int:
        """Take a line."""
        if '"message":"batch"' in line:
            told = json.loads(line)
            with self._lock:
                self.conflicts += told["Conflicts"]
                self.repeated += told["Repeated"]
        return len(line)


class Rig:
    """A stack on its engines. Made by ``rigged``."""

    def __init__(self, stack: Stack, dynamodb: Engine, kinesis: str, s3: str) -> None:
        self.stack, self.dynamodb = stack, dynamodb
        self._kinesis, self._s3 = kinesis, s3
        self.logs = Logs()

    @property
    def stream(self) -> str:
        """Name of the stream."""
        (stream,) = self.stack.streams
        return stream.name

    def table(self, part: str) -> str:
        """Name of a table, such as that with ``StateTable`` in it."""
        (name,) = (each.name for each in self.stack.tables if part in each.name)
        return name

    def client(self, service: str) -> Any:
        """A client of the engine of a service."""
        urls = {"dynamodb": self.dynamodb.url, "kinesis": self._kinesis, "s3": self._s3}
        return local_client(service, urls[service])

    def kept(self) -> int:
        """Objects in the quarantine bucket: refused records and batches that were given up."""
        (bucket,) = self.stack.buckets
        return int(self.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"])

    @contextmanager
    def polled(
        self, observe: Callable[[Invocation], None], play: Player = run_lambda
    ) -> Iterator[None]:
        """Every shard has its poller, until the end; ``observe`` is called from their threads."""
        leads = {"AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb.url}
        function = self.stack.functions[FUNCTION]
        led = {FUNCTION: replace(function, environment={**function.environment, **leads})}
        (mapping,) = self.stack.mappings
        models = ROOT / "layers" / "model"
        with play(led, self._s3, models, self.logs) as runtime, ExitStack() as cleanup:
            stop = threading.Event()
            for listed in self.client("kinesis").list_shards(StreamName=self.stream)["Shards"]:
                trigger = self._trigger(mapping, runtime, listed["ShardId"], observe)
                thread = threading.Thread(target=trigger.run, args=(stop,), daemon=True)
                thread.start()
                cleanup.callback(thread.join)
            cleanup.callback(stop.set)  # runs first
            yield

    def _trigger(
        self,
        mapping: StreamMapping,
        runtime: Invoker,
        shard: str,
        observe: Callable[[Invocation], None],
    ) -> StreamTrigger:
        return StreamTrigger(
            mapping,
            partial(runtime.invoke, FUNCTION),
            kinesis=OneShard(self.client("kinesis"), shard),
            s3=self.client("s3"),
            clock=SystemClock(),
            observe=observe,
        )


@contextmanager
def rigged(shards: int, stream: str = "moto") -> Iterator[Rig]:
    """Engines with what the template describes, empty.

    Args:
        shards: Of the stream.
        stream: What plays it: ``moto`` or ``kinesis-mock``.

    Raises:
        NotHereError: An engine cannot be had on this machine.
    """
    stack = read_stack(ROOT / "template.yaml", {"StreamShards": str(shards)})
    with ExitStack() as engines:
        dynamodb = engines.enter_context(dynamodb_engine())
        s3 = engines.enter_context(moto_beside(ROOT))
        kinesis = engines.enter_context(kinesis_mock()) if stream == "kinesis-mock" else s3
        deploy(replace(stack, streams=(), buckets=()), dynamodb.url)
        deploy(replace(stack, tables=(), buckets=()), kinesis)
        deploy(replace(stack, tables=(), streams=()), s3)
        yield Rig(stack, dynamodb, kinesis, s3)


def kill_functions() -> int:
    """End every process of a function at once, in the middle of whatever it does; how many."""
    killed = 0
    for process in _children():
        with suppress(OSError):  # it has ended meanwhile
            if _RUNTIME in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
                killed += 1
    return killed


def _children() -> list[int]:
    """Processes that this one has started, from any of its threads (Linux)."""
    found = Path("/proc/self/task").glob("*/children")
    return [int(number) for each in found for number in each.read_text("ascii").split()]
