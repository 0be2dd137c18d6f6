"""The trainer's metrics of every step, from done markers and resume states."""

import json
import math
from collections.abc import Iterator

from controller.ui.kept import Kept
from workloads.api.records import Marker
from workloads.storage.base import Store
from workloads.storage.markers import Corrupt, read_file

METRICS = "metrics.jsonl"
"""The file of a train unit's done marker and of each resume state: one line for each step."""
FILES_KEPT = 64
"""Files in the cache, at most."""

Steps = tuple[tuple[int, int, float], ...]
"""(step, samples, loss) of each step; loss in nats per supervised token."""


class MetricFiles:
    """Caches files by marker, because the content of a marker never changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Kept[Steps] = Kept(FILES_KEPT)

    def of(self, marker: Marker) -> Steps:
        """Returns an empty tuple if the marker has no such file. Raises Corrupt, StoreError."""
        if METRICS not in {file.name for file in marker.files}:
            return ()
        key = (marker.unit.digest, marker.name, marker.content)
        return self._kept.get(key, lambda: tuple(_steps(marker, read_file(self._store, marker, METRICS))))


def _steps(marker: Marker, data: bytes) -> Iterator[tuple[int, int, float]]:
    """Raises Corrupt for a line without a step."""
    for line in data.splitlines():
        try:
            row = json.loads(line)
            if row.get("loss") is not None and math.isfinite(row["loss"]):
                yield int(row["step"]), int(row["samples"]), float(row["loss"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(
                f"{METRICS} of marker {marker.name} of {marker.unit} has a line that is not a step"
            ) from error
