"""The experiments of a store as the page lists them. Records are cached, and read again when their etag changes."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from controller.cli.versions import EXPERIMENT_KEY, Version, differences, read_manifest, read_version
from controller.ui.kept import Kept
from controller.ui.live import LiveExperiment, LiveView
from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.api.counts import EvaluationCounts
from workloads.api.experiment import FrozenExperiment
from workloads.api.manifest import Manifest
from workloads.storage.base import ObjectInfo, Store, StoreError

LIST_SECONDS = 1.0
"""How long one LIST of the store is used for further requests, in seconds."""
LIST_SHARE = 0.1
"""A slow LIST is used for longer, so that LISTs take at most this share of the time: a directory hashes its files."""
READERS = 8
"""Experiments that are read at the same time."""
MANIFESTS_KEPT = 8
DIFFERENCES_KEPT = 5_000
"""Sizes of the caches: manifests, and differences between two versions."""
LIVE_KEPT = 32
"""Unfinished experiments whose progress is read at the same time, at most."""
LIVE_WAIT_SECONDS = 0.3
"""How long the list waits for progress of unfinished experiments. Later progress is in the next answer."""
SILENT_SECONDS = 600.0
"""A task that has written nothing for this long may have no process any more. Loading weights takes minutes at most."""


class UnknownExperiment(Exception):
    """The store has no experiment of this name and version."""


@dataclass(frozen=True)
class Folder:
    """The result of a LIST for one experiment.

    `modified`: the last write to any of its files, in seconds since 1970.
    """

    experiment_etag: str
    manifest_etag: str | None
    report_etag: str | None
    modified: float


@dataclass(frozen=True)
class Count:
    done: int
    total: int
    failed: int = 0


@dataclass(frozen=True)
class Summary:
    """One line of the list. Times are ISO 8601 in UTC.

    `phase`: unreadable; accepted (no result yet); running (a task is open); silent (a task is open, and nothing was
    written for SILENT_SECONDS); unfinished; or how it ended: succeeded, partially_failed, failed. `steps`: the
    steps of all trainings, None if unknown. `last_sign`: the time of the last write. `differs_from_newest_in`: fields,
    None for the newest version of a name. `error`: why it cannot be read.
    """

    id: str
    name: str
    version: str
    phase: str
    accepted: str | None = None
    last_sign: str | None = None
    base: str = ""
    runs: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    checkpoints: Count = Count(0, 0)
    evaluations: Count = Count(0, 0)
    steps: Count | None = None
    report: bool = False
    differs_from_newest_in: tuple[str, ...] | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Read:
    """A version without its manifest, of which only the counts are cached."""

    version: Version
    phase: str
    checkpoints: tuple[int, int]
    evaluations: EvaluationCounts


Key = tuple[str, str]
"""(name, version) of an experiment."""


class Experiments:
    """Reads a store for any number of requests at a time. Its methods raise StoreError if the store does not answer."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="ui-reader")
        self._live_pool = ThreadPoolExecutor(READERS, thread_name_prefix="ui-live")
        self._folders: dict[Key, Folder] = {}
        self._list_due = float("-inf")
        self._listing = threading.Lock()
        """Held while the list is made: two requests at the same time would read and compare everything twice."""
        self._versions: dict[Key, tuple[Folder, _Read]] = {}
        self._manifests: Kept[Manifest | None] = Kept(MANIFESTS_KEPT)
        self._differences: Kept[tuple[str, ...]] = Kept(DIFFERENCES_KEPT)
        self._live: OrderedDict[Key, LiveExperiment] = OrderedDict()

    def close(self) -> None:
        for pool in (self._pool, self._live_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def summaries(self) -> tuple[Summary, ...]:
        """Returns names in order, the newest version of a name first. An unreadable version has the reason."""
        with self._listing:
            return self._summaries()

    def _summaries(self) -> tuple[Summary, ...]:
        folders = self.folders()
        keys = list(folders)
        read = dict(zip(keys, self._pool.map(lambda key: self._version(key, folders[key]), keys), strict=True))
        ordered = sorted(keys, key=lambda key: (key[0], -_accepted(read[key]).timestamp()))
        live = self._live_of([key for key in ordered if read[key].phase in ("accepted", "unfinished")], read)
        newest: dict[str, FrozenExperiment | None] = {}
        found = []
        for key in ordered:
            frozen = read[key].version.frozen
            first = newest.setdefault(key[0], frozen)
            differs = self._differs(frozen, first) if frozen and first and frozen is not first else None
            found.append(self._summary(read[key], folders[key], live.get(key), differs))
        return tuple(found)

    def summary(self, key: Key) -> Summary:
        """Returns one summary, like `summaries`. Raises UnknownExperiment."""
        folder = self.folder(key)
        read = self._version(key, folder)
        wanted = [key] if read.phase in ("accepted", "unfinished") else []
        return self._summary(read, folder, self._live_of(wanted, {key: read}).get(key), None)

    def _differs(self, frozen: FrozenExperiment, newest: FrozenExperiment) -> tuple[str, ...]:
        key = (frozen.name, frozen.uid8, frozen.revision, newest.uid8, newest.revision)
        return self._differences.get(key, lambda: differences(frozen, newest))

    def folders(self) -> Mapping[Key, Folder]:
        with self._lock:
            began = self._clock()
            if began >= self._list_due:
                self._folders = _folders(self.store.list(store_keys.EXPERIMENTS))
                ended = self._clock()
                self._list_due = ended + max(LIST_SECONDS, (ended - began) / LIST_SHARE)
                for key in list(self._versions):
                    if key not in self._folders:
                        self._versions.pop(key, None)
            return self._folders

    def folder(self, key: Key) -> Folder:
        """Returns the folder. Only folders from a LIST of the store are ever read. Raises UnknownExperiment."""
        found = self.folders().get(key)
        if found is None:
            raise UnknownExperiment(f"{self.store.url} has no {key[0]}@{key[1]}")
        return found

    def frozen(self, key: Key) -> FrozenExperiment:
        """Raises UnknownExperiment, and StoreError if it cannot be read."""
        frozen = self._version(key, self.folder(key)).version.frozen
        if frozen is None:  # if only its manifest is damaged, its tasks and checkpoints can still be shown
            frozen, _ = read_experiment(self.store, store_keys.experiment_key(*key))
        return frozen

    def manifest(self, key: Key) -> Manifest | None:
        """Returns None before the first result. Raises UnknownExperiment, and StoreError if it cannot be read."""
        etag = self.folder(key).manifest_etag
        if etag is None:
            return None
        return self._manifests.get((key, etag), lambda: read_manifest(self.store, *key))

    def live(self, key: Key) -> LiveView:
        """Returns the current units of the experiment. Raises UnknownExperiment, StoreError."""
        return self._live_experiment(key, self.frozen(key)).look()

    def _live_experiment(self, key: Key, frozen: FrozenExperiment) -> LiveExperiment:
        with self._lock:
            found = self._live.get(key)
            if found is None or found.frozen != frozen:
                found = self._live[key] = LiveExperiment(self.store, frozen, self._clock, self._now)
            self._live.move_to_end(key)
            while len(self._live) > LIVE_KEPT:
                self._live.popitem(last=False)
            return found

    def _version(self, key: Key, folder: Folder) -> _Read:
        kept = self._versions.get(key)
        if kept is not None and kept[0] == replace(folder, modified=kept[0].modified):
            return kept[1]
        version = read_version(self.store, *key)
        read = _Read(replace(version, manifest=None), version.phase, version.checkpoints, version.evaluations)
        self._versions[key] = (folder, read)
        return read

    def _live_of(self, keys: Iterable[Key], read: Mapping[Key, _Read]) -> dict[Key, LiveView]:
        """Returns the views of unfinished experiments that are ready in time, at most LIVE_KEPT of them."""
        begun = self._clock()
        waiting = {}
        for key in list(keys)[:LIVE_KEPT]:
            frozen = read[key].version.frozen
            if frozen is not None:
                waiting[key] = self._live_pool.submit(self._live_experiment(key, frozen).look)
        found = {}
        for key, future in waiting.items():
            try:
                found[key] = future.result(max(0.0, LIVE_WAIT_SECONDS - (self._clock() - begun)))
            except (TimeoutError, StoreError):
                kept = self._live.get(key)
                found |= {key: kept.latest} if kept is not None and kept.latest is not None else {}
        return found

    def _summary(self, read: _Read, folder: Folder, live: LiveView | None, differs: tuple[str, ...] | None) -> Summary:
        version, frozen = read.version, read.version.frozen
        if frozen is None:
            return Summary(
                version.id, version.name, version.uid8, "unreadable", error=version.error,
                last_sign=_iso(folder.modified), report=folder.report_etag is not None,
            )  # fmt: skip
        signs = [folder.modified] + ([live.last_sign.timestamp()] if live and live.last_sign else [])
        counts = live.evaluations if live is not None else read.evaluations
        committed, expected = read.checkpoints
        silent = self._now().timestamp() - max(signs) > SILENT_SECONDS
        at_work = live is not None and live.has_open_tasks
        phase = ("silent" if silent else "running") if at_work else read.phase
        return Summary(
            id=version.id,
            name=version.name,
            version=version.uid8,
            phase=phase,
            accepted=frozen.accepted.astimezone(UTC).isoformat(),
            last_sign=_iso(max(signs)),
            base=frozen.base_name,
            runs=tuple(run.name for run in frozen.runs),
            benchmarks=tuple(benchmark.name for benchmark in frozen.benchmarks),
            checkpoints=Count(live.committed_checkpoints if live is not None else committed, expected),
            evaluations=Count(counts.graded, counts.asked, counts.failed),
            steps=Count(live.steps_done, live.steps_total) if live is not None and live.steps_total else None,
            report=folder.report_etag is not None,
            differs_from_newest_in=differs,
        )


def _accepted(read: _Read) -> datetime:
    frozen = read.version.frozen
    return frozen.accepted if frozen is not None else datetime.fromtimestamp(0, UTC)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _folders(infos: Iterable[ObjectInfo]) -> dict[Key, Folder]:
    """Returns folders with an experiment.json, by (name, version)."""
    by_folder: dict[str, dict[str, ObjectInfo]] = {}
    for info in infos:
        parts = info.key.split("/")
        if len(parts) >= 4:
            by_folder.setdefault("/".join(parts[:3]), {})["/".join(parts[3:])] = info
    found = {}
    for prefix, files in by_folder.items():
        match = EXPERIMENT_KEY.fullmatch(f"{prefix}/experiment.json")
        if match is not None and "experiment.json" in files:
            manifest, report = files.get("manifest.json"), files.get("report/index.html")
            found[match["name"], match["version"]] = Folder(
                experiment_etag=files["experiment.json"].etag,
                manifest_etag=manifest.etag if manifest else None,
                report_etag=report.etag if report else None,
                modified=max(info.modified for info in files.values()),
            )
    return found
