"""BatchGetItem and BatchWriteItem, with what they leave unprocessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.adapters.items import Item
    from headrace.ports import Clock

READ_LIMIT = 100
WRITE_LIMIT = 25
ROUNDS = 6
_FIRST_WAIT_SECONDS = 0.05


class BatchReader:
    """BatchGetItem; unprocessed keys are asked for again, so many rounds at most."""

    def __init__(self, client: Any, clock: Clock, rounds: int = ROUNDS) -> None:
        self._client, self._clock, self._rounds = client, clock, rounds

    def get(self, request: Item, what: str) -> list[Item]:
        """The items of all tables of a request; ``what`` they are, for errors."""
        items: list[Item] = []
        for attempt in range(1, self._rounds + 1):
            try:
                answer = self._client.batch_get_item(RequestItems=request)
            except AWS_ERRORS as error:
                msg = f"{what} cannot be read: {error_code(error)}"
                raise StoreUnavailable(msg) from error
            items += [item for found in answer["Responses"].values() for item in found]
            request = answer.get("UnprocessedKeys", {})
            if not request:
                return items
            if attempt < self._rounds:
                self._clock.sleep(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        left = sum(len(each["Keys"]) for each in request.values())
        msg = f"{what} cannot be read: {left} keys unprocessed after {self._rounds} attempts"
        raise StoreUnavailable(msg)


def put_items(client: Any, clock: Clock, table: str, items: Sequence[Item], what: str) -> None:
    """BatchWriteItem, at most 25 items; unprocessed ones are sent again.

    Raises:
        StoreUnavailable: Not all could be written.
    """
    request = {table: [{"PutRequest": {"Item": item}} for item in items]}
    for attempt in range(ROUNDS):
        try:
            answer = client.batch_write_item(RequestItems=request)
        except AWS_ERRORS as error:
            msg = f"{what} cannot be written: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        request = answer.get("UnprocessedItems", {})
        if not request:
            return
        clock.sleep(_FIRST_WAIT_SECONDS * 2**attempt)
    msg = f"{what} cannot be written: {len(request[table])} unprocessed"
    raise StoreUnavailable(msg)
