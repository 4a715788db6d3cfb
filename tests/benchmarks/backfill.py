"""Backfill of the card features beside a plain numpy reference, and beside pandas where it is.

The reference sorts, searches and takes running sums, and nothing else: no checks of values, no
late events, no order of arrival. Times are CPU seconds of one process, the two alternating;
memory is the peak of a process of its own. `uv pip install -r tests/benchmarks/peers.txt` brings
pandas. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from headrace.adapters.objects import Objects
    from headrace.definition import Definition

    Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[2]
SIZES = (200_000, 2_000_000)
ROUNDS = {200_000: 7, 2_000_000: 3}
DAY = 86_400
WINDOWS = [1, 7, 30]
DELAY, DAYS = 7, 60
START = 1_735_689_600  # 2025-01-01
PER_CUSTOMER, PER_TERMINAL = 120, 60  # events in 60 days, as in the card data


def make_files(events: int, folder: Path) -> None:
    """Seeded events and labels, sorted as files are: by time, labels by when they came."""
    random = np.random.default_rng(7)
    seconds = START + np.sort(random.integers(0, DAYS * DAY, events))
    frame = pl.DataFrame(
        {
            "transaction_id": np.arange(events),
            "event_time": seconds,
            "customer_id": random.integers(0, events // PER_CUSTOMER, events),
            "terminal_id": random.integers(0, events // PER_TERMINAL, events),
            "amount": np.round(random.gamma(1.5, 35.0, events), 2),
        }
    ).with_columns(pl.from_epoch("event_time", time_unit="s").dt.cast_time_unit("us"))
    frame.write_parquet(folder / "events.parquet")
    came = seconds + random.integers(DAY // 4, 6 * DAY, events)
    frame.drop("amount").with_columns(
        label_time=pl.from_epoch(pl.Series(came), time_unit="s").dt.cast_time_unit("us"),
        is_fraud=(random.random(events) < 0.01).astype(np.int8),
    ).sort("label_time").write_parquet(folder / "labels.parquet")


def read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(folder / "events.parquet"), pl.read_parquet(folder / "labels.parquet")


# The reference.


def _sorted(entity: Array, seconds: Array) -> tuple[Array, Array]:
    order = np.lexsort((seconds, entity))
    return order, entity[order] * (2 * DAYS * DAY) + seconds[order] - START + DAYS * DAY


def _summed(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(values)])


def numpy_reference(events: pl.DataFrame, labels: pl.DataFrame) -> dict[str, Array]:
    """Sort, searchsorted and cumsum, for the definition's windowed features."""
    seconds = events["event_time"].dt.epoch("s").to_numpy()
    columns: dict[str, Array] = {}

    def put(name: str, order: Array, values: Array) -> None:
        columns[name] = np.empty(len(values))
        columns[name][order] = values

    order, key = _sorted(events["customer_id"].to_numpy(), seconds)
    total = _summed(events["amount"].to_numpy()[order])
    stop = np.arange(1, len(key) + 1)
    for days in WINDOWS:
        start = np.searchsorted(key, key - days * DAY, side="right")
        put(f"customer_count_{days}d", order, (stop - start).astype(float))
        put(f"customer_amount_mean_{days}d", order, (total[stop] - total[start]) / (stop - start))

    order, key = _sorted(events["terminal_id"].to_numpy(), seconds)
    stop = np.searchsorted(key, key - DELAY * DAY, side="right")
    starts = [np.searchsorted(key, key - (DELAY + days) * DAY, side="right") for days in WINDOWS]
    for days, start in zip(WINDOWS, starts, strict=True):
        put(f"terminal_count_{days}d", order, (stop - start).astype(float))

    label_seconds = labels["event_time"].dt.epoch("s").to_numpy()
    label_order, label_key = _sorted(labels["terminal_id"].to_numpy(), label_seconds)
    frauds = _summed(labels["is_fraud"].to_numpy()[label_order])
    stop = np.searchsorted(label_key, key - DELAY * DAY, side="right")
    for days in WINDOWS:
        start = np.searchsorted(label_key, key - (DELAY + days) * DAY, side="right")
        n = (stop - start).astype(float)
        n[n == 0] = np.nan
        put(f"terminal_is_fraud_mean_{days}d", order, (frauds[stop] - frauds[start]) / n)
    return columns


# Ours.


def card_definition() -> Definition:
    from headrace.loading import load_definition

    return load_definition(ROOT / "layers" / "model" / "definition.py")


