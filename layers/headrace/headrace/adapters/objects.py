"""Objects in S3 by their addresses, ``s3://bucket/key``: bytes in, bytes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import Misconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SCHEME = "s3://"
_CHANGED = ("PreconditionFailed", "412")
_GONE = ("NoSuchKey", "404")
_AT_ONCE = 1000  # DeleteObjects takes no more


class Stored(NamedTuple):
    """An object.

    Attributes:
        uri: Its address.
        size: Bytes.
        etag: Another one where its content was changed.
    """

    uri: str
    size: int
    etag: str


class Objects:
    """Reads and writes objects.

    Args:
        client: Of S3.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, folder: str) -> Iterator[Stored]:
        """All objects at and below an address, in order of their keys."""
        bucket, prefix = split(folder)
        pages = self._client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield Stored(f"{_SCHEME}{bucket}/{each['Key']}", each["Size"], each["ETag"])
        except AWS_ERRORS as error:
            raise _unavailable(folder, "listed", error) from error

    def read(self, uri: str, etag: str | None = None) -> bytes:
        """An object's bytes.

        Raises:
            Misconfigured: It is not there, or no longer the one with this ETag.
            StoreUnavailable: S3 did not give it.
        """
        bucket, key = split(uri)
        condition = {} if etag is None else {"IfMatch": etag}
        try:
            found = self._client.get_object(Bucket=bucket, Key=key, **condition)
            return bytes(found["Body"].read())
        except AWS_ERRORS as error:
            if error_code(error) in _CHANGED + _GONE:
                msg = f"{uri}: {error_code(error)}; expected it to stay as it was listed"
                raise Misconfigured(msg) from error
            raise _unavailable(uri, "read", error) from error

    def write(self, uri: str, data: bytes) -> None:
        """Put an object, in place of a former one.

        Raises:
            StoreUnavailable: S3 did not take it.
        """
        bucket, key = split(uri)
        try:
            self._client.put_object(Bucket=bucket, Key=key, Body=data)
        except AWS_ERRORS as error:
            raise _unavailable(uri, "written", error) from error

    def delete(self, uris: Sequence[str]) -> None:
        """Delete objects of one bucket; those that are not there are no error.

        Raises:
            StoreUnavailable: S3 left any of them.
        """
        for start in range(0, len(uris), _AT_ONCE):
            places = [split(uri) for uri in uris[start : start + _AT_ONCE]]
            order = {"Objects": [{"Key": key} for _, key in places], "Quiet": True}
            try:
                told = self._client.delete_objects(Bucket=places[0][0], Delete=order)
            except AWS_ERRORS as error:
                raise _unavailable(uris[start], "deleted", error) from error
            if told.get("Errors"):
                first = told["Errors"][0]
                msg = f"{first['Key']} cannot be deleted: {first['Code']}"
                raise StoreUnavailable(msg)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an address; the key may be empty.

    Raises:
        Misconfigured: It is none.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not bucket:
        msg = f"got {uri!r}; expected an address in S3, such as s3://bucket/folder"
        raise Misconfigured(msg)
    return bucket, key


def _unavailable(uri: str, what: str, error: Any) -> StoreUnavailable:
    return StoreUnavailable(f"{uri} cannot be {what}: {error_code(error)}")
