"""A local copy of all objects of one kind, kept current by LIST and WATCH.

After any break the copy is made again from a new LIST, so no single event is essential. Silence is a break too: the
server is asked to end each watch after some time, and a connection that is silent for longer is closed. Each LIST but
the first comes after a pause, whatever ended the watch: an error, an answer that does not come from an API server, an
expired version, or a server that ends watches at once. The pause doubles until a watch lasts.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.executors.kubernetes.api import Api, ApiError, ApiUnreachable

logger = logging.getLogger("potstill.kubernetes")
Json = dict[str, Any]
Key = tuple[str, str]
PAGE = 500
SHOWN_CHARACTERS = 200
"""Characters of a wrong answer that a message quotes."""


@dataclass(frozen=True)
class Pace:
    """`watch_seconds`: how long the server keeps a watch. A break is retried after `first` .. `longest`, jittered.

    A watch that ends sooner than `short` is a break. The pause starts again at `first` after `settled` without a break.
    """

    watch_seconds: int = 60
    short_seconds: float = 1.0
    settled_seconds: float = 10.0
    silent_seconds: float = 75.0
    first_seconds: float = 0.5
    longest_seconds: float = 30.0


class Index(Protocol):
    """An index beside the copy, changed under the same lock and before `changed` is called."""

    def put(self, item: Json, /) -> None: ...

    def remove(self, item: Json, /) -> None: ...

    def replace(self, items: Iterable[Json], /) -> None: ...


def _whole(item: Json) -> Json:
    return item


class Reflector:
    """`changed` is called with each object that came, changed or went, from the reflector's own thread.

    `trim` returns what the copy keeps of an object.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        changed: Callable[[Json], None],
        selector: str = "",
        pace: Pace | None = None,
        index: Index | None = None,
        trim: Callable[[Json], Json] = _whole,
    ) -> None:
        self._api = api
        self._trim = trim
        self._path = path
        self._changed = changed
        self._selector = selector
        self._pace = pace or Pace()
        self._index = index
        self._objects: dict[Key, Json] = {}
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._stop = threading.Event()
        self._last_true = time.monotonic()
        self._thread: threading.Thread | None = None
        self.breaks = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name=f"watch {self._path}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Returns whether its thread runs; False before `start`."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def path(self) -> str:
        return self._path

    def stop(self) -> None:
        self._stop.set()

    def wait_synced(self, seconds: float) -> bool:
        return self._synced.wait(seconds)

    @property
    def stale_seconds(self) -> float:
        """Returns the seconds since the copy was last known to be current; infinity before the first LIST."""
        return self.silent_seconds if self._synced.is_set() else float("inf")

    @property
    def silent_seconds(self) -> float:
        """Returns the seconds since the server last answered, or since this object was made."""
        return time.monotonic() - self._last_true

    def objects(self) -> Mapping[Key, Json]:
        """Returns a snapshot by (namespace, name)."""
        with self._lock:
            return dict(self._objects)

    def get(self, namespace: str, name: str) -> Json | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def run(self) -> None:
        """Runs until `stop`. Never raises, for any answer of the network or the server."""
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._watch(self._list())
            except (ApiUnreachable, ApiError) as error:
                reason = str(error)
            except Exception as error:
                logger.exception("watch of %s: this is a bug in Potstill", self._path)
                reason = repr(error)
            else:
                return
            self.breaks += 1
            failures = 1 if time.monotonic() - began >= self._pace.settled_seconds else failures + 1
            ceiling = min(self._pace.longest_seconds, self._pace.first_seconds * 2 ** min(failures, 16))
            wait = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
            logger.warning("watch of %s broke (%s); again in %.1f s", self._path, reason, wait)
            self._stop.wait(wait)

    def _list(self) -> str:
        """Replaces the copy. Returns the version to watch from. Raises ApiError, ApiUnreachable."""
        found: dict[Key, Json] = {}
        query = {"limit": str(PAGE), **self._select()}
        while True:
            page = self._api.request("GET", self._path, query=query)
            items, metadata = page.get("items"), page.get("metadata")
            if not isinstance(items, list) or not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
                raise ApiUnreachable(f"GET {self._path}: the answer is not a list: {str(page)[:SHOWN_CHARACTERS]}")
            for item in items:
                kept = self._trim(_checked(item, self._path))
                found[_key(kept)] = kept
            token = metadata.get("continue")
            if not token:
                break
            query["continue"] = str(token)
        with self._lock:
            before, self._objects = self._objects, found
            if self._index is not None:
                self._index.replace(found.values())
        self._mark_true()
        self._synced.set()
        for key in before.keys() | found.keys():
            if _version(before.get(key)) != _version(found.get(key)):
                self._call_listener(found.get(key) or before[key])
        return str(metadata["resourceVersion"])

    def _watch(self, version: str) -> None:
        """Watches from `version`, again and again, until `stop`.

        Raises ApiError, ApiUnreachable if the connection breaks.
        """
        while not self._stop.is_set():
            query = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(self._pace.watch_seconds),
                **self._select(),
            }
            began = time.monotonic()
            for event in self._api.stream(self._path, query, self._pace.silent_seconds):
                if self._stop.is_set():
                    return
                item = event["object"]
                if event["type"] == "ERROR":
                    raise ApiError(item.get("code", 0), item.get("reason", ""), item.get("message", ""), self._path)
                version = str(
                    _checked(item, self._path, named=event["type"] != "BOOKMARK")["metadata"]["resourceVersion"]
                )
                self._mark_true()
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], self._trim(item))
            if time.monotonic() - began < self._pace.short_seconds and not self._stop.is_set():
                raise ApiUnreachable(f"watch {self._path}: the server ended it at once")
            self._mark_true()

    def _take(self, kind: str, item: Json) -> None:
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = item
            if self._index is not None:
                (self._index.remove if kind == "DELETED" else self._index.put)(item)
        self._call_listener(item)

    def _call_listener(self, item: Json) -> None:
        """An error in the handling of one object does not affect other objects."""
        try:
            self._changed(item)
        except Exception:
            logger.exception("%s %s: this is a bug in Potstill", self._path, item["metadata"]["name"])

    def _select(self) -> dict[str, str]:
        return {"labelSelector": self._selector} if self._selector else {}

    def _mark_true(self) -> None:
        self._last_true = time.monotonic()


def _checked(item: object, path: str, *, named: bool = True) -> Json:
    """Returns `item` if it is an object with a version and, if `named`, a name. Raises ApiUnreachable."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    wanted = ("resourceVersion", "name") if named else ("resourceVersion",)
    if not isinstance(item, dict) or not isinstance(metadata, dict) or not all(metadata.get(key) for key in wanted):
        raise ApiUnreachable(f"{path}: the server sent what is not an object: {str(item)[:SHOWN_CHARACTERS]}")
    return item


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(item: Json | None) -> str | None:
    return None if item is None else item["metadata"]["resourceVersion"]
