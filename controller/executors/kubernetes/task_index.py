"""An index of Jobs and pods by their task. It is updated with each change, so a round need not read all of a namespace.

A Job is converted once for each version of it and its pods.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.executors.kubernetes.job_states import job_of
from controller.executors.kubernetes.names import CLOSED_ANNOTATION, ROLE_LABEL, TASK_ANNOTATION, UID8_LABEL
from controller.snapshot.types import Job
from workloads.stages.generate import GENERATE

Json = dict[str, Any]
Kind = Literal["jobs", "pods"]
Pods = tuple[Json, ...]
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class _Read:
    """A Job and its pods as they were when `job` was made from them."""

    item: Json
    pods: Pods
    job: Job


@dataclass(frozen=True)
class Evaluations:
    """`jobs` and `pods`: those of generate tasks that have not ended. `seen`: their tasks since the last call."""

    jobs: tuple[Json, ...]
    pods: tuple[Json, ...]
    seen: frozenset[str]


class TaskIndex:
    """The index of one namespace. Safe for any number of threads.

    `put`, `remove` and `replace` are called by the reflectors of Jobs and pods with every change. `evaluations`:
    whether Jobs and pods of generate tasks are kept for `take_evaluations`.
    """

    def __init__(self, *, evaluations: bool = False) -> None:
        self._lock = threading.Lock()
        self._keeps_evaluations = evaluations
        self._evaluations: dict[Kind, dict[str, Json]] = {"jobs": {}, "pods": {}}
        """Jobs and pods of generate tasks, by name."""
        self._seen: set[str] = set()
        """Tasks of evaluations whose Job was added or changed since the last `take_evaluations`."""
        self._jobs: dict[str, Json] = {}
        """Jobs by name."""
        self._names: dict[str, str] = {}
        """Names of Jobs by task key."""
        self._open: dict[str, Json] = {}
        """Jobs whose task is not closed, by task key."""
        self._own: dict[str, set[str]] = {}
        """Keys of `_open` by the uid8 of their Experiment."""
        self._pods: dict[str, Pods] = {}
        """Pods by the name of their Job."""
        self._read: dict[str, _Read] = {}
        self._snapshot: JobsByTask | None = None
        """The result of `jobs` until something changes."""

    def put(self, kind: Kind, item: Json) -> None:
        with self._lock:
            self._put(kind, item)

    def remove(self, kind: Kind, item: Json) -> None:
        with self._lock:
            self._remove(kind, item)

    def replace(self, kind: Kind, items: Iterable[Json]) -> None:
        """Replaces all objects of the kind, after a LIST."""
        with self._lock:
            self._snapshot = None
            self._evaluations[kind] = {}
            if kind == "jobs":
                self._jobs, self._names, self._open, self._own = {}, {}, {}, {}
            else:
                self._pods = {}
            for item in items:
                self._put(kind, item)
            self._read = {key: read for key, read in self._read.items() if key in self._open}

    def jobs(self) -> "JobsByTask":
        """Returns the current Jobs of open tasks. Later changes do not affect the result."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = JobsByTask(dict(self._open), dict(self._pods), self._read)
            return self._snapshot

    def take_evaluations(self) -> Evaluations:
        """Returns the current evaluations.

        `seen` covers the time since the last call, so only one caller may use it.
        """
        with self._lock:
            seen, self._seen = frozenset(self._seen), set()
            jobs, pods = (tuple(self._evaluations[kind].values()) for kind in ("jobs", "pods"))
            return Evaluations(jobs, pods, seen)

    def pods_of(self, job: str) -> list[Json]:
        """Returns the pods of the Job of this name."""
        with self._lock:
            return list(self._pods.get(job, ()))

    def open_of(self, uid8: str) -> list[tuple[str, Json, list[Json]]]:
        """Returns (task key, Job, its pods) of the open tasks of one Experiment."""
        with self._lock:
            found = [(key, self._open[key]) for key in self._own.get(uid8, ())]
            return [(key, item, list(self._pods.get(item["metadata"]["name"], ()))) for key, item in found]

    def of_task(self, key: str) -> Json | None:
        """Returns the Job of a task, also of a closed task."""
        with self._lock:
            name = self._names.get(key)
            return None if name is None else self._jobs[name]

    def meaning(self, kind: Kind, item: Json) -> tuple[str, bool, Job] | None:
        """Returns what the planner reads of the object's Job: its UID, whether its task is closed, and its record.

        Returns None if there is no such Job, or it runs no task.
        """
        name = item["metadata"]["name"] if kind == "jobs" else job_name_of(item)
        with self._lock:
            job, pods = self._jobs.get(name), self._pods.get(name, ())
        if job is None or _task_of(job) is None:
            return None
        return (job["metadata"]["uid"], _is_closed(job), job_of(job, list(pods)))

    def _put(self, kind: Kind, item: Json) -> None:
        self._remove(kind, item)
        name, key = item["metadata"]["name"], _task_of(item)
        if self._keeps_evaluations and is_evaluation(item):
            if not _has_ended(kind, item):
                self._evaluations[kind][name] = item
            if kind == "jobs" and key is not None:
                self._seen.add(key)
        if kind == "pods":
            job = job_name_of(item)
            self._pods[job] = (*self._pods.get(job, ()), item)
            return
        self._jobs[name] = item
        if key is not None:
            self._names[key] = name
            if not _is_closed(item):
                self._open[key] = item
                self._own.setdefault(_uid8_of(item), set()).add(key)

    def _remove(self, kind: Kind, item: Json) -> None:
        self._snapshot = None
        name = item["metadata"]["name"]
        self._evaluations[kind].pop(name, None)
        if kind == "pods":
            job = job_name_of(item)
            left = tuple(pod for pod in self._pods.pop(job, ()) if pod["metadata"]["name"] != name)
            if left:
                self._pods[job] = left
            return
        former = self._jobs.pop(name, None)
        key = _task_of(former) if former is not None else None
        if former is not None and key is not None and self._names.get(key) == name:
            del self._names[key]
            self._open.pop(key, None)
            own = self._own.get(_uid8_of(former), set())
            own.discard(key)
            if not own:
                self._own.pop(_uid8_of(former), None)
            self._read.pop(key, None)


