"""The trainer's metrics of every step, from its records in the store."""

import json
import re
from collections.abc import Iterator

from pydantic import ValidationError

from workloads.api import store_keys
from workloads.api.manifest import LossPoint, Manifest, ManifestRun
from workloads.api.model import sha256_of
from workloads.api.records import Progress
from workloads.stages.train import TRAIN
from workloads.storage.base import NotFound, Store
from workloads.storage.markers import Corrupt, newest_state, read_marker, train_markers

METRICS = "metrics.jsonl"
ATTEMPT = re.compile(r"/attempts/(\d+)/progress\.json$")


def training_points(manifest: Manifest, store: Store | None) -> dict[str, tuple[LossPoint, ...]]:
    """Returns points by run. For an unfinished run: every step up to its newest resume state.

    Without a store: the manifest's points, at most 200 a run. Raises Corrupt, StoreError.
    """
    return {run.name: (_from_store(store, run) if store is not None else None) or run.losses for run in manifest.runs}


def _from_store(store: Store, run: ManifestRun) -> tuple[LossPoint, ...] | None:
    unit = TRAIN.unit(run.digest)
    marker = read_marker(store, unit, store_keys.DONE) or newest_state(train_markers(store, unit))
    file = next((file for file in marker.files if file.name == METRICS), None) if marker is not None else None
    if file is None:
        return None
    data = store.get(file.key)
    if sha256_of(data) != file.sha256:
        raise Corrupt(f"train/{run.digest}: {METRICS} is not what was committed (key {file.key})")
    return tuple(_points(data))


def live_points(manifest: Manifest, store: Store) -> dict[str, LossPoint]:
    """Returns by running run the last step that its newest attempt reported. Raises StoreError."""
    found = {run.name: _live(store, run) for run in manifest.runs if run.inputs is not None and run.state != "done"}
    return {name: point for name, point in found.items() if point is not None}


def _live(store: Store, run: ManifestRun) -> LossPoint | None:
    """Returns None before the first step, and for a record that cannot be read."""
    unit = TRAIN.unit(run.digest)
    numbers = [
        int(number[1]) for info in store.list(store_keys.unit_prefix(unit)) if (number := ATTEMPT.search(info.key))
    ]
    if not numbers or run.inputs is None:
        return None
    try:
        progress = Progress.model_validate_json(store.get(store_keys.progress_key(unit, max(numbers))))
    except (NotFound, ValidationError):
        return None
    if progress.loss is None or not progress.done:
        return None
    return LossPoint(
        step=progress.done,
        samples=progress.done * run.inputs.batch_size,
        loss=progress.loss,
        learning_rate=0.0,
        tokens_per_second=progress.tokens_per_second,
    )


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
    """Returns values by name: loss (nats per supervised token), learning_rate, tokens_per_second."""
    found = {"loss": point.loss, "learning_rate": point.learning_rate}
    return found if point.tokens_per_second is None else found | {"tokens_per_second": point.tokens_per_second}
