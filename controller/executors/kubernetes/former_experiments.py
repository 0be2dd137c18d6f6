"""Finds Experiments that were deleted or replaced by another of the same name, and cleans up each once."""

import logging
from collections.abc import Callable
from typing import Any

from controller.executors.kubernetes.workqueue import Key
from workloads.storage.base import StoreError

logger = logging.getLogger("potstill")

Json = dict[str, Any]


class FormerExperiments:
    """The last seen Experiment of each key. Calls `clean_up` with each that was deleted or replaced.

    Errors of `clean_up` are logged, and it is not called again.
    """

    def __init__(self, clean_up: Callable[[Json], None]) -> None:
        self._clean_up = clean_up
        self._last: dict[Key, Json] = {}

    def see(self, key: Key, item: Json | None) -> None:
        """`item`: the current Experiment; None if it does not exist."""
        former = self._last.pop(key, None)
        if item is not None:
            self._last[key] = item
        if former is None or (item is not None and item["metadata"]["uid"] == former["metadata"]["uid"]):
            return
        try:
            self._clean_up(former)
        except StoreError as error:
            logger.warning("%s/%s: its deletionPolicy was not carried out:  %s", *key, error)
        except Exception:
            logger.exception("%s/%s: this is a bug in Potstill: it was not cleaned up", *key)
