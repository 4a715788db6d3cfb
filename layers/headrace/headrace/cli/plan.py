"""`headrace plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.cli.plan_report import show
from headrace.cli.terminal import (
    AsJson,
    ModelDir,
    errors_told,
    fail,
    find_project,
    model_dir_of,
    print_json,
)
from headrace.loading import load_definition
from headrace.offline.plan.costs import Stage, stages
from headrace.offline.plan.limits import GROWTH, Limit, limits
from headrace.offline.plan.settings_of import settings_of
from headrace.offline.plan.sizing import Deployment, Traffic, shape_of, sized
from headrace.offline.plan.tables import (
    MEASURED,
    PRICES,
    Figure,
    Figures,
    newest,
    read_figures,
    read_prices,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.definition import Definition

ENTITIES = 100_000


def plan(
    events_per_second: Annotated[
        float, typer.Option(min=0, help="Scored events per second, on average.")
    ],
    requests_per_second: Annotated[
        float | None,
        typer.Option(min=0, help="Scores asked for per second; default: one for each event."),
    ] = None,
    peak: Annotated[float, typer.Option(min=1, help="Peak over average.")] = 3.0,
    entities: Annotated[
        list[str] | None,
        typer.Option(help=f"`NAME=N`: how many there are of an entity; default: {ENTITIES:,}."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="What `headrace replay --capacity --json` printed of your history."),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=VALUE`: a figure of your own for a measured or assumed one."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Table of prices; default: the newest infra/prices-*.json.")
    ] = None,
    model_dir: ModelDir = None,
    json: AsJson = False,
) -> None:
    """Say what the stages from batch to real time cost, and what breaks first as traffic grows.

    Arithmetic from the definition, template.yaml, measured figures (infra/measured-*.json) and
    list prices; every line names what it comes from. Nothing of AWS is asked.
    """
    with errors_told():
        project = find_project()
        definition = load_definition(model_dir_of(model_dir) / "definition.py")
        shape = shape_of(definition)
        given = _of_replay(replay, shape.states) | _given(figure or [])
        infra = project / "infra"
        deployment = Deployment(
            Traffic(
                events_per_second,
                events_per_second if requests_per_second is None else requests_per_second,
                peak,
                _entities(definition, entities or []),
            ),
            settings_of(project / "template.yaml"),
            shape,
            Figures(read_figures(newest(infra, MEASURED)), given),
            read_prices(prices or newest(infra, PRICES)),
        )
        found, ends = stages(deployment), limits(deployment)
    if json:
        print_json(_as_json(deployment, found, ends))
    else:
        show(deployment, found, ends)


def _entities(definition: Definition, given: Sequence[str]) -> dict[str, int]:
    names = {each.name for source in definition.sources for each in source.entities.values()}
    counts = dict.fromkeys(sorted(names), ENTITIES)
    for name, number in _pairs(given, "--entities"):
        if name not in counts:
            fail(f"--entities: got {name!r}; the definition has {', '.join(counts)}")
        counts[name] = int(number)
    return counts


def _given(given: Sequence[str]) -> dict[str, Figure]:
    return {name: Figure(n, "given", "--figure") for name, n in _pairs(given, "--figure")}


def _pairs(given: Sequence[str], option: str) -> list[tuple[str, float]]:
    found = []
    for each in given:
        name, _, number = each.partition("=")
        try:
            found.append((name, float(number)))
        except ValueError:
            fail(f"{option}: got {each!r}; expected NAME=NUMBER")
    return found


def _of_replay(path: Path | None, states: int) -> dict[str, Figure]:
    """Units and sizes of a replay of this definition; they are for the states that it touches."""
    if path is None:
        return {}
    try:
        printed = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        fail(f"--replay: {path.name}: {error}; expected what `headrace replay --json` printed")
    wanted = [name for name in printed if name.endswith(("_units", "_state_bytes"))]
    if "read_units" not in wanted:
        fail(f"--replay: {path.name} has no read_units; expected a replay with --capacity")
    command = f"headrace replay --capacity, {path.name}"
    found = {name: Figure(float(printed[name]), "of your history", command) for name in wanted}
    return {**found, "states_of_units": Figure(float(states), "states", command)}


def _as_json(
    deployment: Deployment, found: Sequence[Stage], ends: Sequence[Limit]
) -> Mapping[str, Any]:
    used = deployment.table.prices
    return {
        "prices_as_of": deployment.table.as_of,
        "region": deployment.table.region,
        "figures_as_of": deployment.figures.table.as_of,
        "traffic": asdict(deployment.traffic),
        "settings": asdict(deployment.settings),
        "shape": asdict(deployment.shape),
        "sizing": asdict(sized(deployment)),
        "stages": [
            asdict(each)
            | {"usd": each.usd, "usd_per_million_scores": each.usd_per_million}
            for each in found
        ],
        "limits": [
            asdict(each)
            | {
                "breaks_at": each.breaks_at,
                "holds": {f"{growth}x": each.holds(growth) for growth in GROWTH},
            }
            for each in ends
        ],
        "figures": {
            name: {"value": each.value, "unit": each.unit, "source": each.source}
            for name, each in deployment.figures.all.items()
        },
        "prices": used,
    }  # fmt: skip
