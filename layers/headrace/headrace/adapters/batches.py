"""BatchGetItem and BatchWriteItem, with what they leave unprocessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from headrace.adapters.aws import AWS_ERRORS, error_code
from headrace.adapters.begun import InPlace
from headrace.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from headrace.adapters.items import Item
    from headrace.adapters.lean import LeanCall
    from headrace.ports import Clock

READ_LIMIT = 100
WRITE_LIMIT = 25
ROUNDS = 6
_FIRST_WAIT_SECONDS = 0.05

T = TypeVar("T")


class Read(NamedTuple):
    """What a BatchGetItem gave.

    Attributes:
        items: Of all its tables.
        left: What it left unprocessed, as DynamoDB says it: table -> its ``Keys``.
    """

    items: list[Item]
    left: Item


class BegunRead(InPlace, Generic[T]):
    """A BatchGetItem that was sent and is asked for once; fulfils ``begun.Begun``.

    Args:
        call: That was sent.
        what: Its items are, for errors.
        found: What they make.
        optional: Names of the tables whose keys may be left unprocessed.
    """

    def __init__(
        self,
        call: LeanCall,
        what: str,
        found: Callable[[Read], T],
        optional: Collection[str] = (),
    ) -> None:
        self._call, self._what, self._found, self._optional = call, what, found, optional

    def done(self) -> bool:
        """See ``Begun``."""
        return self._call.done()

    def exception(self) -> BaseException | None:
        """See ``Begun``."""
        return self._call.exception()

    def is_stale(self) -> bool:
        """See ``InPlace``."""
        return self._call.is_stale()

    def abandon(self) -> None:
        """See ``InPlace``."""
        self._call.abandon()

    def proceed(self, left: Callable[[], float]) -> None:
        """See ``InPlace``."""
        self._call.proceed(left)

    def result(self) -> T:
        """What the items make.

        Raises:
            StoreUnavailable: DynamoDB did not answer, or left keys unprocessed that it may not.
        """
        try:
            answer = self._call.result()
        except AWS_ERRORS as error:
            msg = f"{self._what} cannot be read: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        left = answer.get("UnprocessedKeys", {})
        if left and not left.keys() <= set(self._optional):
            raise _unprocessed(self._what, left, 1)
        return self._found(Read(_items(answer), left))


class BatchReader:
    """BatchGetItem; unprocessed keys are asked for again, so many rounds at most.

    Args:
        client: Of DynamoDB.
        clock: To wait with.
        rounds: How often keys are asked for that were left unprocessed.
        optional: Names of the tables whose keys may be left unprocessed at the end.
    """

    def __init__(
        self, client: Any, clock: Clock, rounds: int = ROUNDS, optional: Collection[str] = ()
    ) -> None:
        self._client, self._clock = client, clock
        self._rounds, self._optional = rounds, optional

    def begin(self, request: Item, what: str, found: Callable[[Read], T]) -> BegunRead[T] | None:
        """Send a request without waiting; None where the client cannot, or would ask again."""
        begin = getattr(self._client, "begin_batch_get_item", None)
        call = begin(RequestItems=request) if begin and self._rounds == 1 else None
        return None if call is None else BegunRead(call, what, found, self._optional)

    def get(self, request: Item, what: str) -> list[Item]:
        """The items of all tables of a request; ``what`` they are, for errors."""
        return self.read(request, what).items

    def read(self, request: Item, what: str) -> Read:
        """The same with what was left.

        Raises:
            StoreUnavailable: DynamoDB did not answer, or left keys unprocessed that it may not.
        """
        items: list[Item] = []
        for attempt in range(1, self._rounds + 1):
            try:
                answer = self._client.batch_get_item(RequestItems=request)
            except AWS_ERRORS as error:
                msg = f"{what} cannot be read: {error_code(error)}"
                raise StoreUnavailable(msg) from error
            items += _items(answer)
            request = answer.get("UnprocessedKeys", {})
            if not request:
                return Read(items, {})
            if attempt < self._rounds:
                self._clock.sleep(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        if request.keys() <= set(self._optional):
            return Read(items, request)
        raise _unprocessed(what, request, self._rounds)


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


def _items(answer: Item) -> list[Item]:
    return [item for found in answer["Responses"].values() for item in found]


def _unprocessed(what: str, left: Item, attempts: int) -> StoreUnavailable:
    keys = sum(len(each["Keys"]) for each in left.values())
    return StoreUnavailable(
        f"{what} cannot be read: {keys} keys unprocessed after {attempts} attempts"
    )
