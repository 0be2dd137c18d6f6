"""The controller of one namespace: watches, a queue, a few workers.

A round of an Experiment starts when its spec changes, when what the planner reads of one of its Jobs changes, when a
notice says that one of its units may have changed, and at intervals. The status that a round writes starts none.
"""

import logging
import os
import random
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

from controller.executors.kubernetes.api import Api, ApiError, ApiUnreachable
from controller.executors.kubernetes.executor import STALE_SECONDS, Watched
from controller.executors.kubernetes.former_experiments import FormerExperiments
from controller.executors.kubernetes.informer import Pace, Reflector
from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.names import EXPERIMENT_LABEL, RETRY_ANNOTATION, UID8_LABEL
from controller.executors.kubernetes.namespace_lease import LeaderLease, LeasePace, NamespaceLease
from controller.executors.kubernetes.quota import EvaluationLimit
from controller.executors.kubernetes.reconciler import Dropped, Reconciler
from controller.executors.kubernetes.task_index import IndexOf, Kind, TaskIndex, is_evaluation, job_name_of
from controller.executors.kubernetes.trim import trimmed, trimmed_work
from controller.executors.kubernetes.warnings import Warnings
from controller.executors.kubernetes.workqueue import KeyedQueue, work
from controller.experiment.profile import Profile
from controller.snapshot.notices import NoticeBoard
from workloads.storage.base import Store, StoreError
from workloads.storage.markers import Corrupt

Json = dict[str, Any]
Key = tuple[str, str]
WORKERS = 8
BUSY_SECONDS = 10.0
"""The interval between two LISTs of the notices, and between two rounds of an experiment that gets no notices."""
FIRST_NOTICES_SECONDS = 5.0
"""How long the first rounds wait at most for the first LIST of the notices."""
TIMED_ROUNDS_PER_SECOND = 10.0
"""The largest number of rounds per second, of all Experiments together, for Experiments without changes.

Each has a round every `BUSY_SECONDS` if that is fewer.
"""
RELEASE = "potstill"
UNANSWERED_SECONDS = 300.0
"""Kubernetes restarts the controller if a watch had no answer for this long."""
STOP_SECONDS = 20.0
"""The longest time that `stop` takes: less than the pod's terminationGracePeriodSeconds of 30."""
logger = logging.getLogger("potstill")


