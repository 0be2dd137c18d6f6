"""Plays a schedule on a cluster, and says what was not kept."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.executors.kubernetes.names import CLOSED_ANNOTATION
from tests.cluster.harness import ControlPlane, control_plane
from tests.cluster.harness.audit import JOB_CREATIONS, created_jobs
from tests.cluster.world import serve_experiments
from tests.faults.cluster_faults import FaultyRun
from tests.faults.cluster_stack import ClusterStack, cluster_stack
from tests.faults.drive import Played, drive
from tests.faults.lab import Lab, compared, programs
from tests.faults.play import damaged_files, open_tasks
from tests.faults.schedules import Schedule
from tests.faults.stack import started_in
from tests.tools.processes import NotInTimeError, wait_until
from workloads.api import store_keys

DEADLINE_SECONDS = 360.0
CLOSED_SECONDS = 60.0


@contextmanager
def cluster_lab(folder: Path) -> Iterator[Lab]:
    """Yields a lab like `lab`, with the manifest of an undisturbed run on a cluster.

    Raises AssertionError if that run does not succeed.
    """
    with programs(folder) as made:
        kept = folder / "undisturbed-cluster"
        if not (kept / "manifest").exists():
            shutil.rmtree(kept, ignore_errors=True)
            with audited_plane() as plane:
                manifest = undisturbed(made, plane, kept)
            (kept / "manifest").write_text(json.dumps(manifest))
        yield replace(made, manifest=json.loads((kept / "manifest").read_text()))


@contextmanager
def audited_plane() -> Iterator[ControlPlane]:
    """A control plane that serves Experiments and notes which Jobs are made."""
    with control_plane(audit=JOB_CREATIONS) as plane:
        serve_experiments(plane)
        yield plane


def undisturbed(lab: Lab, plane: ControlPlane, folder: Path) -> Any:
    schedule = Schedule(-1, "s3", ())
    with cluster_stack(lab, plane, folder) as made:
        drive(FaultyRun(made), schedule, Played(schedule), DEADLINE_SECONDS)
        manifest = compared(made.store_folder, made.uid8())
        broken = broken_promises(made, replace(lab, manifest=manifest))
        assert not broken, broken
        return manifest


def play_on_cluster(
    lab: Lab, schedule: Schedule, folder: Path, plane: ControlPlane | None = None, *, keep: bool = False
) -> Played:
    """`folder` must not exist; it is removed unless something was broken or `keep`. No `plane`: one for this schedule."""
    if plane is None:
        with audited_plane() as own:
            played = play_on_cluster(lab, schedule, folder, own, keep=keep)
            own.keep_folder = bool(played.broken)
            return played
    played = Played(schedule)
    begin = time.monotonic()
    with cluster_stack(lab, plane, folder) as made:
        try:
            drive(FaultyRun(made), schedule, played, DEADLINE_SECONDS)
            played.broken += broken_promises(made, lab)
        except (AssertionError, NotInTimeError) as error:
            played.broken.append(str(error))
        played.seconds, played.runs = time.monotonic() - begin, made.runs
        failed = len(made.pods.failures)
        played.notes += [f"{len(made.pods.started)} pods", *([f"{failed} containers ended badly"] if failed else [])]
    if not played.broken and not keep:
        shutil.rmtree(folder)
    return played


def broken_promises(made: ClusterStack, lab: Lab) -> list[str]:
    """Returns the promises that were broken for an Experiment that has succeeded, in words."""
    uid8 = made.uid8()
    found = []
    if compared(made.store_folder, uid8) != lab.manifest:
        found.append("the manifest is not that of an undisturbed run")
    found += doubled_jobs(created_jobs(made.plane, made.namespace))
    starts = Counter((module, *words) for _, module, words in started_in(made.starts))
    found += [f"{' '.join(start)} was started {count} times" for start, count in starts.items() if count > 1]
    found += damaged_files(made.direct())
    found += [f"{key} has no end" for key in left_open(made, uid8)]
    status = made.plane.api.get(f"{made.path}/faulty")["status"]
    if not str(status["manifest"]).endswith(f"/{store_keys.manifest_key('faulty', uid8)}"):
        found.append(f"the status names the manifest of another Experiment: {status['manifest']}")
    return found + [f"Job {name} was not closed" for name in unclosed_jobs(made)]


def doubled_jobs(created: list[str]) -> list[str]:
    """Returns a line for each task with more than one Job. `created`: the task key of each Job."""
    return [f"{count} Jobs were made for {key}" for key, count in Counter(created).items() if count > 1]


def left_open(made: ClusterStack, uid8: str) -> list[str]:
    """Tasks of the Experiment that is there, and of units that it shares with one before it."""
    store = made.direct()
    found = []
    for key in open_tasks(store.list("units/")):
        task = json.loads(store.get(key))
        if key.split("/")[1] != "report" or task["owner"]["uid8"] == uid8:
            found.append(key)
    return found


def unclosed_jobs(made: ClusterStack) -> list[str]:
    """Names of Jobs that are not marked as read, a while after the end."""

    def unclosed() -> list[str]:
        jobs = [job["metadata"] for job in made.jobs()]
        return [job["name"] for job in jobs if CLOSED_ANNOTATION not in job.get("annotations", {})]

    try:
        wait_until(lambda: not unclosed(), "all Jobs are closed", CLOSED_SECONDS)
    except NotInTimeError:
        return unclosed()
    return []
