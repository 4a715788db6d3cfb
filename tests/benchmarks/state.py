"""Size of the reference definition's state, and what packing costs. Prints one JSON object."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from volume import feeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.ports import StoredState

from headrace.model import load_bundle
from headrace.offline.replay import replay
from headrace.scoring import Scorer

ROOT = Path(__file__).parents[2]
ROUNDS = 2_000


def main() -> None:
    """Replay once, then weigh the states."""
    scorer = Scorer(load_bundle(ROOT / "layers" / "model"))
    name, both = feeds(scorer)
    found = replay(scorer, both)
    codec, rows, sizes = scorer.codec, 0, []
    for key, stored in found.states.items.items():
        state = codec.decode(key, *stored)
        rows += sum(len(codec.view(state, f).rows) for f in codec.folds[state.entity])
        sizes.append(len(stored.data))
    print(
        json.dumps(
            {
                "data": name,
                "entities": len(sizes),
                "retained_rows": rows,
                "bytes_per_retained_event": round(sum(sizes) / rows, 2),
                "largest_item_bytes": max(sizes),
                **codec_times(scorer, found.states.items),
            }
        )
    )


def codec_times(scorer: Scorer, items: Mapping[str, StoredState]) -> dict[str, float]:
    """Unpack and pack again the customer with the most rows, in CPU time."""
    codec = scorer.codec
    key = max((k for k in items if k.startswith("customer#")), key=lambda k: len(items[k][1]))
    fold = codec.folds["customer"][0]
    rows = len(codec.view(codec.decode(key, *items[key]), fold).rows)
    started = time.process_time()
    for _ in range(ROUNDS):
        state = codec.decode(key, *items[key])
        codec.view(state, fold)
        state.changed.add(fold.view.name)
        codec.encode(state)
    each = (time.process_time() - started) / ROUNDS * 1e6
    return {"codec_rows": rows, "codec_us": round(each, 2)}


if __name__ == "__main__":
    main()
