"""The world as decide sees it: frozen values, read once per round by `observe` and an executor. No I/O here."""

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
"""What the Job that brings a base to its volume has in place of a task's key."""


@dataclass(frozen=True)
class Unknown:
    """The store or the executor did not answer: nothing may be concluded from what is not seen."""

    reason: str
    message: str


@dataclass(frozen=True)
class Attempt:
    """One task of a unit and what is known of it; `failure` only while it is open.

    `offers`: its engine's log, task keys, None closing it.
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
        """Key of the task that runs this attempt: its own, or for a group's member the lead's."""
        if isinstance(self.task, MemberPointer):
            return store_keys.task_key(self.task.lead, self.task.lead_number)
        return self.task.key


@dataclass(frozen=True)
class UnitView:
    """A unit in the store. `retried_through`: a person asked that attempts up to it no longer count.

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
    """The manifest as last written: `of` identifies the records that it was folded from, `grades` counts them.

    `corrupt`: why, by evaluation id, of evaluations whose committed files are missing or differ.
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
        """Open generate tasks by their keys."""
        attempts = (attempt for view in self.units.values() for attempt in view.open_attempts)
        tasks = (attempt.task for attempt in attempts if isinstance(attempt.task, GenerateTask))
        return {task.key: task for task in tasks}

    def unit(self, ref: UnitRef) -> UnitView:
        return self.units.get(ref) or UnitView(ref)

    def markers(self) -> dict[UnitRef, dict[str, Marker]]:
        return {ref: dict(view.markers) for ref, view in self.units.items()}


@dataclass(frozen=True)
class Job:
    """A Kubernetes Job or a subprocess: the work of one task, known by the task's key.

    `exit_code` None at the end: nobody saw it. `preempted`: it was ended for a reason that is not the work's fault.
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
    """At most `slots` tasks of these roles run at one time; new ones leave `reserved_for_others` slots to
    experiments that have waited longer.

    `quota_message`: the reason of tasks that wait for this pool alone; "" if there is none.
    """

    roles: frozenset[Role]
    slots: int
    reserved_for_others: int = 0
    quota_message: str = ""


@dataclass(frozen=True)
class Refusal:
    """The cluster did not let a task's Job be made, so nothing ran. It is asked again from `retry_at` on."""

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

    `gone_owners`: experiments that are known to have nobody acting for them, so that their tasks may be taken over.
    `weights` None: nobody has to bring the base anywhere. `refused`: by task key. `refused_before`: Jobs of tasks that
    were written until then may have been refused to a controller before this one; None: no such thing is known.
    """

    jobs: Mapping[str, Job]
    gone_owners: frozenset[Owner] = frozenset()
    pools: tuple[Pool, ...] = ()
    weights: Weights | None = None
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    refused_before: datetime | None = None

    def may_have_been_refused(self, task: RunnableTask) -> bool:
        """Whether the task may never have had a Job, however old it is."""
        before = self.refused_before
        return task.key in self.refused or (before is not None and task.created <= before)


def role_of(task: RunnableTask | MemberPointer) -> Role:
    return task.unit.kind if isinstance(task, MemberPointer | StageTask) else task.type


def members_of(task: RunnableTask) -> tuple[tuple[UnitRef, int], ...]:
    """(unit, number) of every member, the lead first; a task that is no group is its own only member."""
    if isinstance(task, GenerateTask | GradeTask):
        return tuple((member.unit, member.number) for member in task.members)
    return ((task.unit, task.number),)


def is_import(inputs: object) -> bool:
    return isinstance(inputs, ExternalInputs)
