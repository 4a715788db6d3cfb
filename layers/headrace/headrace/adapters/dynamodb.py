"""States and scores in DynamoDB.

Only conditional puts and puts of whole items: nothing whose repetition would change the result.
A put whose answer was lost may be repeated by botocore and then lose against itself; the caller
reads again and finds its own write.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.adapters.aws import AWS_ERRORS, error_code, in_parallel
from headrace.adapters.batches import (
    READ_LIMIT,
    ROUNDS,
    WRITE_LIMIT,
    BatchReader,
    BegunRead,
    Read,
    put_items,
)
from headrace.adapters.items import (
    Item,
    batch_item,
    decoded,
    decoded_if_any,
    item_id,
    last_item,
    score_item,
    state_item,
    stored_state,
)
from headrace.adapters.puts import is_lost, put_each
from headrace.errors import StoreUnavailable
from headrace.events import shown_key
from headrace.ports import Replaced, ScannedState, ScanPage, WriteOutcome
from headrace.scores import (
    BATCH_PREFIX,
    EVENT_PREFIX,
    LAST_PREFIX,
    RUN_PREFIX,
    BatchScore,
    Known,
    LastScore,
    ScoreRecord,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from headrace.ports import Clock, Segment, StateWrite, StoredState

_US_PER_SECOND = 1_000_000

T = TypeVar("T")


class DynamoStates:
    """Fulfils ``ports.StateStore``: items of ``entity``, ``version``, ``state``, ``expires``.

    Args:
        client: Of DynamoDB.
        table: Its name.
        clock: To wait with.
        rounds: How often keys are asked for that were left unprocessed.
        optional: Other tables that are read with it and whose keys may be left unprocessed.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        clock: Clock,
        rounds: int = ROUNDS,
        optional: Collection[str] = (),
    ) -> None:
        self._client, self._table = client, table
        self._batch = BatchReader(client, clock, rounds, optional)

    def read(self, keys: Iterable[str]) -> dict[str, StoredState]:
        """See the port: BatchGetItem, consistent, unprocessed keys asked for again."""
        groups = list(self._groups(keys))
        found = in_parallel(self._read_group, groups)
        return {key: state for each in found for key, state in each.items()}

    def begin(self, keys: Sequence[str]) -> BegunRead[dict[str, StoredState]] | None:
        """Send a read without waiting; None where that is not possible, or more than a request."""
        groups = list(self._groups(keys))
        if len(groups) != 1:
            return None
        return self._batch.begin(
            self._request(groups[0]), "states", partial(self._found, groups[0])
        )

    def write(self, writes: Sequence[StateWrite]) -> WriteOutcome:
        """See the port: one conditional PutItem per entity, several at a time."""
        errors = put_each(self._client, [self._put(write) for write in writes])
        found = {w.key: error for w, error in zip(writes, errors, strict=True) if error is not None}
        lost = frozenset(key for key, error in found.items() if is_lost(error))
        failed = {
            key: f"state of {shown_key(key)} could not be written: {error_code(error)}"
            for key, error in found.items()
            if key not in lost
        }
        return WriteOutcome(lost, failed)

    def scan(self, entity: str, segment: Segment, cursor: str | None) -> ScanPage:
        """See the port: a parallel Scan's segment."""
        request: Item = {
            "TableName": self._table,
            "Segment": segment.number,
            "TotalSegments": segment.total,
            "Limit": segment.limit,
            "FilterExpression": "begins_with(entity, :prefix)",
            "ExpressionAttributeValues": {":prefix": {"S": f"{entity}#"}},
        }
        if cursor is not None:
            request["ExclusiveStartKey"] = {"entity": {"S": cursor}}
        try:
            answer = self._client.scan(**request)
        except AWS_ERRORS as error:
            msg = f"states cannot be scanned: {error_code(error)}"
            raise StoreUnavailable(msg) from error
        items = [ScannedState(item["entity"]["S"], *stored_state(item)) for item in answer["Items"]]
        last = answer.get("LastEvaluatedKey")
        return ScanPage(items, last["entity"]["S"] if last else None)

    def _read_group(self, keys: list[str]) -> dict[str, StoredState]:
        return self._found(keys, self._batch.read(self._request(keys), "states"))

    def _groups(self, keys: Iterable[str]) -> Iterable[list[str]]:
        """Keys that fit one request."""
        return _chunks(keys, READ_LIMIT)

    def _request(self, keys: list[str]) -> Item:
        """What BatchGetItem is asked for keys that fit it."""
        wanted = {"Keys": [{"entity": {"S": key}} for key in keys], "ConsistentRead": True}
        return {self._table: wanted}

    def _found(self, keys: list[str], read: Read) -> dict[str, StoredState]:
        """What the items of a request for keys make; keys without one are left out."""
        return {item["entity"]["S"]: stored_state(item) for item in read.items}

    def _put(self, write: StateWrite) -> Item:
        """What PutItem is asked."""
        return {"TableName": self._table, "Item": state_item(write), **_condition(write.expected)}


