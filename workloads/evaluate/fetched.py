"""Adapters' files where the engine reads them: fetched one ahead of their turn, deleted after their last evaluation.

A group may hold many adapters of several GB each, more than a pod's disk; what an engine must be started with stands in
their configurations, which are small.
"""

import logging
import shutil
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from workloads.commit import Corrupt, fetch, read_marker
from workloads.contract.records import Canary, CheckpointRecord, Marker
from workloads.contract.tasks import AdapterSource
from workloads.evaluate.adapters import CONFIG, WEIGHTS, check_adapter, read_demands
from workloads.evaluate.engine import Adapter, BadAdapter
from workloads.evaluate.shapes import ModelShapes
from workloads.store import Store

logger = logging.getLogger("potstill")


class FetchedAdapters:
    """All adapters of a program, by content. Each call of `promise` goes with one of `release`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, "fetch")
        self._markers: dict[str, Marker] = {}
        self._arriving: dict[str, Future[None]] = {}
        self._users: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def promise(self, source: AdapterSource, vocabulary: int) -> tuple[Adapter, tuple[Canary, ...]]:
        """The adapter as its configuration tells it, and its canaries. Raises BadAdapter, Corrupt, StoreError."""
        marker = read_marker(self._store, source.unit, source.marker)
        if marker is None or marker.content != source.content:
            stands = f"holds {marker.content[:12]}" if marker else "is not there"
            raise Corrupt(f"{source.unit}: marker {source.marker} {stands}; the task names {source.content[:12]}")
        name = source.content
        fetch(self._store, marker, (CONFIG,), self._folder / name)
        canaries = marker.record.canaries if isinstance(marker.record, CheckpointRecord) else ()
        check_canary_tokens(canaries, vocabulary)
        rank, target = read_demands(self._folder / name / CONFIG)
        self._markers[name] = marker
        self._users[name] += 1
        return Adapter(name, self._folder / name, rank, target), canaries

    def begin(self, adapter: Adapter) -> None:
        """Fetches it in the background, unless it is there or on its way."""
        name = adapter.name
        if name not in self._arriving:
            self._arriving[name] = self._pool.submit(self._fetch, name)

    def wait(self, adapter: Adapter, shapes: ModelShapes) -> None:
        """Until it is there and right. Raises BadAdapter, Corrupt, StoreError."""
        self.begin(adapter)
        try:
            self._arriving[adapter.name].result()
        except BaseException:
            del self._arriving[adapter.name]
            raise
        found = check_adapter(adapter.name, adapter.directory, shapes)
        if found.target == "all" and adapter.target != "all":
            raise BadAdapter(f"{CONFIG}: target_modules names attention layers only, {WEIGHTS} changes others")

    def release(self, adapter: Adapter) -> None:
        """Deletes the files once nobody needs them."""
        self._users[adapter.name] -= 1
        if not self._users[adapter.name]:
            del self._users[adapter.name]
            arriving = self._arriving.pop(adapter.name, None)
            if arriving is not None and not arriving.cancel():
                arriving.exception()
            shutil.rmtree(adapter.directory, ignore_errors=True)

    def _fetch(self, name: str) -> None:
        fetch(self._store, self._markers[name], (WEIGHTS, CONFIG), self._folder / name)


def check_canary_tokens(canaries: tuple[Canary, ...], vocabulary: int) -> None:
    """Raises BadAdapter for a canary that no engine could score."""
    for number, canary in enumerate(canaries):
        expected = len(canary.token_ids) - 1
        if not expected == len(canary.log_probs) == len(canary.base_log_probs) or expected < 1:
            raise BadAdapter(f"canary {number}: {expected + 1} tokens do not go with {len(canary.log_probs)} values")
        if not all(0 <= token_id < vocabulary for token_id in canary.token_ids):
            raise BadAdapter(f"canary {number} holds a token outside the base's vocabulary of {vocabulary}")
