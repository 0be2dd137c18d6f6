"""The Warning events of a namespace. They have reasons that no Job or pod has in its status (FailedCreate,
FailedMount).

They are listed rarely, and only if a Job is blocked for a reason that only events can show.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.executors.kubernetes.api import Api, ApiError, ApiUnreachable
from controller.executors.kubernetes.pod_states import PodWarning

Json = dict[str, Any]
LISTED_SECONDS = 10.0
FORBIDDEN_SECONDS = 600.0
"""A controller that may not list events tries again after this time."""
PAGE = 500
logger = logging.getLogger("potstill.kubernetes")


class Warnings:
    """A cache of the events. Safe for any number of threads."""

    def __init__(self, api: Api, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/events"
        self._clock = clock
        self._found: Mapping[str, PodWarning] = {}
        self._until = float("-inf")
        self._lock = threading.Lock()

    def by_uid(self) -> Mapping[str, PodWarning]:
        """Returns the last Warning event by the UID of its object, at most LISTED_SECONDS old.

        Empty if they cannot be read.
        """
        with self._lock:
            if self._clock() >= self._until:
                self._until = self._clock() + LISTED_SECONDS
                self._found = self._list()
            return self._found

    def _list(self) -> Mapping[str, PodWarning]:
        query = {"fieldSelector": "type=Warning", "limit": str(PAGE)}
        items: list[Json] = []
        try:
            while True:
                page = self._api.request("GET", self._path, query=query)
                items += page.get("items") or []
                token = (page.get("metadata") or {}).get("continue")
                if not token:
                    return latest(items)
                query["continue"] = str(token)
        except ApiError as error:
            if error.status == 403:
                self._until = self._clock() + FORBIDDEN_SECONDS
            logger.warning("events cannot be read, so that it is not known why pods are not made: %s", error)
        except ApiUnreachable as error:
            logger.warning("%s", error)
        return self._found


def latest(items: list[Json]) -> Mapping[str, PodWarning]:
    """Returns the last event of each object that has a reason."""
    found: dict[str, tuple[str, PodWarning]] = {}
    for item in items:
        uid, reason = item.get("involvedObject", {}).get("uid"), item.get("reason")
        at = item.get("lastTimestamp") or item.get("eventTime") or item.get("firstTimestamp") or ""
        if uid and reason and (uid not in found or found[uid][0] <= at):
            found[uid] = (at, PodWarning(reason, item.get("message", "")))
    return {uid: warned for uid, (_, warned) in found.items()}