def windowed(events: pl.DataFrame, labels: pl.DataFrame) -> dict[str, Array]:
    """Checked, as known: the definition's windowed features, without Python functions."""
    from headrace.offline.backfill import Knowledge, windowed_features
    from headrace.offline.feed import feed_of

    definition = card_definition()
    feeds = [feed_of(events, definition.scored), feed_of(labels, definition.label.source)]
    return windowed_features(definition, feeds, Knowledge.AS_KNOWN)


def whole(events: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Everything that the command does: request features too, which are Python functions."""
    from headrace.offline.backfill import Knowledge, backfill
    from headrace.offline.feed import feed_of

    definition = card_definition()
    feeds = [feed_of(events, definition.scored), feed_of(labels, definition.label.source)]
    return backfill(definition, feeds, Knowledge.AS_KNOWN).features


# The peer.


def pandas_rolling(events: pl.DataFrame, labels: pl.DataFrame) -> dict[str, Array]:
    """The same by groupby.rolling: a delayed window is a long one less the delay's."""
    import pandas as pd

    columns: dict[str, Array] = {}
    frame = pd.DataFrame({name: events[name].to_numpy() for name in events.columns})
    fraud = pd.DataFrame({n: labels[n].to_numpy() for n in ("transaction_id", "is_fraud")})
    frame = frame.merge(fraud, on="transaction_id", how="left")

    def put(name: str, order: Any, values: Array) -> None:
        columns[name] = np.empty(len(values))
        columns[name][order] = values

    mine = frame.sort_values(["customer_id", "event_time"], kind="stable")
    customers = mine.set_index("event_time").groupby("customer_id")["amount"]
    for days in WINDOWS:
        rolled = customers.rolling(f"{days}D")
        put(f"customer_count_{days}d", mine.index, rolled.count().to_numpy())
        put(f"customer_amount_mean_{days}d", mine.index, rolled.mean().to_numpy())
    mine = frame.sort_values(["terminal_id", "event_time"], kind="stable")
    terminals = mine.set_index("event_time").groupby("terminal_id")["is_fraud"]
    delay = terminals.rolling(f"{DELAY}D")
    recent_count, recent_sum = delay.count().to_numpy(), delay.sum().to_numpy()
    for days in WINDOWS:
        rolled = terminals.rolling(f"{DELAY + days}D")
        count = rolled.count().to_numpy() - recent_count
        put(f"terminal_count_{days}d", mine.index, count)
        with np.errstate(invalid="ignore"):
            rate = (rolled.sum().to_numpy() - recent_sum) / count
        put(f"terminal_is_fraud_mean_{days}d", mine.index, rate)
    return columns


def disordered(events: pl.DataFrame) -> pl.DataFrame:
    """The same events, each up to two hours late: almost every entity is out of order somewhere."""
    lag = pl.Series(np.random.default_rng(8).integers(0, 7_200_000_000, len(events)))
    late = pl.col("event_time") + lag.cast(pl.Duration("us"))
    return events.with_columns(arrival_time=late).sort("arrival_time")


def in_parts(folder: Path) -> int:
    """The files worked through in parts of 200,000; how many events that were."""
    from headrace.offline.backfill_parts import Folder, How, backfill_parts

    definition = card_definition()
    sources = (definition.scored, definition.label.source)
    names = ("events.parquet", "labels.parquet")
    folders = [Folder.of(folder / n, s) for n, s in zip(names, sources, strict=True)]
    with tempfile.TemporaryDirectory() as out:
        return backfill_parts(definition, folders, Path(out), How(size=200_000)).events


def files_in(folder: Path) -> Objects:
    """Files where S3 has objects: ``s3://`` stands for the folder."""
    from headrace.adapters.objects import Objects, Stored

    class Files(Objects):
        def find(self, uri: str) -> Iterator[Stored]:
            for path in sorted(folder.rglob("*")):
                address = f"s3://{path.relative_to(folder)}"
                if path.is_file() and address.startswith(uri):
                    yield Stored(address, path.stat().st_size, "")

        def read(self, uri: str, etag: str | None = None) -> bytes:
            return (folder / uri.removeprefix("s3://")).read_bytes()

        def write(self, uri: str, data: bytes) -> None:
            path = folder / uri.removeprefix("s3://")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        def delete(self, uris: Sequence[str]) -> None:
            for uri in uris:
                (folder / uri.removeprefix("s3://")).unlink()

    return Files(client=None)


def invocations(folder: Path) -> int:
    """What the function on AWS does, every step in this process; how many events that were.

    Partitions and cuts are of a million events; each step's seconds and the peak so far are told.
    """
    from headrace.offline.backfill_cloud import CloudBackfill
    from headrace.offline.backfill_plan import Order

    def told(name: str, began: float) -> None:
        spent = time.process_time() - began
        print(f"{name}: {spent:.1f} s, peak {own_peak_mb():.0f} MB", file=sys.stderr)

    steps = CloudBackfill(card_definition(), files_in(folder))
    events = pl.scan_parquet(folder / "events.parquet").select(pl.len()).collect().item()
    millions = -(-int(events) // 1_000_000)
    places = ("s3://events.parquet", "s3://out", "s3://labels.parquet")
    planned = steps.plan(Order(*places, partitions=millions), "run")
    for item in planned.items:
        began = time.process_time()
        steps.compute(planned.work, item)
        told(item.name, began)
    for file in planned.files:
        began = time.process_time()
        steps.join(planned.work, file)
        told("join", began)
    return steps.close(planned.work).events


WAYS: dict[str, Callable[[pl.DataFrame, pl.DataFrame], Any]] = {
    "numpy": numpy_reference,
    "headrace": windowed,
    "headrace_whole": whole,
    "pandas": pandas_rolling,
}


def cpu_seconds(way: str, frames: tuple[pl.DataFrame, pl.DataFrame]) -> float:
    began = time.process_time()
    WAYS[way](*frames)
    return time.process_time() - began


def apart(frames: tuple[pl.DataFrame, pl.DataFrame]) -> float:
    """The largest relative difference between the reference's features and ours."""
    ours, plain = windowed(*frames), numpy_reference(*frames)
    assert ours.keys() == plain.keys()
    assert all((np.isnan(ours[name]) == np.isnan(plain[name])).all() for name in plain)
    return max(
        float(np.nanmax(np.abs(ours[name] - plain[name]) / np.maximum(1, np.abs(plain[name]))))
        for name in plain
    )


def measured(events: int, folder: Path) -> dict[str, float]:
    make_files(events, folder)
    frames = read(folder)
    label = f"{events // 1_000}k"
    found: dict[str, float] = {f"largest_difference_{label}": apart(frames)}
    spent: dict[str, list[float]] = {"numpy": [], "headrace": []}
    for _ in range(ROUNDS[events]):
        for way, seconds in spent.items():
            seconds.append(cpu_seconds(way, frames))
    best = {way: min(seconds) for way, seconds in spent.items()}
    found |= {f"cpu_seconds_{way}_{label}": round(s, 3) for way, s in best.items()}
    found[f"times_numpy_{label}"] = round(best["headrace"] / best["numpy"], 3)
    found[f"cpu_seconds_whole_{label}"] = round(cpu_seconds("headrace_whole", frames), 2)
    if events == SIZES[0]:
        untidy = cpu_seconds("headrace", (disordered(frames[0]), frames[1]))
        found[f"cpu_seconds_disordered_{label}"] = round(untidy, 2)
    if importlib.util.find_spec("pandas"):
        pandas = min(cpu_seconds("pandas", frames) for _ in range(3 if events == SIZES[0] else 1))
        found[f"cpu_seconds_pandas_{label}"] = round(pandas, 2)
        found[f"times_faster_than_pandas_{label}"] = round(pandas / best["headrace"], 1)
    peaks = {way: peak_mb(way, folder) for way in spent}
    found |= {f"peak_memory_mb_{way}_{label}": round(mb) for way, mb in peaks.items()}
    found[f"peak_memory_mb_whole_{label}"] = round(peak_mb("headrace_whole", folder))
    found[f"peak_memory_mb_in_parts_{label}"] = round(peak_mb("parts", folder))
    found[f"peak_memory_mb_invocations_{label}"] = round(peak_mb("aws", folder))
    found[f"times_memory_{label}"] = round(peaks["headrace"] / peaks["numpy"], 3)
    return found


def peak_mb(way: str, folder: Path) -> float:
    """Peak memory of a process that does this once, megabytes."""
    command = [sys.executable, __file__, "--peak", way, "--folder", str(folder)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def own_peak_mb() -> float:
    """Linux's own figure of this process: getrusage's would count the parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peak", choices=[*WAYS, "parts", "aws"], help="print the peak memory of one way"
    )
    parser.add_argument("--folder", type=Path, help="where the events are")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    chosen = parser.parse_args()
    if chosen.peak:
        if chosen.peak == "parts":
            assert in_parts(chosen.folder)
        elif chosen.peak == "aws":
            assert invocations(chosen.folder)
        else:
            assert len(WAYS[chosen.peak](*read(chosen.folder)))
        print(own_peak_mb())
        return
    result: dict[str, float] = {}
    for events in chosen.sizes:
        with tempfile.TemporaryDirectory() as folder:
            result |= measured(events, Path(folder))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
