"""Experiments as accepted, kept while their spec stays the same, so that a round need not read and check it again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controller.executors.kubernetes.acceptance import Accepted

Json = dict[str, Any]
KEPT_SECONDS = 300.0
"""Then the record of the acceptance is read from the store again, and written again if it was deleted."""


@dataclass
class AcceptedCache:
    """By the object's UID. `clock` gives monotonic seconds."""

    clock: Callable[[], float]
    _kept: dict[str, tuple[int, float, Accepted]] = field(default_factory=dict)

    def get(self, item: Json) -> Accepted | None:
        """None where it was not kept, has another generation, or was kept too long ago."""
        kept = self._kept.get(item["metadata"]["uid"])
        if kept is None or kept[0] != item["metadata"]["generation"] or self.clock() >= kept[1]:
            return None
        return kept[2]

    def keep(self, item: Json, accepted: Accepted) -> None:
        """The time of one that is kept already does not begin anew."""
        if self.get(item) is None:
            until = self.clock() + KEPT_SECONDS
            self._kept[item["metadata"]["uid"]] = (item["metadata"]["generation"], until, accepted)

    def forget(self, uid: str) -> None:
        self._kept.pop(uid, None)
