"""A local copy of one kind of object, kept true by LIST and WATCH.

After any break the copy is made again from a new LIST, so that nothing depends on having seen every event. Silence is a
break too: the server is asked to end each watch after a while, and a connection that says nothing for longer is dead.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.kubernetes.api import Api, ApiError, ApiUnreachable

logger = logging.getLogger("potstill.kubernetes")
Json = dict[str, Any]
Key = tuple[str, str]
PAGE = 500
GONE = 410


@dataclass(frozen=True)
class Pace:
    """`watch_seconds`: how long the server keeps a watch. A break is retried after `first` .. `longest`, jittered."""

    watch_seconds: int = 60
    silent_seconds: float = 75.0
    first_seconds: float = 0.5
    longest_seconds: float = 30.0


class Index(Protocol):
    """What is kept beside the copy, changed under the same lock and before `changed` is called."""

    def put(self, item: Json, /) -> None: ...

    def remove(self, item: Json, /) -> None: ...

    def replace(self, items: Iterable[Json], /) -> None: ...


class Reflector:
    """`changed` is called with each object that came, changed or went, from the reflector's own thread."""

    def __init__(
        self,
        api: Api,
        path: str,
        changed: Callable[[Json], None],
        selector: str = "",
        pace: Pace | None = None,
        index: Index | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._selector = selector
        self._pace = pace or Pace()
        self._index = index
        self._objects: dict[Key, Json] = {}
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._stop = threading.Event()
        self._last_true = 0.0
        self.breaks = 0

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name=f"watch {self._path}", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()

    def wait_synced(self, seconds: float) -> bool:
        return self._synced.wait(seconds)

    @property
    def stale_seconds(self) -> float:
        """Since the copy was last known to be true; infinity before the first LIST."""
        return time.monotonic() - self._last_true if self._synced.is_set() else float("inf")

    def objects(self) -> Mapping[Key, Json]:
        """A snapshot, by (namespace, name)."""
        with self._lock:
            return dict(self._objects)

    def get(self, namespace: str, name: str) -> Json | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def run(self) -> None:
        """Until `stop`. Never raises for what the network or the server does."""
        failures = 0
        while not self._stop.is_set():
            try:
                version = self._list()
                failures = 0
                self._watch(version)
            except (ApiUnreachable, ApiError) as error:
                self.breaks += 1
                failures += 1
                ceiling = min(self._pace.longest_seconds, self._pace.first_seconds * 2 ** min(failures, 16))
                wait = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
                logger.warning("watch of %s broke (%s); again in %.1f s", self._path, error, wait)
                self._stop.wait(wait)

    def _list(self) -> str:
        """Replaces the copy; the version to watch from."""
        found: dict[Key, Json] = {}
        query = {"limit": str(PAGE), **self._select()}
        while True:
            page = self._api.request("GET", self._path, query=query)
            for item in page["items"]:
                found[_key(item)] = item
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        with self._lock:
            before, self._objects = self._objects, found
            if self._index is not None:
                self._index.replace(found.values())
        self._mark_true()
        self._synced.set()
        for key in before.keys() | found.keys():
            if _version(before.get(key)) != _version(found.get(key)):
                self._changed(found.get(key) or before[key])
        return str(page["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        """Watches from `version`, again and again, until the server no longer knows it."""
        while not self._stop.is_set():
            query = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(self._pace.watch_seconds),
                **self._select(),
            }
            for event in self._api.stream(self._path, query, self._pace.silent_seconds):
                if self._stop.is_set():
                    return
                self._mark_true()
                item = event["object"]
                if event["type"] == "ERROR":
                    if item.get("code") == GONE:
                        logger.info("watch of %s is too old; listing again", self._path)
                        return
                    raise ApiError(item.get("code", 0), item.get("reason", ""), item.get("message", ""), self._path)
                version = item["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], item)
            self._mark_true()

    def _take(self, kind: str, item: Json) -> None:
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = item
            if self._index is not None:
                (self._index.remove if kind == "DELETED" else self._index.put)(item)
        self._changed(item)

    def _select(self) -> dict[str, str]:
        return {"labelSelector": self._selector} if self._selector else {}

    def _mark_true(self) -> None:
        self._last_true = time.monotonic()


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(item: Json | None) -> str | None:
    return None if item is None else item["metadata"]["resourceVersion"]
