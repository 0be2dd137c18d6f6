"""Downloads adapters' files for the engine: one ahead of its use; deletes them after their last evaluation.

A group may have many adapters of several GB each, more than a pod's disk. The requirements of an engine are in the
adapters' configurations, which are small.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from workloads.api.records import Canary, CheckpointRecord, Marker
from workloads.api.tasks import AdapterSource
from workloads.engines.base import Adapter, BadAdapter, nothing
from workloads.models.adapters import CONFIG, WEIGHTS, check_adapter, read_demands
from workloads.models.shapes import ModelShapes
from workloads.storage.base import Store, StoreError
from workloads.storage.markers import Corrupt, fetch, read_marker

TICK_SECONDS = 1.0


class AdapterCache:
    """All adapters of a program, by content. Call `release` once for each call of `promise`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._markers: dict[str, Marker] = {}
        self._arriving: dict[str, Future[None]] = {}
        self._again: set[str] = set()
        self._users: Counter[str] = Counter()
        self._queue: SimpleQueue[tuple[str, Future[None]] | None] = SimpleQueue()
        # A program that ends does not wait for files that it no longer needs.
        threading.Thread(target=self._work, name="fetch", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)

    def promise(
        self, source: AdapterSource, shapes: ModelShapes, tick: Callable[[], None] = nothing
    ) -> tuple[Adapter, tuple[Canary, ...]]:
        """Returns the adapter from its configuration alone, and its canaries. Raises BadAdapter, Corrupt, StoreError.

        If the configuration does not name each layer, it waits for the weights.
        """
        marker = read_marker(self._store, source.unit, source.marker)
        if marker is None or marker.content != source.content:
            stands = f"holds {marker.content[:12]}" if marker else "does not exist"
            raise Corrupt(f"{source.unit}: marker {source.marker} {stands}; the task names {source.content[:12]}")
        name = source.content
        fetch(self._store, marker, (CONFIG,), self._folder / name)
        canaries = marker.record.canaries if isinstance(marker.record, CheckpointRecord) else ()
        check_canary_tokens(canaries, shapes.vocabulary)
        rank, target = read_demands(self._folder / name / CONFIG)
        self._markers[name] = marker
        adapter = Adapter(name, self._folder / name, rank, target or "all")
        self._users[name] += 1
        if target is None:
            try:
                adapter = self.wait(adapter, shapes, tick)
            except (BadAdapter, Corrupt, StoreError):
                self.release(adapter)
                raise
        return adapter, canaries

    def begin(self, adapter: Adapter) -> None:
        """Downloads it in the background, unless it exists or is being downloaded."""
        name = adapter.name
        if name not in self._arriving:
            self._arriving[name] = Future()
            self._queue.put((name, self._arriving[name]))

    def arrived(self, adapter: Adapter) -> bool:
        """Returns whether `wait` would return at once. A failed download is tried once more before it counts."""
        arriving = self._arriving.get(adapter.name)
        if arriving is None or not arriving.done():
            return False
        if arriving.exception() is not None and adapter.name not in self._again:
            self._again.add(adapter.name)
            del self._arriving[adapter.name]
            self.begin(adapter)
            return False
        return True

    def wait(self, adapter: Adapter, shapes: ModelShapes, tick: Callable[[], None]) -> Adapter:
        """Returns the adapter from its weights, when they are complete and valid. Raises BadAdapter, Corrupt,
        StoreError.

        A download that failed earlier is tried again. `tick` is called every second, and may raise.
        """
        arriving = self._arriving.get(adapter.name)
        if arriving is not None and arriving.done() and arriving.exception() is not None:
            del self._arriving[adapter.name]
        self.begin(adapter)
        arriving = self._arriving[adapter.name]
        while not futures.wait([arriving], timeout=TICK_SECONDS).done:
            tick()
        if arriving.exception() is not None:
            del self._arriving[adapter.name]
        arriving.result()
        return check_adapter(adapter.name, adapter.directory, shapes)

    def release(self, adapter: Adapter) -> None:
        """Deletes the files when no evaluation needs them."""
        self._users[adapter.name] -= 1
        if not self._users[adapter.name]:
            del self._users[adapter.name]
            self._again.discard(adapter.name)
            arriving = self._arriving.pop(adapter.name, None)
            if arriving is not None and not arriving.cancel():
                futures.wait([arriving])
            shutil.rmtree(adapter.directory, ignore_errors=True)

    def _work(self) -> None:
        while (wanted := self._queue.get()) is not None:
            name, arriving = wanted
            if arriving.set_running_or_notify_cancel():
                try:
                    fetch(self._store, self._markers[name], (WEIGHTS, CONFIG), self._folder / name)
                except BaseException as error:
                    arriving.set_exception(error)
                else:
                    arriving.set_result(None)


def check_canary_tokens(canaries: tuple[Canary, ...], vocabulary: int) -> None:
    """Raises BadAdapter for a canary that no engine could score."""
    for number, canary in enumerate(canaries):
        expected = len(canary.token_ids) - 1
        if not expected == len(canary.log_probs) == len(canary.base_log_probs) or expected < 1:
            raise BadAdapter(f"canary {number}: {expected + 1} tokens do not go with {len(canary.log_probs)} values")
        if not all(0 <= token_id < vocabulary for token_id in canary.token_ids):
            raise BadAdapter(f"canary {number} holds a token outside the base's vocabulary of {vocabulary}")
