"""`headrace replay`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.adapters.capacity import state_sizes
from headrace.cli.load_batch import rows_of
from headrace.cli.replay_report import Report, lost_events
from headrace.cli.terminal import (
    AsJson,
    Endpoint,
    check_folder,
    err,
    errors_told,
    fail,
    find_project,
    model_dir_of,
    parse_duration,
    parse_time,
    print_json,
)
from headrace.cli.terminal import progress as progress_bar
from headrace.loading import load_definition
from headrace.local.faults import Faults
from headrace.local.trial import Trial
from headrace.model import MANIFEST, load_bundle
from headrace.offline.disorder import Disorder
from headrace.offline.feed import read_feed
from headrace.offline.holes import Holes
from headrace.offline.replay import CHUNK, Conditions, Replay, Window, state_rows
from headrace.offline.replay import replay as replay_in_memory
from headrace.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.offline.feed import Feed


class Via(StrEnum):
    """Where a replay runs."""

    MEMORY = "memory"
    KINESIS = "kinesis"


def replay(
    events: Annotated[Path, typer.Option(help="Parquet file of the scored source.")],
    out_file: Annotated[Path, typer.Option("--out", help="Parquet file to write scores to.")],
    labels: Annotated[Path | None, typer.Option(help="Parquet file of the labels.")] = None,
    via: Annotated[
        Via, typer.Option(help="`memory` for volume, `kinesis` through local AWS.")
    ] = Via.MEMORY,
    definition: Annotated[
        Path | None,
        typer.Option(help="Definition file; beside a definition.py, a bundle scores."),
    ] = None,
    state_out: Annotated[
        Path | None, typer.Option(help="Parquet file for every entity's features at the end.")
    ] = None,
    seed_before: Annotated[
        str | None, typer.Option(help="What arrived before this time only fills the state.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop before this arrival time.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Most records in a batch.")
    ] = None,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Say what the batches would cost on DynamoDB.")
    ] = False,
    disorder: Annotated[
        str, typer.Option(help="Events arrive later by up to this, such as `2h` or `90s`.")
    ] = "0s",
    duplicates: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the events that arrive twice.")
    ] = 0.0,
    faults: Annotated[
        str,
        typer.Option(
            help="What of AWS goes wrong how often: `throttle=0.02,lost_response=0.01`, "
            "also unprocessed, partial_put, skew, crash, slow; with `--via kinesis`."
        ),
    ] = "",
    holes: Annotated[
        str,
        typer.Option(
            help="What events lack, as shares: `absent=0.1,negative=0.01,text=0.01,unseen=0.05,"
            "cents=0.02`; in memory."
        ),
    ] = "",
    holes_hour: Annotated[
        str | None, typer.Option(help="When the hour begins in which amounts come in cents.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="`NAME=FILE`: rows of a table, each seen from its `loaded_at` on."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also score clean, and with zeros in the holes.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of disorder, duplicates, holes and faults.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after an interrupted replay at `--endpoint`.")
    ] = False,
    endpoint: Endpoint = None,
    json: AsJson = False,
) -> None:
    """Replay a file in order of arrival through the stream scorer.

    Events arrive at their event time, labels at `label_time`; a column `arrival_time` says
    otherwise. The scores file has one row per event: id, event_time, score, rung,
    model_version, definition_hash, late, imputed with causes, and every feature in a column of
    its own.
    """
    _check_files(out_file, state_out, (events, labels))
    if compare and labels is None:
        fail("--compare needs --labels, to hold the scores against")
    with errors_told():
        path = definition or model_dir_of(None) / "definition.py"
        scorer = _scorer(path)
        feeds = _feeds(scorer, events, labels)
        untidy = Disorder(parse_duration(disorder, "--disorder"), duplicates, seed)
        trial = Trial(untidy, Faults.parse(faults), seed, resume, batch_size)
        hour = parse_time(holes_hour, "--holes-hour") if holes_hour else 0
        pierced = Holes.parse(holes, hour, seed)
        rows = rows_of(scorer.definition, table or [])
        how = Conditions(untidy, batch_size or CHUNK, pierced, rows, capacity)
        _check_via(
            via, path, of_memory=bool(holes or table) or compare, of_stream=bool(faults) or resume
        )
        if capacity and via is Via.KINESIS:
            fail("--capacity needs --via memory; batches cost the same on both")
        window = _window(seed_before, until)
        with progress_bar(f"Replaying via {via}", sum(len(f.frame) for f in feeds)) as advance:
            if via is Via.MEMORY:
                found = replay_in_memory(scorer, feeds, window, advance, how)
            else:
                found = _through_stream(path.parent, feeds, window, endpoint, advance, trial)
        qualities = {}
        if compare:
            from headrace.offline.comparison import compared  # with it comes scikit-learn

            qualities = compared(scorer, feeds, window, how, found.scores)
        found.scores.write_parquet(out_file)
        if state_out is not None:
            state_rows(scorer, found.states, found.newest).write_parquet(state_out)
    _tell_refused(found)
    used = how.capacity.per_event(len(found.scores)) if capacity else {}
    sizes = state_sizes(found.states.items) if capacity else {}
    lost = lost_events(found, feeds[0], window)
    report = Report(found, out_file, used, lost, qualities, sizes)
    if json:
        print_json(report.as_json())
    else:
        report.show()
    if lost:
        fail(f"{lost:,} events were neither scored nor quarantined")
    if found.counts["failed"]:
        fail(f"{found.counts['failed']:,} records were given up; their batches failed every retry")


def _tell_refused(found: Replay) -> None:
    for refused in {each.faults[0].reason: each for each in found.quarantined}.values():
        told = f"Refused: {refused.faults[0].message}"
        err.print(told, markup=False, highlight=False, soft_wrap=True)


def _through_stream(
    model_dir: Path,
    feeds: list[Feed],
    window: Window,
    endpoint: str | None,
    advance: Callable[[int], None],
    trial: Trial,
) -> Replay:
    from headrace.local.stream_replay import replay_through_stream  # with it come moto and SAM

    template = find_project() / "template.yaml"
    path = Path(tempfile.gettempdir()) / "headrace-replay.log"
    with path.open("w", encoding="utf-8") as logs:
        err.print(f"What the functions log goes to {path}", highlight=False)
        return replay_through_stream(
            template, model_dir, feeds, window, endpoint, advance, replace(trial, logs=logs)
        )


def _check_via(via: Via, path: Path, *, of_memory: bool, of_stream: bool) -> None:
    if via is Via.MEMORY and of_stream:
        fail("--faults and --resume need --via kinesis: memory has no AWS")
    if via is Via.KINESIS and (path.name != "definition.py" or not _has_bundle(path)):
        fail("--via kinesis needs a file named definition.py with a bundle beside it")
    if via is Via.KINESIS and of_memory:
        fail("--holes, --table and --compare need --via memory; scores are the same on both")


def _check_files(out_file: Path, state_out: Path | None, read: Iterable[Path | None]) -> None:
    check_folder(out_file, "--out")
    check_folder(state_out, "--state-out")
    if out_file.resolve() in {path.resolve() for path in read if path}:
        fail(f"--out: {out_file} is what is replayed; expected another file")


def _window(seed_before: str | None, until: str | None) -> Window:
    return Window(
        parse_time(seed_before, "--seed-before") if seed_before else 0,
        parse_time(until, "--until") if until else 2**62,
    )


def _has_bundle(path: Path) -> bool:
    return (path.parent / "bundle" / MANIFEST).is_file()


def _scorer(path: Path) -> Scorer:
    if _has_bundle(path) and path.name == "definition.py":
        return Scorer(load_bundle(path.parent))
    from headrace.offline.train import feature_scorer  # with it comes scikit-learn

    err.print(f"No bundle beside {path.name}: features only, scores stay empty.")
    return feature_scorer(load_definition(path))


def _feeds(scorer: Scorer, events: Path, labels: Path | None) -> list[Feed]:
    feeds = [read_feed(events, scorer.definition.scored)]
    if labels is not None:
        feeds.append(read_feed(labels, scorer.definition.label.source))
    for feed, path in zip(feeds, (events, labels), strict=False):
        absent = [name for name in feed.source.fields if name not in feed.frame.columns]
        if absent and path is not None:
            err.print(f"{path.name} has no {', '.join(absent)}: missing in every event.")
    return feeds
