"""The cost of a decision is proportional to the number of units, counted in calls of Python functions, not in
seconds.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from types import FrameType

from controller.planner.actions import WriteTask
from controller.planner.planner import decide
from controller.snapshot.types import Attempt, Job, JobsSnapshot, StoreSnapshot, UnitView
from tests.controller.experiments import START, experiment, run
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.model import sha256_of
from workloads.api.records import CheckpointRecord, Marker, Progress
from workloads.api.tasks import GenerateTask


def at_work(checkpoints: int) -> tuple[FrozenExperiment, StoreSnapshot, JobsSnapshot]:
    """Each checkpoint is evaluated by a separate engine, and all are running."""
    limits = Limits(evaluation_slots=10_000, group_members=1)
    samples = tuple(range(50, 50 * (checkpoints + 1), 50))
    frozen = experiment((run("a", samples),), ("sums",), limits=limits)
    unit = train_unit(frozen.runs[0])
    markers = {}
    for count in samples:
        name, record = store_keys.checkpoint_marker(count), CheckpointRecord(samples=count, step=count)
        markers[name] = Marker(
            unit=unit, name=name, attempt=1, content=sha256_of(name.encode()), files=(), created=START, record=record
        )
    units = {unit: UnitView(unit, markers=markers)}
    jobs = {}
    for action in decide(frozen, StoreSnapshot(units), JobsSnapshot({}), START).actions:
        if isinstance(action, WriteTask):
            task = action.task
            members = {m.unit.digest: 1 for m in task.members} if isinstance(task, GenerateTask) else {}
            progress = Progress(
                attempt=1, updated=START, phase="work", done=0, total=1, counted="outputs", members=members
            )
            view = units.get(task.unit, UnitView(task.unit))
            units[task.unit] = replace(view, attempts=(Attempt(task, progress=progress),))
            jobs[task.key] = Job(task.key, "running", START, started=START)
    assert len(jobs) > checkpoints
    return frozen, StoreSnapshot(units), JobsSnapshot(jobs)


def calls_of_a_decision(checkpoints: int) -> int:
    frozen, store, executor = at_work(checkpoints)
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        decide(frozen, store, executor, START + timedelta(seconds=60))
    finally:
        sys.setprofile(before)
    return calls


def test_twice_the_evaluations_cost_twice_the_calls() -> None:
    assert calls_of_a_decision(120) < 2.3 * calls_of_a_decision(60)
