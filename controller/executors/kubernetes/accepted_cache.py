"""A cache of accepted experiments. A round reads and checks the spec again only if it changed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controller.executors.kubernetes.acceptance import Accepted

Json = dict[str, Any]
KEPT_SECONDS = 300.0
"""After this time the acceptance record is read from the store again, and written again if it was deleted."""


@dataclass
class AcceptedCache:
    """A cache by the object's UID. `clock` gives monotonic seconds."""

    clock: Callable[[], float]
    _kept: dict[str, tuple[int, float, Accepted]] = field(default_factory=dict)

    def get(self, item: Json) -> Accepted | None:
        """Returns None if the experiment is not in the cache, has another generation, or was added too long ago."""
        kept = self._kept.get(item["metadata"]["uid"])
        if kept is None or kept[0] != item["metadata"]["generation"] or self.clock() >= kept[1]:
            return None
        return kept[2]

    def keep(self, item: Json, accepted: Accepted) -> None:
        """Adds the experiment. If it is in the cache already, its time stays the same."""
        if self.get(item) is None:
            until = self.clock() + KEPT_SECONDS
            self._kept[item["metadata"]["uid"]] = (item["metadata"]["generation"], until, accepted)

    def forget(self, uid: str) -> None:
        self._kept.pop(uid, None)
