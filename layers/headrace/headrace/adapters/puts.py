"""PutItem, one or several at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.adapters.aws import AWS_ERRORS, error_code, in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from botocore.exceptions import BotoCoreError, ClientError

    from headrace.adapters.items import Item

    AwsError: TypeAlias = BotoCoreError | ClientError


def put(client: Any, request: Item) -> AwsError | None:
    """Put an item; what went wrong, or None.

    Args:
        client: Of DynamoDB.
        request: As of its ``put_item``.
    """
    try:
        client.put_item(**request)
    except AWS_ERRORS as error:
        failed: AwsError = error
        return failed
    return None


def put_each(client: Any, requests: Sequence[Item]) -> list[AwsError | None]:
    """Put items, several at a time; what went wrong with each, or None."""
    at_once = getattr(client, "put_each", None)
    if at_once is not None:
        found: list[AwsError | None] = at_once(requests)
        return found
    return in_parallel(partial(put, client), requests)


def is_lost(error: AwsError) -> bool:
    """Whether a put was refused by its condition."""
    return error_code(error) == "ConditionalCheckFailedException"