class DynamoScores:
    """Fulfils ``ports.ScoreStore`` and ``ports.FirstScores``.

    Items of ``id``, ``record`` and a few readable attributes.
    """

    def __init__(self, client: Any, table: str, clock: Clock, retention_days: int) -> None:
        self._client, self._table, self._clock = client, table, clock
        self._batch = BatchReader(client, clock)
        self._retention = retention_days * 86_400

    def put_new(self, records: Sequence[ScoreRecord], last: Sequence[LastScore] = ()) -> None:
        """See the port: BatchWriteItem, unprocessed items sent again."""
        items = [self._item(record) for record in records] + [last_item(each) for each in last]
        in_parallel(self._put_chunk, _chunks(items, WRITE_LIMIT))

    def put_first(self, records: Sequence[ScoreRecord]) -> int:
        """See the port: PutItem on condition that there is none."""
        unless = {"ConditionExpression": "attribute_not_exists(id)"}
        done = self._put_if([(self._item(record), unless) for record in records])
        return done.count(False)

    def put_last(self, last: Sequence[LastScore]) -> None:
        """See the port: PutItem on condition that there is no newer one."""
        self._put_if([(item, _unless_newer(item)) for item in map(last_item, last)])

    def get(self, event_id: str) -> ScoreRecord | None:
        """See the port."""
        item = self._get(EVENT_PREFIX + event_id)
        return None if item is None else decoded(item, ScoreRecord)

    def get_all(self, event_ids: Sequence[str]) -> dict[str, ScoreRecord]:
        """See the port: a GetItem for each, several at a time."""
        found = in_parallel(self.get, event_ids)
        return {record.id: record for record in found if record is not None}

    def put_batch(self, scores: Sequence[BatchScore]) -> Replaced:
        """See the port: BatchGetItem of what is replaced, then BatchWriteItem.

        PutItem could do both in one, exactly, and takes the client five times as long. Between
        the two a look-up's mark may go uncounted, and a later run's score be replaced by one that
        is minutes older: neither is worth it.
        """
        items = {item["id"]["S"]: item for item in map(batch_item, scores)}
        stored = in_parallel(self._read_marks, _chunks(items, READ_LIMIT))
        found = [mark for marks in stored for mark in marks]
        # A page that is done again meets what it has written itself.
        former = [mark for mark in found if _time(mark) < _time(items[mark["id"]["S"]])]
        for mark in found:
            if _time(mark) > _time(items[mark["id"]["S"]]):
                del items[mark["id"]["S"]]
        in_parallel(self._put_chunk, _chunks(items.values(), WRITE_LIMIT))
        return Replaced(len(former), sum("read_at" in mark for mark in former))

    def get_known(self, keys: Sequence[str]) -> dict[str, Known]:
        """See the port: BatchGetItem, eventually consistent, once; half the price is enough here.

        A last score is followed by the next one anyway, and a batch score by the next run's.
        """
        pairs = [(key, (item_id(LAST_PREFIX + key), item_id(BATCH_PREFIX + key))) for key in keys]
        chunks = _chunks([each for _, pair in pairs for each in pair], READ_LIMIT)
        answers = in_parallel(self._get_chunk, chunks)
        items = {item["id"]["S"]: item for found, _ in answers for item in found}
        unanswered = {key for _, left in answers for key in left}
        return {
            key: Known(
                decoded_if_any(items.get(LAST_PREFIX + key), LastScore),
                decoded_if_any(items.get(BATCH_PREFIX + key), BatchScore),
            )
            for key in keys
            if not unanswered & {LAST_PREFIX + key, BATCH_PREFIX + key}
        }

    def mark_read(self, key: str) -> None:
        """See the port: one UpdateItem."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=item_id(BATCH_PREFIX + key),
                UpdateExpression="SET read_at = :now",
                ConditionExpression="attribute_exists(id)",
                ExpressionAttributeValues={":now": {"N": str(self._now())}},
            )
        except AWS_ERRORS as error:
            if not is_lost(error):
                raise _unwritable(error) from error

    def get_progress(self, run: str) -> bytes | None:
        """See the port."""
        item = self._get(RUN_PREFIX + run)
        return None if item is None else bytes(item["progress"]["B"])

    def put_progress(self, run: str, data: bytes, expected: bytes | None) -> bool:
        """See the port: PutItem on condition of the former one."""
        condition: Item = {"ConditionExpression": "attribute_not_exists(id)"}
        if expected is not None:
            condition = {
                "ConditionExpression": "progress = :expected",
                "ExpressionAttributeValues": {":expected": {"B": expected}},
            }
        item = {**item_id(RUN_PREFIX + run), "progress": {"B": data}}
        return self._put_if([(item, condition)]) == [True]

    def _now(self) -> int:
        return self._clock.now() // _US_PER_SECOND

    def _item(self, record: ScoreRecord) -> Item:
        return score_item(record, self._now() + self._retention)

    def _put_chunk(self, items: Sequence[Item]) -> None:
        put_items(self._client, self._clock, self._table, items, "scores")

    def _put_if(self, puts: Sequence[tuple[Item, Item]]) -> list[bool]:
        """Put items, each with a condition; whether each condition held.

        Raises:
            StoreUnavailable: Not all could be put.
        """
        requests = [{"TableName": self._table, "Item": item, **when} for item, when in puts]
        errors = put_each(self._client, requests)
        for error in errors:
            if error is not None and not is_lost(error):
                raise _unwritable(error) from error
        return [error is None for error in errors]

    def _get_chunk(self, keys: list[Item]) -> tuple[list[Item], list[str]]:
        """Items, and the ids that were left unprocessed."""
        try:
            answer = self._client.batch_get_item(RequestItems={self._table: {"Keys": keys}})
        except AWS_ERRORS as error:
            raise _unreadable(error) from error
        left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return answer["Responses"].get(self._table, []), [key["id"]["S"] for key in left]

    def _read_marks(self, ids: list[str]) -> list[Item]:
        wanted = {
            "Keys": [item_id(each) for each in ids],
            "ProjectionExpression": "id, event_time, read_at",
        }
        return self._batch.get({self._table: wanted}, "scores")

    def _get(self, key: str) -> Item | None:
        try:
            answer = self._client.get_item(
                TableName=self._table, Key=item_id(key), ConsistentRead=True
            )
        except AWS_ERRORS as error:
            raise _unreadable(error) from error
        item: Item | None = answer.get("Item")
        return item


def _chunks(values: Iterable[T], size: int) -> list[list[T]]:
    whole = list(values)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _time(item: Item) -> datetime:
    return datetime.fromisoformat(item["event_time"]["S"])


def _condition(expected: int) -> Item:
    if not expected:
        return {"ConditionExpression": "attribute_not_exists(entity)"}
    return {
        "ConditionExpression": "version = :expected",
        "ExpressionAttributeValues": {":expected": {"N": str(expected)}},
    }


def _unless_newer(item: Item) -> Item:
    """The condition on which a last score is put."""
    return {
        "ConditionExpression": "attribute_not_exists(id) OR event_us <= :time",
        "ExpressionAttributeValues": {":time": item["event_us"]},
    }


def _unreadable(error: Any) -> StoreUnavailable:
    return StoreUnavailable(f"scores cannot be read: {error_code(error)}")


def _unwritable(error: Any) -> StoreUnavailable:
    return StoreUnavailable(f"scores cannot be written: {error_code(error)}")
