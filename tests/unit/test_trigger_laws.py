"""Laws of delivery: whatever the settings and failures, nothing is lost and nothing overtakes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from headrace.adapters.clock import FixedClock
from headrace.local.delivery import Chance, Invocation
from headrace.local.runtime import MOST_PAYLOAD_BYTES, FunctionFailed
from headrace.local.shards import lane_of
from headrace.local.triggers import StreamTrigger
from tests import strategies  # noqa: F401 - registers the profile
from tests.streams import BROKEN, NOW, US, FakeKinesis, FakeS3, mapping

if TYPE_CHECKING:
    from headrace.local.records import StreamRecord
    from headrace.local.resources import StreamMapping

HORIZON_US = 600 * US
WANTED = '{"data": {"wanted": [true]}}'


@dataclass
class Scene:
    """A stream, settings and a function that fails in places.

    Attributes:
        kinesis: Its shards; the first may have been split.
        mapping: Settings.
        chance: Order and duplicates.
        failures: How often each record fails, when it is reached.
        raises: Records at which the function raises; at the others it reports.
        live: Whether batches wait for their window.
    """

    kinesis: FakeKinesis
    mapping: StreamMapping
    chance: Chance | None
    failures: dict[bytes, int]
    raises: set[bytes]
    live: bool
    wanted: set[bytes] = field(default_factory=set)


@dataclass
class Run:
    """What came of a scene."""

    trigger: StreamTrigger
    invocations: list[Invocation]
    given_up: list[bytes]

    @property
    def acknowledged(self) -> list[StreamRecord]:
        return [r for i in self.invocations if not i.repeated for r in i.records[: i.acknowledged]]


class Failing:
    """Acknowledges records up to the first that fails."""

    def __init__(self, scene: Scene) -> None:
        self.left, self.raises = dict(scene.failures), scene.raises
        self.data: dict[tuple[str, str], bytes] = {
            (f"shardId-{shard:012}", str(place)): data
            for shard, records in enumerate(scene.kinesis.shards)
            for place, data in enumerate(records)
        }

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for record in batch["Records"]:
            shard, _, number = record["eventID"].partition(":")
            data = self.data[shard, number]
            if self.left.get(data, 0) > 0:
                self.left[data] -= 1
                if data in self.raises:
                    raise FunctionFailed(*BROKEN)
                return {"batchItemFailures": [{"itemIdentifier": number}]}
        return {"batchItemFailures": []}


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    shards = draw(st.integers(1, 3))
    kinesis = FakeKinesis(*([] for _ in range(shards)))
    kinesis.ends = draw(st.booleans())
    split = draw(st.booleans())
    if split:
        kinesis.split(0, [], [])
    wanted, failures, raises = set(), {}, set()
    for number in range(draw(st.sampled_from([0, 1, 5, 12, 30]))):
        flag = draw(st.sampled_from(["true", "true", "false", "?"]))
        data = b'{"wanted": %b, "number": %d}' % (flag.encode(), number)
        shard = draw(st.integers(0, len(kinesis.shards) - 1))
        kinesis.shards[shard].append(data)
        kinesis.keys[data] = draw(st.sampled_from("pqrst"))
        kinesis.stored[data] = NOW - timedelta(seconds=draw(st.integers(0, 100)))
        failures[data] = draw(st.sampled_from([0, 0, 0, 1, 2, 5]))
        if draw(st.booleans()):
            raises.add(data)
        if flag == "true":
            wanted.add(data)
    filtered = draw(st.booleans())
    duplicates = st.sampled_from([0.0, 0.5])
    return Scene(
        kinesis=kinesis,
        mapping=mapping(
            batch_size=draw(st.integers(1, 6)),
            window_seconds=float(draw(st.integers(0, 3))),
            parallelization=draw(st.integers(1, 10)),
            bisect=draw(st.booleans()),
            reports_item_failures=draw(st.booleans()),
            max_retries=draw(st.integers(0, 6)),
            max_record_age_seconds=draw(st.sampled_from([None, None, 60, 99])),
            filters=(WANTED,) if filtered else (),
        ),
        chance=draw(st.none() | st.builds(Chance, st.integers(0, 99), duplicates)),
        failures=failures,
        raises=raises,
        live=draw(st.booleans()),
        wanted=wanted if filtered else set(kinesis.keys),
    )


def play(scene: Scene) -> Run:
    clock, s3 = FixedClock(int(NOW.timestamp()) * US), FakeS3()
    invocations: list[Invocation] = []
    trigger = StreamTrigger(
        scene.mapping,
        Failing(scene),
        kinesis=scene.kinesis,
        s3=s3,
        clock=clock,
        chance=scene.chance,
        observe=invocations.append,
    )
    if scene.live:
        trigger.run_until(clock.now() + HORIZON_US)
    else:
        trigger.drain()
    return Run(trigger, invocations, s3.kept())


@settings(max_examples=200)
@given(scenes())
def test_every_record_is_acknowledged_filtered_or_given_up_once(scene: Scene) -> None:
    run = play(scene)
    acknowledged = Counter(record.data for record in run.acknowledged)
    given_up = Counter(run.given_up)
    assert set(acknowledged) | set(given_up) == scene.wanted
    assert set(acknowledged.values()) <= {1}
    if scene.chance is None or not scene.chance.duplicates:
        assert acknowledged + given_up == Counter(scene.wanted)
    event(f"given up: {bool(given_up)}")
    total = run.trigger.delivered
    assert total.records == acknowledged.total()
    assert total.failed == given_up.total()
    assert total.filtered == len(scene.kinesis.keys) - len(scene.wanted)
    assert total.batches + total.retries + total.repeats == len(run.invocations)


@given(scenes())
def test_no_batch_is_over_the_limits_or_mixes_shards(scene: Scene) -> None:
    for invocation in play(scene).invocations:
        records = invocation.records
        assert 1 <= len(records) <= scene.mapping.batch_size
        assert sum(record.payload_bytes for record in records) <= MOST_PAYLOAD_BYTES
        assert {record.shard for record in records} == {invocation.shard}
        lanes = {lane_of(r.partition_key, scene.mapping.parallelization) for r in records}
        assert lanes == {invocation.lane}
        halvings = (scene.mapping.batch_size - 1).bit_length()
        assert invocation.attempt <= (scene.mapping.max_retries or 0) + halvings


@given(scenes())
def test_order_is_kept_for_each_partition_key_of_a_shard(scene: Scene) -> None:
    run = play(scene)
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)
    for invocation in run.invocations:
        for record in invocation.records if invocation.attempt == 0 else ():
            if not invocation.repeated:
                seen[record.shard, record.partition_key].append(int(record.sequence_number))
    done: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in run.acknowledged:
        done[record.shard, record.partition_key].append(int(record.sequence_number))
    for numbers in [*seen.values(), *done.values()]:
        assert numbers == sorted(numbers)


@given(scenes())
def test_nothing_overtakes_a_record_of_its_key_that_is_not_through(scene: Scene) -> None:
    run = play(scene)
    last = {r.data: at for at, i in enumerate(run.invocations) for r in i.records}
    acknowledged: set[bytes] = set()
    for at, invocation in enumerate(run.invocations):
        together = {record.data for record in invocation.records}
        for earlier in _before(scene, invocation.records):
            never_again = earlier in run.given_up and last.get(earlier, -1) < at
            assert earlier in acknowledged or earlier in together or never_again
        acknowledged |= {record.data for record in invocation.records[: invocation.acknowledged]}


def _before(scene: Scene, batch: tuple[StreamRecord, ...]) -> set[bytes]:
    """What the function is to get that lies before a record of the batch, with its key."""
    shard = scene.kinesis.shards[int(batch[0].shard.removeprefix("shardId-"))]
    return {
        data
        for record in batch
        for data in shard[: int(record.sequence_number)]
        if scene.kinesis.keys[data] == record.partition_key and data in scene.wanted
    }


@given(scenes())
def test_children_see_nothing_before_their_parent_is_through(scene: Scene) -> None:
    run = play(scene)
    shards = [int(invocation.shard.removeprefix("shardId-")) for invocation in run.invocations]
    for child, parents in scene.kinesis.parents.items():
        for parent in parents:
            ends = [at for at, shard in enumerate(shards) if shard == parent]
            begins = [at for at, shard in enumerate(shards) if shard == child]
            assert not ends or not begins or max(ends) < min(begins)


@given(scenes())
def test_same_scene_is_played_the_same_again(scene: Scene) -> None:
    assert play(scene).invocations == play(scene).invocations
