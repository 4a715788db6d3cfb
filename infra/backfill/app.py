"""Do one step of a backfill on AWS; infra/backfill.asl.json says which follows which."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.adapters import aws
from headrace.adapters.objects import Objects
from headrace.adapters.telemetry import logger
from headrace.loading import load_definition
from headrace.offline.backfill_cloud import CloudBackfill
from headrace.offline.backfill_plan import Item, Order
from headrace.settings import read_model_dir

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


class Plan(msgspec.Struct, tag_field="step", tag="plan"):
    """List the history."""

    order: Order
    run: str


class Compute(msgspec.Struct, tag_field="step", tag="compute"):
    """The features of one entity's views, for one partition of its ids."""

    work: str
    item: Item


class Join(msgspec.Struct, tag_field="step", tag="join"):
    """The features of one file's events."""

    work: str
    file: int


class Close(msgspec.Struct, tag_field="step", tag="close"):
    """The report."""

    work: str


@cache
def backfill() -> CloudBackfill:
    """The steps, with the definition of this stack."""
    definition = load_definition(read_model_dir() / "definition.py")
    return CloudBackfill(definition, Objects(aws.client("s3")))


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """A step in; what the next ones need out."""
    step = msgspec.convert(event, Plan | Compute | Join | Close)
    logger.info("step", extra={"step": event})
    match step:
        case Plan(order, run):
            return msgspec.to_builtins(backfill().plan(order, run))
        case Compute(work, item):
            backfill().compute(work, item)
        case Join(work, file):
            backfill().join(work, file)
        case Close(work):
            return msgspec.to_builtins(backfill().close(work))
    return {}
