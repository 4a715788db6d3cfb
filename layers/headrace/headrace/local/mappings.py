"""Reads an event source mapping of the template, and refuses what local mode does not play.

Source: AWS Lambda Developer Guide, "Lambda parameters for Amazon Kinesis Data Streams event source
mappings", for defaults and limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.local import NotEmulated
from headrace.local.coverage import require_value
from headrace.local.filters import RecordFilter
from headrace.local.resources import StreamMapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.local.resources import Function

_POSITIONS = ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
_YOUNGEST_LIMIT_SECONDS = 60  # MaximumRecordAgeInSeconds is -1 or at least this
_LIMITS = {  # default, least and most; no limit is -1
    "BatchSize": (100, 1, 10_000),
    "MaximumBatchingWindowInSeconds": (0, 0, 300),
    "ParallelizationFactor": (1, 1, 10),
    "MaximumRetryAttempts": (-1, -1, 10_000),
    "MaximumRecordAgeInSeconds": (-1, -1, 604_800),
}


def read_mapping(
    logical_id: str,
    uuid: str,
    properties: Mapping[str, Any],
    function: Function,
    streams: Sequence[str],
) -> StreamMapping:
    """Read a mapping whose references are resolved.

    Args:
        logical_id: In the template.
        uuid: That local mode gives it.
        properties: Of AWS::Lambda::EventSourceMapping.
        function: That it invokes.
        streams: Names of the template's streams.

    Raises:
        NotEmulated: It asks for something that local mode does not play, or AWS does not take.
    """
    where = f"mapping {logical_id}"
    _require_played(where, properties)
    numbers = {name: _number(where, properties, name) for name in _LIMITS}
    position = properties["StartingPosition"]
    return StreamMapping(
        uuid=uuid,
        function=function.logical_id,
        function_arn=function.arn,
        stream_name=_stream(where, properties["EventSourceArn"], streams),
        starting_position=position,
        batch_size=numbers["BatchSize"],
        window_seconds=float(numbers["MaximumBatchingWindowInSeconds"]),
        bisect=bool(properties.get("BisectBatchOnFunctionError", False)),
        reports_item_failures=bool(properties.get("FunctionResponseTypes")),
        max_retries=_limit(numbers["MaximumRetryAttempts"]),
        max_record_age_seconds=_record_age(where, numbers["MaximumRecordAgeInSeconds"]),
        failure_destination=_failure_destination(where, properties),
        starting_timestamp=_timestamp(where, position, properties),
        parallelization=numbers["ParallelizationFactor"],
        filters=_filters(where, properties),
    )


def _require_played(where: str, properties: Mapping[str, Any]) -> None:
    responses = properties.get("FunctionResponseTypes", [])
    if seconds := int(properties.get("TumblingWindowInSeconds", 0)):
        msg = (
            f"{where}: TumblingWindowInSeconds is {seconds}; local mode plays no tumbling windows. "
            "Leave it out: windows over event time are views of the definition"
        )
        raise NotEmulated(msg)
    require_value(where, "event source", properties["EventSourceArn"].split(":")[2], ("kinesis",))
    require_value(where, "Enabled", properties.get("Enabled", True), (True,))
    require_value(where, "StartingPosition", properties["StartingPosition"], _POSITIONS)
    require_value(where, "FunctionResponseTypes", responses, ([], ["ReportBatchItemFailures"]))


def _number(where: str, properties: Mapping[str, Any], name: str) -> int:
    default, least, most = _LIMITS[name]
    value = int(properties.get(name, default))
    if not least <= value <= most:
        msg = f"{where}: {name} is {value}; expected {least} to {most}"
        raise NotEmulated(msg)
    return value


def _limit(value: int) -> int | None:
    return None if value == -1 else value


def _record_age(where: str, seconds: int) -> int | None:
    if -1 < seconds < _YOUNGEST_LIMIT_SECONDS:
        msg = (
            f"{where}: MaximumRecordAgeInSeconds is {seconds}; expected -1 for no limit, or "
            f"{_YOUNGEST_LIMIT_SECONDS} and more"
        )
        raise NotEmulated(msg)
    return _limit(seconds)


def _stream(where: str, arn: str, streams: Sequence[str]) -> str:
    name = arn.rpartition(":stream/")[2]
    if "/consumer/" in name:
        msg = (
            f"{where}: event source is the consumer {arn}; local mode plays no enhanced fan-out. "
            "Name the stream itself"
        )
        raise NotEmulated(msg)
    require_value(where, "stream", name, streams)
    return name


def _failure_destination(where: str, properties: Mapping[str, Any]) -> str | None:
    destinations = properties.get("DestinationConfig", {})
    require_value(where, "DestinationConfig", list(destinations), ([], ["OnFailure"]))
    arn = destinations.get("OnFailure", {}).get("Destination")
    if arn is not None:
        # No queue or topic of a template is created; StreamTrigger itself plays both.
        require_value(where, "failure destination", arn.split(":")[2], ("s3",))
    return str(arn) if arn else None


def _timestamp(where: str, position: str, properties: Mapping[str, Any]) -> float | None:
    at = properties.get("StartingPositionTimestamp")
    if (position == "AT_TIMESTAMP") != (at is not None):
        msg = (
            f"{where}: StartingPosition is {position} and StartingPositionTimestamp is {at}; "
            "expected a timestamp (Unix seconds) with AT_TIMESTAMP, and with nothing else"
        )
        raise NotEmulated(msg)
    return None if at is None else float(at)


def _filters(where: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    criteria = properties.get("FilterCriteria", {})
    patterns = tuple(str(each.get("Pattern", "")) for each in criteria.get("Filters", []))
    try:
        RecordFilter(patterns)
    except NotEmulated as error:
        msg = f"{where}: {error}"
        raise NotEmulated(msg) from error
    return patterns
