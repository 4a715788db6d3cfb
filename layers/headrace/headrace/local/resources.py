"""What local mode plays of a template, as plain values: read by ``template.read_stack``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Function:
    """A Lambda function.

    Attributes:
        logical_id: In the template.
        name: Of the function.
        arn: Its ARN.
        code: Folder with its handler's module.
        handler: Module and attribute, such as ``app.lambda_handler``.
        timeout_seconds: Of an invocation.
        memory_mb: As configured.
        environment: Its variables.
        runtime: Such as ``python3.13``.
        layers: Logical ids, in the template's order.
    """

    logical_id: str
    name: str
    arn: str
    code: Path
    handler: str
    timeout_seconds: int
    memory_mb: int
    environment: Mapping[str, str]
    runtime: str = "python3.13"
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A Kinesis stream."""

    name: str
    shard_count: int
    retention_hours: int


@dataclass(frozen=True, slots=True)
class Table:
    """A DynamoDB table: attribute types and key roles as DynamoDB's API takes them."""

    name: str
    attribute_types: Mapping[str, str]
    key_roles: Mapping[str, str]
    ttl_attribute: str | None


@dataclass(frozen=True, slots=True)
class StreamMapping:
    """A Kinesis event source mapping; None where the template sets no limit (AWS's -1).

    Attributes:
        uuid: Names the mapping.
        function: Logical id.
        function_arn: Its ARN.
        stream_name: What is read.
        starting_position: TRIM_HORIZON, LATEST or AT_TIMESTAMP.
        batch_size: Most records of an invocation.
        window_seconds: Longest wait for a batch to fill.
        bisect: Whether a batch that failed as a whole is delivered again in halves.
        reports_item_failures: Whether the function's answer names failed records.
        max_retries: Of a batch.
        max_record_age_seconds: Older records go to the failure destination.
        failure_destination: ARN of a bucket, queue or topic; None drops what failed for good.
        starting_timestamp: Epoch seconds; AT_TIMESTAMP only.
        parallelization: Batches of one shard at a time, 1 to 10.
        filters: Event patterns as JSON, any of which lets a record through; empty lets all.
    """

    uuid: str
    function: str
    function_arn: str
    stream_name: str
    starting_position: str
    batch_size: int
    window_seconds: float
    bisect: bool
    reports_item_failures: bool
    max_retries: int | None
    max_record_age_seconds: int | None
    failure_destination: str | None
    starting_timestamp: float | None = None
    parallelization: int = 1
    filters: tuple[str, ...] = ()

    @property
    def failure_service(self) -> str | None:
        """What kind of failure destination there is: s3, sqs or sns."""
        return self.failure_destination.split(":")[2] if self.failure_destination else None

    @property
    def failure_bucket(self) -> str | None:
        """Name of the bucket that failed batches go to, if it is a bucket."""
        if self.failure_destination is None or self.failure_service != "s3":
            return None
        return self.failure_destination.removeprefix("arn:aws:s3:::")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduled rule and the function that it invokes."""

    arn: str
    expression: str
    function: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one resource of the REST API.

    Attributes:
        method: Such as POST.
        resource: Its path within the stage, with parameters in braces.
        function: Logical id.
        signed: Whether it wants an IAM signature.
        model: JSON schema that bodies must fit; None where none is looked at.
    """

    method: str
    resource: str
    function: str
    signed: bool
    model: Any = None


@dataclass(frozen=True, slots=True)
class Stack:
    """All that local mode plays of a template. Functions are referred to by logical id.

    ``left_out`` says for each resource that is not played why that is safe.
    """

    functions: Mapping[str, Function]
    streams: tuple[Stream, ...]
    tables: tuple[Table, ...]
    buckets: tuple[str, ...]
    mappings: tuple[StreamMapping, ...]
    schedules: tuple[Schedule, ...]
    stage: str
    routes: tuple[Route, ...]
    left_out: Mapping[str, str]
