"""Finds Experiments that are gone or were replaced by another of the same name, so that each is cleaned up once."""

import logging
from collections.abc import Callable
from typing import Any

from controller.executors.kubernetes.workqueue import Key
from workloads.storage.base import StoreError

logger = logging.getLogger("potstill")

Json = dict[str, Any]


class FormerExperiments:
    """The Experiment of each key as last seen. `clean_up` is called with one that is gone or was replaced.

    Its errors are logged, and it is not called again.
    """

    def __init__(self, clean_up: Callable[[Json], None]) -> None:
        self._clean_up = clean_up
        self._last: dict[Key, Json] = {}

    def see(self, key: Key, item: Json | None) -> None:
        """`item`: the Experiment as it is now; None if there is none."""
        former = self._last.pop(key, None)
        if item is not None:
            self._last[key] = item
        if former is None or (item is not None and item["metadata"]["uid"] == former["metadata"]["uid"]):
            return
        try:
            self._clean_up(former)
        except StoreError as error:
            logger.warning("%s/%s: what its deletionPolicy asks for was not done: %s", *key, error)
        except Exception:
            logger.exception("%s/%s: this is a fault of Potstill: it was not cleaned up", *key)