@dataclass(frozen=True)
class IndexOf:
    """One kind of object in a `TaskIndex`, in the form that a reflector updates."""

    index: TaskIndex
    kind: Kind

    def put(self, item: Json, /) -> None:
        self.index.put(self.kind, item)

    def remove(self, item: Json, /) -> None:
        self.index.remove(self.kind, item)

    def replace(self, items: Iterable[Json], /) -> None:
        self.index.replace(self.kind, items)


class JobsByTask(Mapping[str, Job]):
    """Jobs by task key. Each is converted from its object when it is first read."""

    def __init__(self, items: Mapping[str, Json], pods: Mapping[str, Pods], read: dict[str, _Read]) -> None:
        self._items = items
        self._pods = pods
        self._read = read

    def __getitem__(self, key: str) -> Job:
        item = self._items[key]
        pods = self._pods.get(item["metadata"]["name"], ())
        read = self._read.get(key)
        if read is None or read.item is not item or read.pods is not pods:
            read = _Read(item, pods, job_of(item, list(pods)))
            self._read[key] = read
        return read.job

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def is_evaluation(item: Json) -> bool:
    """Returns whether the Job or pod belongs to a generate task."""
    return _task_of(item) is not None and item["metadata"].get("labels", {}).get(ROLE_LABEL) == GENERATE.name


def _has_ended(kind: Kind, item: Json) -> bool:
    status = item.get("status", {})
    if kind == "pods":
        return status.get("phase") in {"Succeeded", "Failed"}
    ends = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    return bool(ends & {"Complete", "Failed"})


def _task_of(item: Json) -> str | None:
    key: str | None = item["metadata"].get("annotations", {}).get(TASK_ANNOTATION)
    return key


def _uid8_of(job: Json) -> str:
    return str(job["metadata"].get("labels", {}).get(UID8_LABEL, ""))


def _is_closed(item: Json) -> bool:
    return CLOSED_ANNOTATION in item["metadata"].get("annotations", {})


def job_name_of(pod: Json) -> str:
    """Returns the name of the pod's Job, "" if it has none."""
    return str(pod["metadata"].get("labels", {}).get(JOB_NAME_LABEL, ""))
