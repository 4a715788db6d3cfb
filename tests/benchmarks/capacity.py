"""DynamoDB units per event of card traffic, at batches of 1 and of 500. Prints one JSON object.

The least that is possible with one item per entity is one read and one conditional write per
touched entity and batch, and one write per score, each rounded up to whole units: nothing else is
done, so this is it. Larger batches touch an entity once for several events.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import polars as pl

from headrace.model import load_bundle
from headrace.offline.feed import Feed, feed_of, read_feed
from headrace.offline.replay import Conditions, Window, replay
from headrace.offline.simulator import Plan, simulate
from headrace.scoring import Scorer

ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "data"
LIKE_CARD_DATA = Plan(customers=210, terminals=400, days=50, events_per_day=1.95)
HISTORY = timedelta(days=40)
MEASURED = timedelta(days=2)


def main() -> None:
    """Replay two days after forty of history, once per batch size."""
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    name, both = small_feeds(scorer)
    begin = both[0].frame.get_column(both[0].arrival).min()
    start = int(pl.Series([begin]).dt.epoch("us")[0]) + HISTORY // timedelta(microseconds=1)
    window = Window(start, start + MEASURED // timedelta(microseconds=1))
    found: dict[str, object] = {"data": name}
    for size in (1, 500):
        how = Conditions(batch_size=size, metered=True)
        scored = len(replay(scorer, [tail(f, window) for f in both], window, conditions=how).scores)
        found["events"] = scored
        for unit, per_event in how.capacity.per_event(scored).items():
            found[f"{unit}_batch_{size}"] = per_event
    print(json.dumps(found))


def small_feeds(scorer: Scorer) -> tuple[str, list[Feed]]:
    """The small card data where it is, else traffic like it."""
    folder = Path(os.environ.get("HEADRACE_ORACLE_DATA", BESIDE))
    source, labels = scorer.definition.scored, scorer.definition.label.source
    events = folder / "card_small_events.parquet"
    if events.is_file():
        return "card_small", [
            read_feed(events, source), read_feed(folder / "card_small_labels.parquet", labels)
        ]  # fmt: skip
    traffic = simulate(LIKE_CARD_DATA)
    return "simulated", [feed_of(traffic.events, source), feed_of(traffic.labels, labels)]


def tail(feed: Feed, window: Window) -> Feed:
    """What arrived before the window's end."""
    arrival = pl.col(feed.arrival).dt.epoch("us")
    return Feed(feed.source, feed.frame.filter(arrival < window.end), feed.arrival)


if __name__ == "__main__":
    main()
