"""What is started now: first what was written and never started, then new tasks as far as the slots go."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.planner.actions import (
    Action,
    CloseTask,
    Discard,
    OfferTask,
    Reason,
    Start,
    Stop,
    WritePointers,
    WriteTask,
)
from controller.planner.completion_checks import accepted_host, never_started, within_start_grace
from controller.planner.engine_admission import RunningEngine, chosen, running_engines, split_offers
from controller.planner.pending_tasks import PendingTask
from controller.planner.unit_state import is_live, owner_of
from controller.snapshot.types import Attempt, JobsSnapshot, Pool, Role, StoreSnapshot, members_of, role_of
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer, RunnableTask, TaskRef
from workloads.api.units import UnitRef

LIMIT_REACHED = "LimitReached"
"""The reason of a task that has no slot because its pool is full and says why (`Pool.quota_message`)."""


@dataclass(frozen=True)
class Scheduled:
    """`waiting`: units that are ready and wait for a pool that says so, with what it says. `gathering`: units that are
    ready and wait for others, with how long still.
    """

    actions: tuple[Action, ...] = ()
    waiting: Mapping[UnitRef, Reason] = field(default_factory=dict)
    gathering: Mapping[UnitRef, Reason] = field(default_factory=dict)


def stops(
    store: StoreSnapshot, executor: JobsSnapshot, closing: Iterable[CloseTask], frozen: FrozenExperiment
) -> list[Action]:
    """Jobs of our closed tasks: the live are stopped, the ended forgotten. What this round closes is included."""
    owner = owner_of(frozen)
    ends = {(close.unit, close.end.number): close.end for close in closing}
    found: list[Action] = []
    for view in store.units.values():
        for attempt in view.attempts:
            job = executor.jobs.get(attempt.task.key)
            end = attempt.end or ends.get((view.unit, attempt.number))
            if job is None or end is None or isinstance(attempt.task, MemberPointer) or attempt.task.owner != owner:
                continue
            if job.phase == "ended":
                found.append(Discard(job.key, Reason("Closed", f"its task ended {end.outcome}")))
            elif job.phase != "stopping":
                found.append(Stop(job.key, Reason(end.reason, end.message)))
    return found


def unstarted(
    frozen: FrozenExperiment, store: StoreSnapshot, executor: JobsSnapshot, closing: Iterable[CloseTask], now: datetime
) -> list[Action]:
    """Tasks that a crash left between being written and being started, with their pointers, as far as slots go.

    They hold a slot already; after a crash others may have taken it. One that waits too long for it is lost. One whose
    Job was refused is tried again when its pause is over.
    The task of a checkpoint that is being handed in is `potstill publish`'s own: no program runs it.
    """
    owner = owner_of(frozen)
    handed_in = {train_unit(run) for run in frozen.runs if run.published}
    holding = holders(frozen, store, executor, closing, now)
    busy = Counter(role for key, role in holding.items() if key in executor.jobs)
    closed = {(close.unit, close.end.number) for close in closing}
    found: list[Action] = []
    for view in store.units.values():
        for attempt in view.open_attempts:
            task = attempt.task
            if isinstance(task, MemberPointer) or task.owner != owner or (view.unit, attempt.number) in closed:
                continue
            if task.key in executor.jobs or not never_started(attempt, store):
                continue
            refusal = executor.refused.get(task.key)
            if not (within_start_grace(attempt, now) or executor.may_have_been_refused(task)):
                continue
            if refusal is not None and now < refusal.retry_at:
                continue
            if view.unit in handed_in or accepted_host(attempt, store) is not None:
                continue
            why = Reason("NotStarted", "the task was written but never started")
            host = _open_host(attempt, store, executor)
            if host is None:
                role = role_of(task)
                if _host_is_live(attempt, executor) or _over(executor.pools, busy, role):
                    continue
                busy[role] += 1
            found += launch(task, why, missing_pointers=_pointers_missing(task, store), host=host)
    return found


def _pointers_missing(task: RunnableTask, store: StoreSnapshot) -> bool:
    return any(store.unit(unit).next_number <= number for unit, number in members_of(task) if unit != task.unit)


def launch(
    task: RunnableTask, why: Reason, *, missing_pointers: bool, host: tuple[TaskRef, int] | None = None
) -> list[Action]:
    """Pointers before the start, so that the program finds its members."""
    actions: list[Action] = []
    if isinstance(task, GenerateTask | GradeTask) and missing_pointers:
        actions.append(WritePointers(task, why))
    if host is not None and isinstance(task, GenerateTask):
        actions.append(OfferTask(host[0], host[1], task, why))
    else:
        actions.append(Start(task, why))
    return actions


def _open_host(attempt: Attempt, store: StoreSnapshot, executor: JobsSnapshot) -> tuple[TaskRef, int] | None:
    """The engine that this task was written for and the next entry of its log, while the log is open."""
    task = attempt.task
    if not isinstance(task, GenerateTask) or task.host is None or task.host.key not in executor.jobs:
        return None
    for other in store.unit(task.host.unit).attempts:
        if other.number == task.host.number and other.end is None and None not in other.offers:
            return task.host, len(other.offers) + 1
    return None


def new_tasks(
    frozen: FrozenExperiment,
    store: StoreSnapshot,
    executor: JobsSnapshot,
    wanting: Iterable[PendingTask],
    closing: Iterable[CloseTask],
    now: datetime,
) -> Scheduled:
    """Each candidate in turn: to an engine that takes it (`hosts`), else where every pool of its role has a slot.

    What a pool owes to others is left to them, by engines too: one that is offered nothing more ends. So it is where a
    candidate waits that no engine at work can take. Nothing gathers that an engine takes.
    """
    wanting = list(wanting)
    pools = (*_pools(frozen.limits), *executor.pools)
    busy = Counter(holders(frozen, store, executor, closing, now).values())
    engines = running_engines(frozen, store, executor, closing)
    others_wait = _over(pools, busy, "generate", more=0, reserved_for_others=True)
    is_full = _over(pools, busy, "generate", reserved_for_others=True)
    if others_wait or (is_full and not all(_joins(candidate, engines) for candidate in wanting)):
        engines = []
    found: list[Action] = []
    waiting: dict[UnitRef, Reason] = {}
    gathering: dict[UnitRef, Reason] = {}
    for candidate in wanting:
        task, role = candidate.task, role_of(candidate.task)
        full = _over(pools, busy, role, reserved_for_others=True)
        left: RunnableTask | None = task
        while isinstance(left, GenerateTask):
            host = chosen(engines, left, suspected=candidate.suspected, must_wait=bool(full))
            if host is None:
                break
            engines.remove(host)
            part, left = split_offers(left, host)
            why = Reason("Joins", f"{candidate.why.message}; {len(part.members)} in the engine of {host.task.key}")
            found.append(WriteTask(part, why))
            log_end = (host.task, host.sequence)
            found += launch(part, why, missing_pointers=len(part.members) > 1, host=log_end)
        if left is None:
            continue
        task = left
        if candidate.gathers_until is not None and now < candidate.gathers_until:
            seconds = (candidate.gathers_until - now).total_seconds()
            why = Reason("Gathering", f"waits up to {seconds:.0f} s for others to share its engine")
            gathering |= {unit: why for unit, _ in members_of(task)}
            continue
        if not full:
            busy[role] += 1
            found.append(WriteTask(task, candidate.why))
            found += launch(task, candidate.why, missing_pointers=len(members_of(task)) > 1)
        elif all(pool.quota_message for pool in full):
            why = Reason(LIMIT_REACHED, full[0].quota_message)
            waiting |= {unit: why for unit, _ in members_of(task)}
    return Scheduled(tuple(found), waiting, gathering)


def _joins(candidate: PendingTask, engines: Sequence[RunningEngine]) -> bool:
    task = candidate.task
    if not isinstance(task, GenerateTask):
        return True
    return chosen(engines, task, suspected=candidate.suspected, must_wait=True) is not None


def _over(
    pools: Iterable[Pool], busy: Mapping[Role, int], role: Role, *, more: int = 1, reserved_for_others: bool = False
) -> list[Pool]:
    """The pools of this role that `more` tasks of it would overfill, with or without what they owe to others."""
    return [
        pool
        for pool in pools
        if role in pool.roles
        and sum(busy[r] for r in pool.roles) + more
        > pool.slots - (pool.reserved_for_others if reserved_for_others else 0)
    ]


def _host_is_live(attempt: Attempt, executor: JobsSnapshot) -> bool:
    """The engine closed its log and still holds its slot: the task waits for it to end."""
    host = attempt.task.host if isinstance(attempt.task, GenerateTask) else None
    job = executor.jobs.get(host.key) if host is not None else None
    return job is not None and job.phase != "ended"


def _pools(limits: Limits) -> tuple[Pool, ...]:
    return (
        Pool(frozenset({"train"}), limits.training_slots),
        Pool(frozenset({"generate"}), limits.evaluation_slots),
        Pool(frozenset({"grade"}), limits.grading_slots),
        Pool(frozenset({"report"}), 1),
    )


def holders(
    frozen: FrozenExperiment, store: StoreSnapshot, executor: JobsSnapshot, closing: Iterable[CloseTask], now: datetime
) -> dict[str, Role]:
    """Keys of our tasks that hold a slot: open ones that this round does not close, and any whose Job is live."""
    owner = owner_of(frozen)
    closed = {(close.unit, close.end.number) for close in closing}
    found: dict[str, Role] = {}
    for view in store.units.values():
        for attempt in view.attempts:
            if isinstance(attempt.task, MemberPointer) or attempt.task.owner != owner:
                continue
            if accepted_host(attempt, store) is not None:
                continue
            job = executor.jobs.get(attempt.task.key)
            is_open = attempt.end is None and (view.unit, attempt.number) not in closed
            if is_open or (job is not None and is_live(job, now)):
                found[attempt.task.key] = role_of(attempt.task)
    return found
