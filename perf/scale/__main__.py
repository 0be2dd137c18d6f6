"""How one controller bears many Experiments: delays, CPU, memory and requests, on a real API server and S3 server.

    python -m perf.scale 10 100 300 --json build/scale.json
    python -m perf.scale 1000 --runs 4 --markers 20000         5 Jobs of each, 20,000 markers
    python -m perf.scale 100 --code ../before                  the packages of another checkout

For each number of Experiments, in a control plane of its own: all are applied at once; nothing happens for a minute;
in the next minute each training commits a checkpoint; the controller is ended and started again. An Experiment has so
many `--runs`, whose first checkpoints one Job evaluates. Trainings differ by their seed, the base is evaluated once
for all. Pods run on kwok's simulated nodes and do nothing: this program commits
and writes notices in their place, with Potstill's own code. Before the restart so many `--markers` are committed that
there are as many in all. Everything is on one machine: the control plane, the S3 server and this program share the
controller's cores.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.executors.kubernetes.api import ApiError, ApiUnreachable, connect
from controller.executors.kubernetes.names import EXPERIMENT_LABEL, ROLE_LABEL, TASK_ANNOTATION
from perf.scale.cluster import Cluster, Window, cluster
from tests.cluster.world import experiment
from workloads.api import store_keys
from workloads.api.model import sha256_of
from workloads.api.records import CheckpointRecord, Marker, StateRecord
from workloads.api.units import UnitRef
from workloads.storage.base import Store
from workloads.storage.markers import commit_marker
from workloads.storage.s3.store import S3Store

QUIET_SECONDS = 60.0
SETTLE_SECONDS = 30.0
"""From the last Job to the quiet time, at least."""
MOST_SECONDS = 420.0
"""For anything that is waited for; what has not come by then is counted as missing."""
STEADY_SECONDS = 60.0
"""So long after all had a round a controller that was started again may take to be steady."""
LISTS_PER_SECOND = 5.0
"""Steady is a controller that makes no more."""
Json = dict[str, Any]


class JobWatch:
    """When each Job was first seen: (experiment, role) -> [(monotonic seconds, task's key)]."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = connect(cluster.plane.kubeconfig())
        self._path = f"/apis/batch/v1/namespaces/{cluster.namespace}/jobs"
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self.seen: dict[tuple[str, str], list[tuple[float, str]]] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        version = "0"
        while True:
            try:
                query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "600"}
                for event in self._api.stream(self._path, query, 600.0):
                    if event["type"] == "ERROR":
                        version = "0"
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["object"]["metadata"])
            except (ApiError, ApiUnreachable):
                time.sleep(0.5)

    def _take(self, metadata: Json) -> None:
        if metadata["uid"] in self._known or TASK_ANNOTATION not in metadata.get("annotations", {}):
            return
        self._known.add(metadata["uid"])
        key = (metadata["labels"][EXPERIMENT_LABEL], metadata["labels"][ROLE_LABEL])
        with self._lock:
            self.seen.setdefault(key, []).append((time.monotonic(), metadata["annotations"][TASK_ANNOTATION]))

    def first(self, role: str, since: dict[str, float]) -> dict[str, float]:
        """Seconds from `since` to the first Job after it, by experiment."""
        with self._lock:
            found = {
                name: [at for at, _ in self.seen.get((name, role), []) if at >= begun] for name, begun in since.items()
            }
        return {name: min(times) - since[name] for name, times in found.items() if times}

    def tasks(self) -> list[str]:
        with self._lock:
            return [key for jobs in self.seen.values() for _, key in jobs]

    def tasks_of(self, name: str, role: str) -> list[str]:
        with self._lock:
            return [key for _, key in self.seen.get((name, role), [])]


