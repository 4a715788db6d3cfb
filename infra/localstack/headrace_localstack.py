"""LocalStack's Lambda without containers: execution environments are processes with awslambdaric.

A plugin of LocalStack 4.14 (LAMBDA_RUNTIME_EXECUTOR=awslambdaric), found by the entry point in the
dist-info folder beside this file when both are on LocalStack's path, with layers/headrace. Layers
are unpacked too, which LocalStack's own free executor leaves out. What Lambda's image of Python
brings is taken from dist/layers, where `make layers` puts it.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from headrace.local.sandbox import Program, Sandbox
from headrace.local.unpacked import Unpacked

_HOST = "127.0.0.1"
_MACHINE = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_IMAGE = Path(__file__).resolve().parents[2] / "dist" / "layers" / _MACHINE / "image"
# The Python that LocalStack's environment was made from: without LocalStack's own packages.
_PYTHON = str(getattr(sys, "_base_executable", sys.executable))
_PATH = "/usr/local/bin:/usr/bin:/bin"


class SandboxExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]  # LocalStack is not here
    """Finds the executor."""

    name = "awslambdaric"

    def load(self, *_: Any, **__: Any) -> type[SandboxExecutor]:
        """The executor's class."""
        # Imported here: LocalStack's Lambda must be there first.
        from headrace_destinations import accept_buckets

        accept_buckets()
        return SandboxExecutor


class SandboxExecutor(RuntimeExecutor):  # type: ignore[misc]  # LocalStack is not here
    """One execution environment of one version of a function."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._sandbox: Sandbox | None = None
        self._log: list[str] = []

    def start(self, env_vars: dict[str, Any]) -> None:
        """Be ready to run the function; its process starts at the first invocation."""
        settings = self.function_version.config
        files = _unpacked(self.function_version)
        environment = {name: str(value) for name, value in env_vars.items()}
        self._sandbox = Sandbox(
            Program(
                command=(_PYTHON, "-s", "-m", "awslambdaric", settings.handler),
                folder=files.code,
                environment={"PATH": _PATH, **files.placed(environment)},
                arn=self.function_version.qualified_arn,
                timeout_seconds=settings.timeout,
                memory_mb=settings.memory_size,
            ),
            self._log.append,
        )

    def stop(self) -> None:
        """Kill the process."""
        if self._sandbox is not None:
            self._sandbox.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Run one invocation."""
        assert self._sandbox is not None
        self._log.clear()
        request = payload["invoke-id"]
        answer = self._sandbox.invoke(payload["payload"].encode(), request)
        return InvocationResult(request, answer.payload, answer.is_error, self.get_logs())

    def get_logs(self) -> str:
        """What the function wrote since its last invocation began."""
        return "".join(self._log)

    def get_address(self) -> str:
        """Where LocalStack reaches the function: nowhere, it is asked through this object."""
        return _HOST

    def get_endpoint_from_executor(self) -> str:
        """Where the function reaches LocalStack."""
        return _HOST

    def get_runtime_endpoint(self) -> str:
        """Where LocalStack's own runtime would report to; awslambdaric does not."""
        return f"http://{_HOST}:{config.GATEWAY_LISTEN[0].port}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack the code and the layers."""
        function_version.config.code.prepare_for_execution()
        for layer in function_version.config.layers:
            layer.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """LocalStack removes what was unpacked itself."""


def _unpacked(version: FunctionVersion) -> Unpacked:
    layers = (layer.code.get_unzipped_code_location() for layer in version.config.layers)
    return Unpacked(version.config.code.get_unzipped_code_location(), tuple(layers), _IMAGE)
