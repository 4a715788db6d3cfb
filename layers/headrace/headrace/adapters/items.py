"""How states and scores lie in DynamoDB: the attributes of their items."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.events import time_to_us
from headrace.ports import StoredState
from headrace.scores import BATCH_PREFIX, EVENT_PREFIX, LAST_PREFIX

if TYPE_CHECKING:
    from headrace.ports import StateWrite
    from headrace.scores import BatchScore, LastScore, ScoreRecord

_LEAST_NUMBER = 1e-130

Item = dict[str, Any]
T = TypeVar("T")


def state_item(write: StateWrite) -> Item:
    """The item of an entity's state."""
    item: Item = {
        "entity": {"S": write.key},
        "version": {"N": str(write.expected + 1)},
        "state": {"B": write.data},
    }
    if write.expires is not None:
        item["expires"] = {"N": str(write.expires)}
    return item


def score_item(record: ScoreRecord, expires: int) -> Item:
    """The item of an event's score, which may go after a Unix second."""
    return {
        **item_id(EVENT_PREFIX + record.id),
        "event_time": {"S": record.event_time},
        "score": number(record.score),
        "rung": {"S": record.rung},
        "record": {"S": msgspec.json.encode(record).decode()},
        "expires": {"N": str(expires)},
    }


def last_item(last: LastScore) -> Item:
    """The item of an entity's last score."""
    return {
        **item_id(f"{LAST_PREFIX}{last.entity}#{last.entity_id}"),
        "event_us": {"N": str(time_to_us(datetime.fromisoformat(last.event_time)))},
        "score": number(last.score),
        "record": {"S": msgspec.json.encode(last).decode()},
        "expires": {"N": str(last.expires)},
    }


def batch_item(score: BatchScore) -> Item:
    """The item of an entity's batch score."""
    return {
        **item_id(f"{BATCH_PREFIX}{score.entity}#{score.entity_id}"),
        "event_time": {"S": score.as_of},
        "score": number(score.score),
        "record": {"S": msgspec.json.encode(score).decode()},
        "expires": {"N": str(score.expires)},
    }


def item_id(value: str) -> Item:
    """The key of an item in the table of scores."""
    return {"id": {"S": value}}


def number(value: float) -> Item:
    """For people and queries; DynamoDB holds nothing between 0 and 1e-130. The record is exact."""
    return {"N": repr(value) if abs(value) >= _LEAST_NUMBER else "0"}


def stored_state(item: Item) -> StoredState:
    """The state that an item holds."""
    return StoredState(int(item["version"]["N"]), bytes(item["state"]["B"]))


def decoded(item: Item, kind: type[T]) -> T:
    """The record that an item holds."""
    return msgspec.json.decode(item["record"]["S"], type=kind)


def decoded_if_any(item: Item | None, kind: type[T]) -> T | None:
    """What is stored; None where nothing is, or nothing that can be decoded."""
    try:
        return None if item is None else decoded(item, kind)
    except (msgspec.DecodeError, KeyError):
        return None
