"""The environment, read and checked once; the only module that knows its variables.

May import errors only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


MOST_BUDGET_MS = 10_000
"""Of a request; the function itself has 15 seconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    Attributes:
        state_table: DynamoDB table of entity states (``HEADRACE_STATE_TABLE``).
        feature_table: DynamoDB table of loaded rows (``HEADRACE_FEATURE_TABLE``).
        score_table: DynamoDB table of scores (``HEADRACE_SCORE_TABLE``).
        quarantine_bucket: S3 bucket of refused records (``HEADRACE_QUARANTINE_BUCKET``).
        stream: Kinesis stream of events (``HEADRACE_STREAM``).
        model_dir: Folder with definition and bundle (``HEADRACE_MODEL_DIR``).
        score_retention_days: How long scores are kept (``HEADRACE_SCORE_RETENTION_DAYS``).
        table_bucket: S3 bucket with the files of tables (``HEADRACE_TABLE_BUCKET``); empty
            where nothing loads them on a schedule.
        table_prefix: What the keys of these files begin with (``HEADRACE_TABLE_PREFIX``).
        lean_reads: Whether states are read, and written, without botocore's layers
            (``HEADRACE_LEAN_READS``, ``on`` or ``off``).
        store_budget_ms: What a request has for all of its reads (``HEADRACE_STORE_BUDGET_MS``).
    """

    state_table: str
    feature_table: str
    score_table: str
    quarantine_bucket: str
    stream: str
    model_dir: Path
    score_retention_days: int
    store_budget_ms: int = 50
    table_bucket: str = ""
    table_prefix: str = "tables/"
    lean_reads: bool = True


def starts_on_lambda(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is an execution environment of Lambda, or of what plays it."""
    return "AWS_LAMBDA_INITIALIZATION_TYPE" in environment


def starts_before_requests(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Lambda initialises this process ahead of requests, not for the first of them."""
    kind = environment.get("AWS_LAMBDA_INITIALIZATION_TYPE")
    return kind in ("snap-start", "provisioned-concurrency")


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: Naming every variable that is missing or malformed.
    """
    names = {
        "state_table": "HEADRACE_STATE_TABLE",
        "feature_table": "HEADRACE_FEATURE_TABLE",
        "score_table": "HEADRACE_SCORE_TABLE",
        "quarantine_bucket": "HEADRACE_QUARANTINE_BUCKET",
        "stream": "HEADRACE_STREAM",
    }
    missing = [name for name in names.values() if not environment.get(name)]
    budget = environment.get("HEADRACE_STORE_BUDGET_MS", "50")
    if not budget.isdecimal() or not 1 <= int(budget) <= MOST_BUDGET_MS:
        missing.append(
            f"HEADRACE_STORE_BUDGET_MS (got {budget!r}; expected 1 to {MOST_BUDGET_MS:,})"
        )
    days = environment.get("HEADRACE_SCORE_RETENTION_DAYS", "365")
    if not days.isdecimal() or int(days) < 1:
        missing.append(f"HEADRACE_SCORE_RETENTION_DAYS (got {days!r}; expected days, 1 or more)")
    lean = environment.get("HEADRACE_LEAN_READS", "on")
    if lean not in ("on", "off"):
        missing.append(f"HEADRACE_LEAN_READS (got {lean!r}; expected on or off)")
    if missing:
        msg = f"environment: missing or malformed {', '.join(missing)}; template.yaml sets them"
        raise SettingsError(msg)
    return Settings(
        **{field: environment[name] for field, name in names.items()},
        model_dir=read_model_dir(environment),
        score_retention_days=int(days),
        store_budget_ms=int(budget),
        table_bucket=environment.get("HEADRACE_TABLE_BUCKET", ""),
        table_prefix=environment.get("HEADRACE_TABLE_PREFIX", "tables/"),
        lean_reads=lean == "on",
    )


def read_model_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The one setting of a function that needs a definition and no store."""
    return Path(environment.get("HEADRACE_MODEL_DIR", "/opt/model"))
