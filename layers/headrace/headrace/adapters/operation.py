"""What one operation of DynamoDB's is asked and answers with, in its JSON protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from zlib import crc32

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.adapters.items import Item
    from headrace.adapters.signing import Signer
    from headrace.adapters.wire import Answer

_OK = 200


class Value(TypedDict, total=False):
    """An attribute's value, of the types that items here have."""

    S: str
    N: str
    B: bytes
    BOOL: bool


class UnreadableAnswerError(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """What came is not what DynamoDB answers."""

    fmt = "{error}"


class Operation(NamedTuple):
    """One of DynamoDB's operations, made ready.

    Attributes:
        name: Such as ``PutItem``.
        signer: Of its requests.
        decode: Makes the answer of its body; what it does not take is no answer.
    """

    name: str
    signer: Signer
    decode: Callable[[bytes], Any]

    @property
    def hook(self) -> str:
        """The event that its requests are shown to, and may be answered by, before they go out."""
        return f"before-send.dynamodb.{self.name}"

    def parse(self, answer: Answer) -> Item:
        """What an answer says.

        Raises:
            ClientError: DynamoDB refused.
            UnreadableAnswerError: It is not what DynamoDB answers.
        """
        checksum = answer.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(crc32(answer.body)):
            msg = f"checksum of the answer: got {crc32(answer.body)}; expected {checksum}"
            raise UnreadableAnswerError(error=msg)
        if answer.status != _OK:
            raise _refusal(answer, self.name)
        try:
            return dict(self.decode(answer.body))
        except msgspec.DecodeError as error:
            msg = f"answer: {error}; expected what {self.name} answers"
            raise UnreadableAnswerError(error=msg) from error


def _refusal(answer: Answer, operation: str) -> ClientError:
    """The error as botocore's parser makes it of the JSON protocol."""
    try:
        told: Any = msgspec.json.decode(answer.body)
        code = str(told["__type"]).rpartition("#")[2]
        message = str(told.get("message", told.get("Message", "")))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        code, message = str(answer.status), ""
    metadata = {
        "HTTPStatusCode": answer.status,
        "RequestId": answer.headers.get("x-amzn-requestid", ""),
        "HTTPHeaders": dict(answer.headers),
        "RetryAttempts": 0,
    }
    parsed: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return ClientError(parsed, operation)
