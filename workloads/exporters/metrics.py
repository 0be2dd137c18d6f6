"""The trainer's metrics of every step, from its records in the store."""

import json
from collections.abc import Iterator

from workloads.api import store_keys
from workloads.api.manifest import LossPoint, Manifest, ManifestRun
from workloads.api.model import sha256_of
from workloads.api.units import UnitRef
from workloads.storage.base import Store
from workloads.storage.markers import Corrupt, read_marker

METRICS = "metrics.jsonl"


def training_points(manifest: Manifest, store: Store | None) -> dict[str, tuple[LossPoint, ...]]:
    """By run. Without a store, or before a run is done: what the manifest keeps, at most 200 points a run.

    Raises Corrupt, StoreError.
    """
    return {run.name: (_from_store(store, run) if store is not None else None) or run.losses for run in manifest.runs}


def _from_store(store: Store, run: ManifestRun) -> tuple[LossPoint, ...] | None:
    marker = read_marker(store, UnitRef(kind="train", digest=run.digest), store_keys.DONE)
    file = next((file for file in marker.files if file.name == METRICS), None) if marker is not None else None
    if file is None:
        return None
    data = store.get(file.key)
    if sha256_of(data) != file.sha256:
        raise Corrupt(f"train/{run.digest}: {METRICS} is not what was committed (key {file.key})")
    return tuple(_points(data))


def _points(data: bytes) -> Iterator[LossPoint]:
    for line in data.splitlines():
        row = json.loads(line)
        if row.get("loss") is not None:
            yield LossPoint(
                step=row["step"],
                samples=row["samples"],
                loss=row["loss"],
                learning_rate=row["learningRate"],
                tokens_per_second=row.get("tokensPerSecond"),
            )


def values(point: LossPoint) -> dict[str, float]:
    """By name: loss (nats per supervised token), learning_rate, tokens_per_second."""
    found = {"loss": point.loss, "learning_rate": point.learning_rate}
    return found if point.tokens_per_second is None else found | {"tokens_per_second": point.tokens_per_second}
