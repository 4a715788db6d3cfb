"""Feast: features of two views from its DynamoDB online store, then scikit-learn; CPU per request.

python feast_request.py MODEL WIDTH: tells what its stub is to answer, waits for the stub's port on
standard input, then serves rounds.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import joblib
import numpy as np
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.online_stores.helpers import compute_entity_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64
from rounds import cpu_us, serve

NAMES = ("customer", "terminal")
FEATURES, REQUESTS, WARM = 6, 30, 30


def main() -> None:
    """Say what the stub answers, then serve rounds."""
    model, width = joblib.load(sys.argv[1]), int(sys.argv[2])
    print(json.dumps(canned()), flush=True)
    store = store_at(int(sys.stdin.readline()))
    wanted = [f"{name}:{name}_f{n}" for name in NAMES for n in range(FEATURES)]

    def score() -> float:
        found = store.get_online_features(
            features=wanted, entity_rows=[{"customer_id": 1, "terminal_id": 2}]
        ).to_dict()
        row = [found[each.partition(":")[2]][0] for each in wanted] + [12.5] * width
        assert None not in row, found
        return float(model.predict_proba(np.array([row[:width]]))[0, 1])

    assert 0 <= score() <= 1
    cpu_us(score, WARM)
    serve(lambda: cpu_us(score, REQUESTS))


def canned() -> dict[str, Any]:
    """What DynamoDB holds of both entities, as Feast writes it."""
    responses = {}
    for number, name in enumerate(NAMES, 1):
        key = EntityKey(join_keys=[f"{name}_id"], entity_values=[Value(int64_val=number)])
        values = {f"{name}_f{n}": {"B": packed(n + 0.5)} for n in range(FEATURES)}
        item = {
            "entity_id": {"S": compute_entity_id(key)},
            "event_ts": {"S": str(datetime.now(UTC).replace(tzinfo=None))},
            "values": {"M": values},
        }
        responses[f"bench.{name}"] = [item]
    return {"Responses": responses, "UnprocessedKeys": {}}


def packed(value: float) -> str:
    """A value as DynamoDB's JSON has Feast's bytes."""
    return base64.b64encode(Value(double_val=value).SerializeToString()).decode()


def store_at(port: int) -> FeatureStore:
    """A feature store with two views, whose online store is the stub."""
    folder = Path(mkdtemp())
    os.environ.update(AWS_ACCESS_KEY_ID="A" * 20, AWS_SECRET_ACCESS_KEY="S" * 40)
    (folder / "feature_store.yaml").write_text(
        "project: bench\nregistry: registry.db\nprovider: local\n"
        "entity_key_serialization_version: 3\n"
        "online_store:\n  type: dynamodb\n  region: eu-central-1\n"
        f"  endpoint_url: http://127.0.0.1:{port}\n"
    )
    store = FeatureStore(str(folder))
    parts: list[Any] = []
    for name in NAMES:
        entity = Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64)
        view = FeatureView(
            name=name,
            entities=[entity],
            ttl=timedelta(days=1),
            schema=[Field(name=f"{name}_f{n}", dtype=Float64) for n in range(FEATURES)],
            source=FileSource(path=str(folder / "none.parquet"), timestamp_field="event_ts"),
        )
        parts += [entity, view]
    for each in parts:
        (
            store.registry.apply_entity
            if isinstance(each, Entity)
            else store.registry.apply_feature_view
        )(each, "bench", commit=True)
    return store


if __name__ == "__main__":
    main()
