"""What template.yaml says that costs or limits anything. May import local.template and sizing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from samtranslator.yaml_helper import yaml_parse

from headrace.errors import Misconfigured
from headrace.local.template import read_stack
from headrace.offline.plan.sizing import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MONTH_HOURS = 730
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_PER_HOUR = {"minute": 60.0, "hour": 1.0, "day": 1 / 24}


def settings_of(path: Path) -> Settings:
    """Read a template, with its parameters at their defaults.

    Raises:
        NotEmulated: Local mode cannot read it.
        Misconfigured: It does not have one stream mapping.
    """
    stack, template = read_stack(path), yaml_parse(path.read_text(encoding="utf-8"))
    if len(stack.mappings) != 1 or len(stack.streams) != 1:
        got = len(stack.mappings)
        msg = f"{path.name}: got {got} stream mappings; expected one mapping of one stream"
        raise Misconfigured(msg)
    mapping, stream = stack.mappings[0], stack.streams[0]
    given = {name: each["Default"] for name, each in template["Parameters"].items()}
    return Settings(
        shards=stream.shard_count,
        retention_hours=stream.retention_hours,
        parallelization=mapping.parallelization,
        batch_size=mapping.batch_size,
        window_seconds=mapping.window_seconds,
        memory_mb=stack.functions[mapping.function].memory_mb,
        architecture=given["Architecture"],
        api_rate=float(given["ApiRequestsPerSecond"]),
        store_budget_ms=float(given["StoreBudgetMs"]),
        score_days=float(given["ScoreRetentionDays"]),
        log_days=float(given["LogRetentionDays"]),
        runs_per_month=runs_per_month(given["BatchSchedule"]),
        segments=int(given["BatchSegments"]),
        alarm_metrics=_alarm_metrics(template["Resources"]),
    )


def runs_per_month(schedule: str) -> float:
    """How often a schedule comes by in 730 hours; a cron expression is taken for once a day.

    >>> runs_per_month("rate(12 hours)")
    60.833333333333336
    """
    found = _RATE.fullmatch(schedule)
    every, unit = (int(found[1]), found[2]) if found else (1, "day")
    return _MONTH_HOURS * _PER_HOUR[unit] / every


def _alarm_metrics(resources: Mapping[str, Any]) -> int:
    """CloudWatch charges an alarm by the metrics that it reads."""
    alarms = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    read = [sum("MetricStat" in each for each in alarm.get("Metrics", [])) for alarm in alarms]
    return sum(max(count, 1) for count in read)