class Programs:
    """What the pods' programs would write."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._noticed: set[str] = set()

    def begin(self, tasks: Sequence[str]) -> None:
        """The notice that a program writes when it starts, once for each task."""
        new = [key for key in tasks if key not in self._noticed]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda key: self._notify(*_unit_of(key)), new))
        self._noticed.update(new)

    def commit_checkpoint(self, task: str) -> None:
        unit, number = _unit_of(task)
        files = {}
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            files[name] = self._folder / f"{unit.digest[:12]}-{name}"
            files[name].write_text(f"{unit.digest} {name}")
        record = CheckpointRecord(samples=12, step=3)
        commit_marker(self._store, unit, number, store_keys.checkpoint_marker(12), files, record, now=datetime.now(UTC))
        self._notify(unit, number)

    def commit_states(self, tasks: Sequence[str], each: int) -> None:
        """Markers alone, so that there are many."""

        def write(task: str) -> None:
            unit, number = _unit_of(task)
            for step in range(1, each + 1):
                name = store_keys.state_marker(step)
                content = sha256_of(f"{unit.digest} {name}".encode())
                record = StateRecord(step=step, samples=step)
                now = datetime.now(UTC)
                marker = Marker(
                    unit=unit, name=name, attempt=number, content=content, files=(), created=now, record=record
                ).with_checksum()
                self._store.put_new(store_keys.marker_key(unit, name), marker.to_json())

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, tasks))

    def _notify(self, unit: UnitRef, number: int) -> None:
        self._store.put(
            store_keys.notice_key(unit, number), json.dumps({"time": datetime.now(UTC).isoformat()}).encode()
        )


def _unit_of(task: str) -> tuple[UnitRef, int]:
    _, kind, digest, _, name = task.split("/")
    unit = UnitRef.model_validate({"kind": kind, "digest": digest})
    return unit, int(name.removesuffix(".json"))


def apply_all(cluster: Cluster, names: Sequence[str], runs: int) -> dict[str, float]:
    """When each was asked for."""
    begun: dict[str, float] = {}

    def apply(numbered: tuple[int, str]) -> None:
        number, name = numbered
        body = experiment()
        body["metadata"]["name"] = name
        (run,) = body["spec"]["runs"]
        body["spec"]["runs"] = [{**run, "name": f"r{each}", "seed": number * runs + each} for each in range(runs)]
        begun[name] = time.monotonic()
        cluster.plane.api.post(cluster.path, body)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(apply, enumerate(names)))
    return begun


def until(condition: Callable[[], bool], seconds: float = MOST_SECONDS) -> float:
    """Seconds until it was true, or `seconds`."""
    began = time.monotonic()
    while not condition() and time.monotonic() - began < seconds:
        time.sleep(0.2)
    return time.monotonic() - began


def spread(delays: dict[str, float], asked: int) -> Json:
    """Seconds; `missing`: those that had not come in time."""
    values = sorted(delays.values())
    if not values:
        return {"missing": asked}
    p99 = values[min(len(values) - 1, round(0.99 * (len(values) - 1)))]
    return {"median": round(statistics.median(values), 2), "p99": round(p99, 2), "most": round(values[-1], 2),
            "missing": asked - len(values)}  # fmt: skip


def lists(requests: Json) -> int:
    return sum(count for kind, count in requests.items() if kind == "REST.GET.BUCKET" or "list" in kind.lower())


def settle(cluster: Cluster, meanwhile: Callable[[], None]) -> float:
    """Seconds until the controller made few LISTs for ten seconds, SETTLE_SECONDS at least, MOST_SECONDS at most."""
    began = opened = time.monotonic()
    cluster.s3_requests.reset()
    made = 0
    while time.monotonic() - began < MOST_SECONDS:
        meanwhile()
        time.sleep(1)
        made += lists(cluster.s3_requests.take())
        if time.monotonic() - opened >= 10:
            if made <= LISTS_PER_SECOND * (time.monotonic() - opened) and time.monotonic() - began >= SETTLE_SECONDS:
                break
            made, opened = 0, time.monotonic()
    return time.monotonic() - began


def restart(cluster: Cluster, experiments: int) -> Json:
    """From the kill of the controller to the first ten seconds with at most LISTS_PER_SECOND after all had a round."""
    assert cluster.controller is not None
    cluster.stop_controller()
    cluster.s3_requests.reset()
    began = time.monotonic()
    cluster.start_controller()
    until(cluster.is_ready)
    ready = time.monotonic() - began
    until(lambda: cluster.rounds() >= experiments)
    rounds = time.monotonic() - began
    steady = None
    while steady is None and time.monotonic() - began < rounds + STEADY_SECONDS:
        cluster.s3_requests.take()
        opened = time.monotonic()
        time.sleep(10)
        if lists(cluster.s3_requests.take()) <= LISTS_PER_SECOND * (time.monotonic() - opened):
            steady = opened - began
    now, most = cluster.memory_mib()
    return {
        "readySeconds": round(ready, 1),
        "allHadARoundSeconds": round(rounds, 1),
        "steadySeconds": None if steady is None else round(steady, 1),
        "cpuSeconds": round(cluster.cpu_seconds(), 1),
        "memoryMiB": round(now),
        "mostMemoryMiB": round(most),
    }


def measure(experiments: int, runs: int, markers: int, code: Path, quiet_seconds: float, folder: Path) -> Json:
    names = [f"e{number:04d}" for number in range(experiments)]
    with cluster(folder, code) as made:
        store = S3Store(made.s3.client(retries=3), made.s3.bucket, made.namespace, 120.0)
        programs = Programs(store, folder)
        jobs = JobWatch(made)
        made.start_controller()
        until(made.is_ready)
        window = Window(made).open()
        applied = apply_all(made, names, runs)
        until(lambda: len(jobs.first("train", applied)) == experiments)
        result: Json = {
            "experiments": experiments,
            "runs": runs,
            "applyToJob": spread(jobs.first("train", applied), experiments),
        }
        result["applying"] = window.close()
        say(result)
        until(lambda: sum(len(jobs.tasks_of(name, "train")) for name in names) == experiments * runs)
        result["settleSeconds"] = round(settle(made, lambda: programs.begin(jobs.tasks())), 1)
        window.open()
        time.sleep(quiet_seconds)
        result["quiet"] = window.close()
        say(result["quiet"])

        trainings = {name: tasks for name in names if (tasks := jobs.tasks_of(name, "train"))}
        order = random.Random(0).sample(sorted(trainings), len(trainings))
        committed: dict[str, float] = {}
        window.open()
        began = time.monotonic()
        for place, name in enumerate(order):
            time.sleep(max(0.0, began + place * quiet_seconds / len(order) - time.monotonic()))
            for task in trainings[name]:
                programs.commit_checkpoint(task)
            committed[name] = time.monotonic()
        until(lambda: len(jobs.first("generate", committed)) == len(committed))
        result["markerToJob"] = spread(jobs.first("generate", committed), len(committed))
        result["committing"] = window.close()
        say(result["markerToJob"])
        programs.begin(jobs.tasks())

        all_trainings = [task for tasks in trainings.values() for task in tasks]
        each = max(0, markers // len(all_trainings) - 1)
        programs.commit_states(all_trainings, each)
        result["jobs"], result["markers"] = len(jobs.tasks()), len(all_trainings) * (each + 1)
        result["restart"] = restart(made, experiments)
        say(result["restart"])
        return result


def say(result: Json) -> None:
    print(json.dumps(result), file=sys.stderr, flush=True)


def table(results: Sequence[Json]) -> str:
    """Markdown, a row for each number of Experiments."""
    head = (
        "| Experiments | Jobs, markers | apply to Job, s (median, p99) | marker to Job, s (median, p99) "
        "| quiet: cores, API requests/s, S3 requests/s (LISTs) | memory, MiB | restart to steady, s |"
    )
    lines = [head, "|---|---|---|---|---|---|---|"]
    for one in results:
        quiet, again = one["quiet"], one["restart"]
        seconds = quiet["seconds"]
        api, s3 = sum(quiet["apiRequests"].values()), sum(quiet["s3Requests"].values())
        lines.append(
            f"| {one['experiments']:,} | {one['jobs']:,}, {one['markers']:,} | {_pair(one['applyToJob'])} "
            f"| {_pair(one['markerToJob'])} | {quiet['cores']:.2f}, {api / seconds:.1f}, {s3 / seconds:.1f} "
            f"({lists(quiet['s3Requests']) / seconds:.1f}) | {again['mostMemoryMiB']} "
            f"| {again['steadySeconds'] or 'not reached'} |"
        )
    return "\n".join(lines)


def _pair(found: Json) -> str:
    if "median" not in found:
        return "none came"
    missing = f", {found['missing']} missing" if found["missing"] else ""
    return f"{found['median']}, {found['p99']}{missing}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", type=int, nargs="+")
    parser.add_argument("--runs", type=int, default=1, help="of each Experiment")
    parser.add_argument("--markers", type=int, default=0, help="committed before the restart, in all")
    parser.add_argument("--quiet", type=float, default=QUIET_SECONDS, help="seconds in which nothing happens")
    parser.add_argument("--code", type=Path, default=Path(__file__).parents[2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results, code = [], arguments.code.resolve()
    for number in arguments.experiments:
        with tempfile.TemporaryDirectory(prefix="potstill-scale-") as folder:
            results.append(measure(number, arguments.runs, arguments.markers, code, arguments.quiet, Path(folder)))
        if arguments.json:
            machine = f"{os.cpu_count()} cores, {platform.machine()}"
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
