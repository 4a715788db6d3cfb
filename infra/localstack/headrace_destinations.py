"""Buckets as failure destinations of asynchronous invocations, which LocalStack 4.14 refuses.

AWS takes them, and template.yaml has them. `tests/localstack` notices when LocalStack does too.
Source: AWS Lambda Developer Guide, "Capturing records of Lambda asynchronous invocations": the
object's name begins with ``aws/lambda/async/``, the function's name and the day.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from localstack.aws.connect import connect_to
from localstack.services.lambda_.invocation import event_manager
from localstack.services.lambda_.provider import LambdaProvider

_BUCKET = "arn:aws:s3:::"
_validate = LambdaProvider._validate_destination_config
_send = event_manager.send_event_to_target


def accept_buckets() -> None:
    """Have LocalStack's Lambda take buckets, and write failed invocations into them."""
    LambdaProvider._validate_destination_config = _validate_but_buckets
    event_manager.send_event_to_target = _send_to_buckets_too


def _validate_but_buckets(
    provider: Any, store: Any, function_name: str, destinations: dict[str, Any]
) -> None:
    others = {
        when: each
        for when, each in destinations.items()
        if not each.get("Destination", "").startswith(_BUCKET)
    }
    _validate(provider, store, function_name, others)


def _send_to_buckets_too(target_arn: str, event: dict[str, Any], **options: Any) -> None:
    if not target_arn.startswith(_BUCKET):
        _send(target_arn=target_arn, event=event, **options)
        return
    _, _, _, region, account, _, function, *_ = options["source_arn"].split(":")
    now = datetime.now(UTC)
    key = f"aws/lambda/async/{function}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
    s3 = connect_to(aws_access_key_id=account, region_name=region).s3
    s3.put_object(Bucket=target_arn.removeprefix(_BUCKET), Key=key, Body=json.dumps(event).encode())