class Controller:
    """Serves one namespace. `start` returns at once; `stop` waits until running rounds have ended.

    `evaluation_pods`: the most that all Experiments have at one time; 0: no limit. `release`: controllers of other
    releases, or with other stores, do not work in this namespace at the same time. `leader`: no round starts while
    another pod holds it. The caller runs its thread. `metrics`: shared with other namespaces of the process.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        profiles: dict[str, Profile],
        namespace: str,
        *,
        pace: Pace | None = None,
        busy_seconds: float = BUSY_SECONDS,
        evaluation_pods: int = 0,
        release: str = RELEASE,
        lease_pace: LeasePace | None = None,
        leader: LeaderLease | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._busy_seconds = busy_seconds
        self._queue = KeyedQueue(time.monotonic)
        self._store = store
        self._board = NoticeBoard(store)
        self._store_passed = False
        """Whether the store has passed its check."""
        self._store_problem = f"{store.url} has not answered yet"
        """Why the last read of the store failed; "" if it succeeded."""
        self._closing = threading.Event()
        self._noticed = threading.Event()
        """Set when the first LIST of the notices has ended, with or without an error."""
        self._started_at = 0.0
        self._meanings: dict[str, object] = {}
        self._specs: dict[Key, object] = {}
        tasks = TaskIndex(evaluations=evaluation_pods > 0)
        selector = f"{EXPERIMENT_LABEL},{UID8_LABEL}"
        jobs = Reflector(
            api,
            f"/apis/batch/v1/namespaces/{namespace}/jobs",
            lambda item: self._owned("jobs", item),
            selector,
            pace,
            IndexOf(tasks, "jobs"),
            trimmed_work,
        )
        pods = Reflector(
            api,
            f"/api/v1/namespaces/{namespace}/pods",
            lambda item: self._owned("pods", item),
            selector,
            pace,
            IndexOf(tasks, "pods"),
            trimmed_work,
        )
        self._watched = Watched(
            jobs=jobs,
            pods=pods,
            experiments=Reflector(
                api,
                f"/apis/potstill.dev/v1alpha1/namespaces/{namespace}/experiments",
                self._changed,
                pace=pace,
                trim=trimmed,
            ),
            limit=EvaluationLimit(
                evaluation_pods, tasks, lambda: datetime.now(UTC), lambda name: self._queue.add((namespace, name))
            ),
            tasks=tasks,
            warnings=Warnings(api, namespace),
            wake=lambda name, seconds: self._queue.add((namespace, name), seconds),
        )
        self.metrics.watch_age(
            namespace, lambda: {one.path.rpartition("/")[2]: one.silent_seconds for one in self._watched.reflectors}
        )
        self.metrics.watch_limit(namespace, self._watched.limit.line)
        writer = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{socket.gethostname()}-{os.getpid()}"
        self._reconciler = Reconciler(
            api,
            self._watched,
            store,
            profiles,
            lambda: datetime.now(UTC),
            writer,
            self.metrics,
            self._board,
            self._require_store,
        )
        self._lease = NamespaceLease(api, namespace, f"release {release} with {store.url.rstrip('/')}", lease_pace)
        self._leader = leader
        self._threads: list[threading.Thread] = []
        self._former = FormerExperiments(self._reconciler.gone)

    def start(self) -> None:
        self._started_at = time.monotonic()
        for reflector in self._watched.reflectors:
            reflector.start()
        self._threads = [
            threading.Thread(target=self._lease.run, name="lease", daemon=True),
            threading.Thread(target=self._read_notices, name="notices", daemon=True),
            *(
                threading.Thread(target=work, args=(self._queue, self._reconcile), name=f"worker {number}", daemon=True)
                for number in range(WORKERS)
            ),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Waits up to `seconds` for running rounds to end. The next controller does what they have not done."""
        end = time.monotonic() + seconds
        self._closing.set()
        self._queue.close()
        self._lease.stop()
        for reflector in self._watched.reflectors:
            reflector.stop()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if left := [thread.name for thread in self._threads if thread.is_alive()]:
            logger.warning("%s: still in a round after %.0f s, and ended with the process", ", ".join(left), seconds)

    def problem(self) -> str:
        """Returns what needs a restart: a thread that has ended, a watch unanswered for UNANSWERED_SECONDS; or ""."""
        threads = [thread.name for thread in self._threads if not thread.is_alive()]
        threads += [f"watch {one.path}" for one in self._watched.reflectors if not one.is_alive]
        if threads:
            return f"ended: {', '.join(threads)}"
        return self._stale(UNANSWERED_SECONDS, [(one.path, one.silent_seconds) for one in self._watched.reflectors])

    def unready(self) -> str:
        """Returns why no round can run, or "": another holder of the Lease, a watch that has not listed or is older
        than STALE_SECONDS, or a store that cannot be used.
        """
        stale = self._stale(STALE_SECONDS, [(one.path, one.stale_seconds) for one in self._watched.reflectors])
        store = f"the store: {self._store_problem}" if self._store_problem else ""
        return "; ".join(problem for problem in (self._lease.problem or stale, store) if problem)

    @staticmethod
    def _stale(limit: float, ages: list[tuple[str, float]]) -> str:
        problems = {
            path: "has not listed yet" if age == float("inf") else f"was not confirmed for {age:.0f} s"
            for path, age in ages
            if age > limit
        }
        return "; ".join(f"the watch of {path} {since}" for path, since in problems.items())

    def _changed(self, item: Json) -> None:
        """Asks for a round if the spec or the retry annotation changed, or at a deletion; not for a new status."""
        metadata = item["metadata"]
        key = (metadata["namespace"], metadata["name"])
        spec = (
            metadata["uid"],
            metadata["generation"],
            metadata.get("deletionTimestamp"),
            metadata.get("annotations", {}).get(RETRY_ANNOTATION),
        )
        is_there = self._watched.experiments.get(*key) is not None
        if is_there and self._specs.get(key) == spec:
            return
        if is_there:
            self._specs[key] = spec
        else:
            self._specs.pop(key, None)
        self._queue.add(key)

    def _owned(self, kind: Kind, item: Json) -> None:
        """Asks for a round if the planner reads what changed; not for a pod's node or a probe's time, for example."""
        if is_evaluation(item):
            self._watched.limit.changed()
        meaning = self._watched.tasks.meaning(kind, item)
        name = item["metadata"]["name"] if kind == "jobs" else job_name_of(item)
        if meaning is not None and self._meanings.get(name) == meaning:
            return
        if meaning is not None:
            self._meanings[name] = meaning
        elif kind == "jobs":
            self._meanings.pop(name, None)
        self._queue.add((item["metadata"]["namespace"], item["metadata"]["labels"][EXPERIMENT_LABEL]))

    def _waits_for_notices(self) -> bool:
        return not self._noticed.is_set() and time.monotonic() - self._started_at < FIRST_NOTICES_SECONDS

    def _require_store(self) -> None:
        """Raises StoreError if the last read of the store failed."""
        if self._store_problem:
            raise StoreError(self._store_problem)

    def _read_notices(self) -> None:
        """Lists the notices of all experiments, at intervals, and asks for a round of each whose units have new ones.

        First the store is checked until it passes. Runs until `stop`.
        """
        while not self._closing.is_set():
            before = self._store_problem
            try:
                if not self._store_passed:
                    self._store.probe()
                    self._store_passed = True
                noticed = self._board.refresh()
            except StoreError as error:
                self._store_problem = str(error)
                logger.warning("the store was not read, so nothing is done: %s", error)
                woken = () if before else tuple(self._watched.experiments.objects())
            else:
                self._store_problem = ""
                woken = (*noticed, *(self._queue.failing() if before else ()))
            for key in woken:
                self._queue.add(key)
            self._noticed.set()
            self._closing.wait(self._busy_seconds)

    def _reconcile(self, key: Key) -> None:
        item = self._watched.experiments.get(*key)
        if self._watched.stale_seconds() == float("inf") or self._waits_for_notices():
            self._queue.add(key, 0.2)
            return
        if not (self._lease.wait_held(1.0) and (self._leader is None or self._leader.wait_held(1.0))):
            self._queue.add(key, 1.0)
            return
        self._former.see(key, item)
        if item is None:
            return
        started = time.monotonic()
        try:
            status = self._reconciler.reconcile(item)
        except Dropped as error:
            wait = self._queue.failed(key)
            self.metrics.reconciled(key, "requeue", time.monotonic() - started)
            logger.info("%s/%s: %s; again in %.1f s", *key, error, wait)
            return
        except (StoreError, Corrupt, ApiError, ApiUnreachable) as error:
            wait = self._queue.failed(key)
            self.metrics.reconciled(key, "error", time.monotonic() - started)
            logger.warning("%s/%s: %s; again in %.1f s", *key, error, wait)
            return
        except Exception:
            wait = self._queue.failed(key)
            self.metrics.reconciled(key, "error", time.monotonic() - started)
            logger.exception("%s/%s: this is a bug in Potstill; again in %.1f s", *key, wait)
            return
        self._queue.succeeded(key)
        self.metrics.reconciled(key, "success", time.monotonic() - started)
        if status is not None:
            self._queue.add(key, self._pause_seconds(item))

    def _pause_seconds(self, item: Json) -> float:
        if not self._reconciler.is_quiet(item):
            return self._busy_seconds
        seconds = max(self._busy_seconds, self._reconciler.experiments / TIMED_ROUNDS_PER_SECOND)
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
