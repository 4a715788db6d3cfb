"""Functions and the alarms that guard their deployments: no circle until SAM has transformed them.

Before LocalStack 4.14 transforms a template it resolves what resources refer to. In SAM's own terms
a function names the alarms that roll its deployment back, and each of them names the function:
LocalStack follows that circle until Python's stack ends, again and again, for hours. Each resource
is looked at once here, and one that is being looked at stands for itself by its name. So does what
only SAM will make, such as ``ScoreStreamFunction.Alias``, which LocalStack refuses as unknown.
"""

from __future__ import annotations

from typing import Any

from localstack.runtime import hooks
from localstack.services.cloudformation.engine.v2.change_set_model import Nothing
from localstack.services.cloudformation.engine.v2.change_set_model_preproc import (
    PreprocEntityDelta,
)
from localstack.services.cloudformation.engine.v2.change_set_model_transform import (
    ChangeSetModelTransform,
)

_usual = ChangeSetModelTransform.visit_node_resource
_resolve = ChangeSetModelTransform._resolve_reference


@hooks.on_infra_start()  # type: ignore[untyped-decorator]  # LocalStack is not here
def resolve_once() -> None:
    """Have LocalStack's CloudFormation look at each resource once when it transforms."""
    ChangeSetModelTransform._resolve_reference = _resolve_or_name
    ChangeSetModelTransform.visit_node_resource = _visit_once


def _visit_once(transform: Any, node: Any) -> Any:
    # By the object, kept alive with what it came to: a transform may put another in its place.
    done = transform.__dict__.setdefault("_headrace_done", {})
    if id(node) not in done:
        done[id(node)] = (node, PreprocEntityDelta(before=Nothing, after=node.name))
        done[id(node)] = (node, _usual(transform, node))
    return done[id(node)][1]


def _resolve_or_name(transform: Any, logical_id: str) -> Any:
    if "." in logical_id:
        return PreprocEntityDelta(before=Nothing, after=logical_id)
    return _resolve(transform, logical_id)
