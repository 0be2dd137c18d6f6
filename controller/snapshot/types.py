"""The snapshots that `decide` reads: frozen values, made once per round by SnapshotReader and an executor.

No I/O here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

from workloads.api import store_keys
from workloads.api.records import Failure, Marker, Progress, TaskEnd
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer, Owner, RunnableTask, StageTask
from workloads.api.units import ExternalInputs, UnitRef
from workloads.stages.registry import final_marker

Role = str
"""The name of a stage."""

WEIGHTS = "weights"
"""Replaces the task's key for the Job that downloads a base to its volume."""


@dataclass(frozen=True)
class Unknown:
    """The store or the executor did not answer: nothing may be concluded from missing objects."""

    reason: str
    message: str


@dataclass(frozen=True)
class Attempt:
    """One task of a unit with its records; `failure` only while it is open.

    `offers`: its engine's log of task keys; None closes it.
    """

    task: RunnableTask | MemberPointer
    end: TaskEnd | None = None
    progress: Progress | None = None
    failure: Failure | None = None
    offers: tuple[str | None, ...] = ()

    @property
    def number(self) -> int:
        return self.task.number

    @property
    def lead_key(self) -> str:
        """The key of the task that runs this attempt: its own, or its leader's for a member of a group."""
        if isinstance(self.task, MemberPointer):
            return store_keys.task_key(self.task.lead, self.task.lead_number)
        return self.task.key


@dataclass(frozen=True)
class UnitView:
    """A unit in the store. `retried_through`: attempts up to this number no longer count, because a user asked for a
    retry.

    `unreadable`: what is wrong and what to do, by the key of each task, end, offer or marker that cannot be read. Its
    attempt or marker is left out of the others.
    """

    unit: UnitRef
    attempts: tuple[Attempt, ...] = ()
    markers: Mapping[str, Marker] = field(default_factory=dict)
    retried_through: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return final_marker(self.unit.kind) in self.markers

    @cached_property
    def open_attempts(self) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self.attempts if attempt.end is None)

    @property
    def next_number(self) -> int:
        return max((attempt.number for attempt in self.attempts), default=0) + 1


@dataclass(frozen=True)
class Folded:
    """The last written manifest: `of` identifies the records that it was made from, `grades` is their number.

    `corrupt`: the reason, by evaluation id, for evaluations whose committed files are missing or differ.
    """

    of: str
    sha256: str
    grades: int
    at: datetime
    corrupt: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoreSnapshot:
    units: Mapping[UnitRef, UnitView]
    folded: Folded | None = None

    @cached_property
    def open_generations(self) -> Mapping[str, GenerateTask]:
        """Open generate tasks by key."""
        attempts = (attempt for view in self.units.values() for attempt in view.open_attempts)
        tasks = (attempt.task for attempt in attempts if isinstance(attempt.task, GenerateTask))
        return {task.key: task for task in tasks}

    def unit(self, ref: UnitRef) -> UnitView:
        return self.units.get(ref) or UnitView(ref)

    def markers(self) -> dict[UnitRef, dict[str, Marker]]:
        return {ref: dict(view.markers) for ref, view in self.units.items()}


@dataclass(frozen=True)
class Job:
    """A Kubernetes Job or a subprocess that runs one task, identified by the task's key.

    `exit_code`: None after the end if it is unknown. `preempted`: it was ended for a reason outside of the work.
    """

    key: str
    phase: Literal["pending", "running", "stopping", "ended"]
    created: datetime
    started: datetime | None = None
    stopping: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    preempted: bool = False
    reason: str = ""
    message: str = ""
    gpus: int = 0


@dataclass(frozen=True)
class Pool:
    """At most `slots` tasks of these roles run at one time. New tasks leave `reserved_for_others` slots to experiments
    that have waited longer.

    `quota_message`: the reason of tasks that wait only for this pool; "" if there is none.
    """

    roles: frozenset[Role]
    slots: int
    reserved_for_others: int = 0
    quota_message: str = ""


@dataclass(frozen=True)
class Refusal:
    """The cluster refused a task's Job, so nothing ran. The next try is at `retry_at` or later."""

    message: str
    retry_at: datetime


@dataclass(frozen=True)
class Weights:
    """The base on the volume from which trainings and evaluations read it."""

    state: Literal["absent", "arriving", "ready", "failed"]
    message: str = ""


@dataclass(frozen=True)
class JobsSnapshot:
    """All Jobs of the store's namespace or machine, of every owner.

    `gone_owners`: experiments that certainly have no runner or controller, so that their tasks may be taken over.
    `weights`: None if no download of the base is needed. `refused`: by task key. `refused_before`: Jobs of tasks
    written before this time may have been refused to an earlier controller; None if not.
    """

    jobs: Mapping[str, Job]
    gone_owners: frozenset[Owner] = frozenset()
    pools: tuple[Pool, ...] = ()
    weights: Weights | None = None
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    refused_before: datetime | None = None

    def may_have_been_refused(self, task: RunnableTask) -> bool:
        """Returns whether the task may never have had a Job, at any age."""
        before = self.refused_before
        return task.key in self.refused or (before is not None and task.created <= before)


def role_of(task: RunnableTask | MemberPointer) -> Role:
    return task.unit.kind if isinstance(task, MemberPointer | StageTask) else task.type


def members_of(task: RunnableTask) -> tuple[tuple[UnitRef, int], ...]:
    """Returns (unit, number) of every member, the leader first; a task without a group is its own only member."""
    if isinstance(task, GenerateTask | GradeTask):
        return tuple((member.unit, member.number) for member in task.members)
    return ((task.unit, task.number),)


def is_import(inputs: object) -> bool:
    return isinstance(inputs, ExternalInputs)
