"""The state from which a run continues as if it had not been killed.

It is written with every checkpoint and in between.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from workloads.api.model import Contract
from workloads.api.records import CheckpointRecord, Marker, StateRecord
from workloads.api.units import UnitRef
from workloads.storage.base import Store
from workloads.storage.markers import Corrupt, fetch, train_markers
from workloads.train.metrics import Metric, from_lines, to_lines
from workloads.train.tensor_file import write_tensors

VECTORS, CURSOR, METRICS = "trainer_state.safetensors", "cursor.json", "metrics.jsonl"

logger = logging.getLogger("potstill")


class Cursor(Contract):
    """The position of a run after `step` steps. It has no random generator, because nothing is drawn after the start.

    `interval_*`: sums since the last checkpoint; `step` itself is not counted yet.
    """

    step: int = 0
    tokens: int = 0
    interval_loss_sum: float = 0.0
    interval_supervised_tokens: int = 0
    train_seconds: float = 0.0


@dataclass(frozen=True)
class Resumed:
    marker: str
    cursor: Cursor
    metrics: list[Metric]
    vectors: Mapping[str, Tensor]


def write_state(folder: Path, vectors: Mapping[str, Tensor], cursor: Cursor, metrics: list[Metric]) -> dict[str, Path]:
    """`vectors` are on the host. Returns the files by their names in the marker."""
    write_tensors(folder / VECTORS, vectors)
    (folder / CURSOR).write_bytes(cursor.to_json())
    (folder / METRICS).write_bytes(to_lines(metrics))
    return {name: folder / name for name in (VECTORS, CURSOR, METRICS)}


def read_state(store: Store, unit: UnitRef, folder: Path) -> Resumed | None:
    """Returns the newest committed state whose files all exist; None if there is none.

    A damaged state is logged and skipped. Its marker stays, and the new state of the same step replaces it
    (`commit.publish`). Raises Corrupt for a marker that cannot be read, StoreError.
    """
    for marker in _states(train_markers(store, unit)):
        try:
            paths = fetch(store, marker, (VECTORS, CURSOR, METRICS), folder / marker.name)
        except Corrupt as error:
            logger.warning("resume state skipped: %s", error)
            continue
        return Resumed(
            marker=marker.name,
            cursor=Cursor.model_validate_json(paths[CURSOR].read_bytes()),
            metrics=from_lines(paths[METRICS].read_bytes()),
            vectors=load_file(paths[VECTORS]),
        )
    return None


def newest_checkpoint_step(store: Store, unit: UnitRef) -> int:
    """Returns 0 if there is none. It is above the step of the newest state only if states have been lost."""
    records = [marker.record for marker in train_markers(store, unit)]
    return max((record.step for record in records if isinstance(record, CheckpointRecord)), default=0)


def _states(markers: list[Marker]) -> list[Marker]:
    """Returns the newest first."""
    states = [marker for marker in markers if isinstance(marker.record, StateRecord)]
    return sorted(states, key=lambda marker: marker.name, reverse=True)
