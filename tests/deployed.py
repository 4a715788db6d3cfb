"""A stack that CloudFormation made of template.yaml, and what a test wants of it."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from headrace.local.deploy import ACCESS_KEY, SECRET_KEY, local_client
from headrace.local.http import call
from headrace.local.intrinsics import REGION
from tests.packaged import packaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from headrace.local.proxy import Reply

POLL_SECONDS = 0.02
Found = TypeVar("Found")


@dataclass(frozen=True)
class Deployed:
    """A stack at an endpoint."""

    endpoint: str
    name: str

    _clients: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def client(self, service: str) -> Any:
        """A client of one AWS service."""
        if service not in self._clients:
            self._clients[service] = local_client(service, self.endpoint)
        return self._clients[service]

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        (stack,) = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    @cached_property
    def resources(self) -> dict[str, str]:
        """Physical by logical ids."""
        told = self.client("cloudformation").describe_stack_resources(StackName=self.name)
        return {
            each["LogicalResourceId"]: each["PhysicalResourceId"] for each in told["StackResources"]
        }

    def put(self, *data: bytes, key: str = "596") -> None:
        """Put records on the stream."""
        told = self.client("kinesis").put_records(
            StreamName=self.outputs["StreamName"],
            Records=[{"Data": each, "PartitionKey": key} for each in data],
        )
        assert told["FailedRecordCount"] == 0

    def score(self, item: str) -> dict[str, Any] | None:
        """An item of the score table."""
        told = self.client("dynamodb").get_item(
            TableName=self.outputs["ScoreTableName"], Key={"id": {"S": item}}
        )
        found: dict[str, Any] | None = told.get("Item")
        return found

    def kept(self, prefix: str) -> list[dict[str, Any]]:
        """What the quarantine bucket has under a prefix, decoded."""
        s3, bucket = self.client("s3"), self.outputs["QuarantineBucketName"]
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        bodies = (s3.get_object(Bucket=bucket, Key=each["Key"])["Body"] for each in listed)
        return [json.loads(body.read()) for body in bodies]

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        """Sign and send a request to the REST API."""
        return call(self.api_url, method, path, body)

    def ask_unsigned(self, path: str, **headers: str) -> int:
        """The status that somebody gets who does not sign; ``_`` in a header's name is ``-``."""
        url = urlsplit(self.api_url + path)
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(connection):
            connection.request("GET", url.path, headers=sent)
            return connection.getresponse().status

    @property
    def api_url(self) -> str:
        """Where the stage of the REST API is, at this endpoint."""
        host, _, stage = self.outputs["ScoringUrl"].removeprefix("https://").partition("/")
        return f"{self.endpoint}/_aws/execute-api/{host.partition('.')[0]}/{stage}"


def deploy(
    deployed: Deployed, template: Path, folders: dict[str, Path], parameters: Mapping[str, str]
) -> None:
    """Make the stack; what CloudFormation could not make is told.

    Raises:
        AssertionError: It did not come up.
    """
    s3, bucket = deployed.client("s3"), f"{deployed.name}-code"
    s3.create_bucket(Bucket=bucket)
    body = packaged(template, bucket, folders, s3)
    s3.put_object(Bucket=bucket, Key="template.json", Body=body.encode())
    cloudformation = deployed.client("cloudformation")
    patient = boto3.client(
        "cloudformation",
        endpoint_url=deployed.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(read_timeout=240, retries={"total_max_attempts": 1}),  # it transforms first
    )
    patient.create_stack(
        StackName=deployed.name,
        TemplateURL=f"{deployed.endpoint}/{bucket}/template.json",
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
        ],
    )

    def status() -> str | None:
        (stack,) = cloudformation.describe_stacks(StackName=deployed.name)["Stacks"]
        found = str(stack["StackStatus"])
        return None if found.endswith("_IN_PROGRESS") else found

    found = awaited(status, seconds=300)
    events = cloudformation.describe_stack_events(StackName=deployed.name)["StackEvents"]
    failed = [
        (each["LogicalResourceId"], each.get("ResourceStatusReason"))
        for each in events
        if each["ResourceStatus"].endswith("_FAILED")
    ]
    assert (found, failed) == ("CREATE_COMPLETE", []), f"{found}: {failed}"


def awaited(look: Callable[[], Found | None], seconds: float) -> Found:
    """What is found at last.

    Raises:
        AssertionError: Nothing was, in time.
    """
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end, f"nothing after {seconds:.0f} s"
        time.sleep(POLL_SECONDS)
    return found


def transaction(name: str, customer: int = 596) -> dict[str, Any]:
    """A card transaction of now."""
    return {
        "source": "transactions",
        "transaction_id": name,
        "event_time": datetime.now(UTC).isoformat(),
        "customer_id": customer,
        "terminal_id": 3156,
        "amount": 57.16,
    }
