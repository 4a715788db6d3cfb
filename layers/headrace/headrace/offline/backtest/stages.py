"""The stages on one history, week by week: START HERE.

Every week a model is fitted on what was known then, and each stage scores the same test events
with what it would have had. May import frames, models, gaps and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.errors import Misconfigured
from headrace.offline.backtest.compared import Compared, compare
from headrace.offline.backtest.coverage import Coverage, coverage
from headrace.offline.backtest.gaps import Part, PartOfGap, Steps, summed_up
from headrace.offline.backtest.models import by_fields_alone, fitted
from headrace.offline.imputed_rows import scorable_rows
from headrace.offline.metrics import Judged
from headrace.offline.splits import rolling_splits
from headrace.offline.train import CAUGHT, judged_rows, labelled
from headrace.offline.training import NONE, Training

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.offline.backtest.frames import Frames
    from headrace.offline.backtest.models import Fitted
    from headrace.offline.feed import Feed
    from headrace.offline.history import Floats
    from headrace.offline.splits import Split


class Stage(StrEnum):
    """How events were scored."""

    BASELINE = "fields alone"  # a model that sees the event's own numbers and nothing else
    NIGHTLY_SCORES = "1 nightly scores"
    NIGHTLY_FEATURES = "2 nightly features"
    REAL_TIME = "3 real time"
    SERVED_STALE = "trained real-time, served nightly"
    TRAINED_STALE = "trained nightly, served real-time"


PAIRS = (
    (Stage.REAL_TIME, Stage.NIGHTLY_FEATURES),
    (Stage.NIGHTLY_FEATURES, Stage.NIGHTLY_SCORES),
    (Stage.REAL_TIME, Stage.NIGHTLY_SCORES),
    (Stage.REAL_TIME, Stage.BASELINE),
    (Stage.SERVED_STALE, Stage.NIGHTLY_FEATURES),
    (Stage.TRAINED_STALE, Stage.REAL_TIME),
)
"""What is compared: (better, than). The last two: a mismatch against what it should have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a history is cut and judged.

    Attributes:
        estimator: Unfitted.
        training: ``train``, ``gap``, ``test``, ``search``, ``top``, ``tested``, ``resamples`` and
            ``seed`` of it count; calibration and threshold do not.
        weeks: At most so many splits.
        progress: Called with 1 after each week.
    """

    estimator: Any
    training: Training
    weeks: int
    progress: Callable[[int], None] = field(default=lambda _: None)

    @property
    def judging(self) -> Training:
        """Without what would keep a part of the training interval for tuning."""
        return replace(self.training, calibration=NONE, threshold=None)


@dataclass(frozen=True, slots=True)
class Backtest:
    """What came of it.

    Attributes:
        splits: One per week.
        events: Scored test events of all weeks.
        positives: Of them.
        dropped: Test events that no stage scored, because something required was absent in one.
        compared: Metrics of the stages, their intervals and lifts.
        coverage: What nightly runs knew and made.
        gap: The parts of the gap between batch and real-time scores.
        per_event: id, ``event_time``, ``label``, ``batch``, ``realtime``, ``gap`` and its parts.
    """

    splits: list[Split]
    events: int
    positives: int
    dropped: int
    compared: Compared
    coverage: Coverage
    gap: list[PartOfGap]
    per_event: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Week:
    judged: dict[str, Judged]
    per_event: pl.DataFrame
    test: Frames
    dropped: int


def backtest(frames: Frames, nightly: Frames, labels: Feed, protocol: Protocol) -> Backtest:
    """Score the same test events as every stage would have.

    Args:
        frames: Of the real-time definition.
        nightly: Of the definition that the nightly job computes, of the same events; the very
            same object where that is the same definition.
        labels: The feed of the label's source.
        protocol: How history is cut and judged.

    Raises:
        Misconfigured: History is too short, a week has too few positives, or a definition scores
            other events.
    """
    _check(frames, nightly)
    definition, how = frames.definition, protocol.judging
    splits = rolling_splits(
        labelled(definition, frames.realtime, labels), definition, how, protocol.weeks
    )
    weeks = []
    for split in splits:
        weeks.append(_week(frames, nightly, labels, (protocol.estimator, how), split))
        protocol.progress(1)
    judged = [week.judged for week in weeks]
    _check_positives(judged, splits)
    pairs = [(str(a), str(b)) for a, b in PAIRS if a in judged[0] and b in judged[0]]
    per_event = pl.concat([week.per_event for week in weeks])
    parts = {part: per_event[part].to_numpy() for part in Part}
    return Backtest(
        splits=splits,
        events=len(per_event),
        positives=int(per_event["label"].sum()),
        dropped=sum(week.dropped for week in weeks),
        compared=compare(judged, pairs, how.resamples, how.seed),
        coverage=coverage([week.test for week in weeks]),
        gap=summed_up(parts, per_event["label"].to_numpy()),
        per_event=per_event,
    )


def _check(frames: Frames, nightly: Frames) -> None:
    key = frames.definition.scored.id
    if not frames.realtime[key].equals(nightly.realtime[key]):
        msg = "nightly definition: it scores other events; expected the same scored source"
        raise Misconfigured(msg)
    if frames.definition.batch_entity.name != nightly.definition.batch_entity.name:
        got, expected = nightly.definition.batch_entity.name, frames.definition.batch_entity.name
        msg = f"nightly definition: batch_entity is {got!r}; expected {expected!r}"
        raise Misconfigured(msg)


def _check_positives(weeks: Sequence[Mapping[str, Judged]], splits: Sequence[Split]) -> None:
    for week, split in zip(weeks, splits, strict=True):
        labels = next(iter(week.values())).frame["label"]
        if not 0 < labels.sum() < len(labels):
            msg = (
                f"the week of {split.test_start:%Y-%m-%d} has {labels.sum()} positives among "
                f"{len(labels)} events; expected both kinds"
            )
            raise Misconfigured(msg)


def _week(
    frames: Frames, nightly: Frames, labels: Feed, recipe: tuple[Any, Training], split: Split
) -> _Week:
    seen = _Labelled.of(frames, nightly, labels, split)
    train, test = seen.within(split.start, split.end), seen.within(split.test_start, split.test_end)
    of_realtime = fitted(frames.definition, train.realtime.realtime, recipe, split)
    of_nightly = fitted(nightly.definition, train.nightly.nightly, recipe, split)
    same = frames is nightly
    of_defined = (
        of_nightly if same else fitted(frames.definition, train.realtime.nightly, recipe, split)
    )
    steps = _steps(test, of_nightly, of_defined, of_realtime)
    scores: dict[str, Floats | None] = {
        Stage.BASELINE: by_fields_alone(
            frames.definition, train.realtime.realtime, test.realtime.realtime, split, recipe[1]
        ),
        Stage.NIGHTLY_SCORES: steps.batch,
        Stage.NIGHTLY_FEATURES: steps.with_event,
        Stage.REAL_TIME: steps.realtime,
        Stage.SERVED_STALE: of_realtime.scores(test.realtime.nightly),
        Stage.TRAINED_STALE: steps.defined,
    }
    rows, how = test.realtime.realtime, recipe[1]
    judged = {
        str(stage): Judged(judged_rows(rows, found.tolist(), how, split), None, how.top)
        for stage, found in scores.items()
        if found is not None
    }
    return _Week(judged, _per_event(rows, steps, frames), test.nightly, test.dropped)


def _steps(test: _Labelled, nightly: Fitted, defined: Fitted, realtime: Fitted) -> Steps:
    fresh = nightly.scores(test.nightly.realtime)
    return Steps(
        batch=nightly.batch_scores(test.nightly),
        with_event=nightly.scores(test.nightly.nightly),
        fresh=fresh,
        defined=fresh if defined is nightly else defined.scores(test.realtime.realtime),
        realtime=realtime.scores(test.realtime.realtime),
    )


def _per_event(rows: pl.DataFrame, steps: Steps, frames: Frames) -> pl.DataFrame:
    return rows.select(frames.definition.scored.id, "event_time", "label").with_columns(
        batch=pl.Series(steps.batch),
        realtime=pl.Series(steps.realtime),
        gap=pl.Series(steps.gap),
        **{str(part): pl.Series(values) for part, values in steps.parts().items()},
    )


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The frames of both definitions, with labels, of events that every stage can score."""

    realtime: Frames
    nightly: Frames
    lacking: pl.Series

    @classmethod
    def of(cls, frames: Frames, nightly: Frames, labels: Feed, split: Split) -> _Labelled:
        """Label the rows with what was known when the split's model would have been fitted."""
        realtime = _with_labels(frames, labels, split)
        other = realtime if nightly is frames else _with_labels(nightly, labels, split)
        key = frames.definition.scored.id
        ids = realtime.realtime[key]
        scorable = pl.Series(np.ones(len(ids), dtype=np.bool_))
        for each in (realtime, other):
            for rows in (each.realtime, each.nightly):
                kept = scorable_rows(each.definition, rows)
                if len(kept) < len(rows):
                    scorable &= ids.is_in(kept[key].implode())
        return cls(realtime, other, ~scorable)

    def within(self, start: Any, end: Any) -> _Labelled:
        """The scorable events of [start, end)."""
        inside = self.realtime.realtime["event_time"].is_between(start, end, closed="left")
        wanted = inside & ~self.lacking
        realtime = self.realtime.only(wanted)
        other = realtime if self.nightly is self.realtime else self.nightly.only(wanted)
        return _Labelled(realtime, other, (inside & self.lacking).filter(inside))

    @property
    def dropped(self) -> int:
        """Events of the interval that were left out."""
        return int(self.lacking.sum())


def _with_labels(frames: Frames, labels: Feed, split: Split) -> Frames:
    definition, key = frames.definition, frames.definition.scored.id
    realtime = labelled(definition, frames.realtime, labels, split)
    of_events = realtime.select(key, "label", *(c for c in (CAUGHT,) if c in realtime.columns))
    nightly = of_events.join(frames.nightly, on=key, how="left", maintain_order="left")
    facts = of_events.select(key).join(frames.facts, on=key, how="left", maintain_order="left")
    return replace(frames, realtime=realtime, nightly=nightly, facts=facts)
