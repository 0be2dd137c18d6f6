"""Starts tasks while slots are free: first tasks that were written and never started, then new ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.planner.actions import (
    Action,
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
from controller.planner.round import Round
from controller.planner.unit_state import is_live
from controller.snapshot.types import Attempt, JobsSnapshot, Pool, Role, StoreSnapshot, members_of, role_of
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer, RunnableTask, TaskRef
from workloads.api.units import UnitRef
from workloads.stages.generate import GENERATE
from workloads.stages.registry import stages_of

LIMIT_REACHED = "LimitReached"
"""The reason of a task that has no slot because its pool is full, with the pool's `quota_message`."""


@dataclass(frozen=True)
class Scheduled:
    """Actions, and units that are ready and must wait, with the reason.

    `waiting`: for a slot of a pool with a `quota_message`. `gathering`: for other units, within the batch window.
    """

    actions: tuple[Action, ...] = ()
    waiting: Mapping[UnitRef, Reason] = field(default_factory=dict)
    gathering: Mapping[UnitRef, Reason] = field(default_factory=dict)


def stops(round_: Round) -> list[Action]:
    """Stops the live Jobs of closed tasks of this experiment and discards the ended ones.

    Tasks that this round closes are included.
    """
    ends = {(close.unit, close.end.number): close.end for close in round_.closing}
    actions: list[Action] = []
    for attempt in round_.own_attempts:
        job = round_.jobs.jobs.get(attempt.task.key)
        end = attempt.end or ends.get((attempt.task.unit, attempt.number))
        if job is None or end is None or isinstance(attempt.task, MemberPointer):
            continue
        if job.phase == "ended":
            actions.append(Discard(job.key, Reason("Closed", f"its task ended {end.outcome}")))
        elif job.phase != "stopping":
            actions.append(Stop(job.key, Reason(end.reason, end.message)))
    return actions


def unstarted(round_: Round) -> list[Action]:
    """Starts tasks that were written and not started because of a crash, while slots are free.

    They hold a slot; after a crash other tasks may have taken it. A task that waits too long for a slot is lost. A task
    whose Job was refused is tried again after its backoff. The task of `potstill publish` is not started: no program
    runs it.
    """
    published = {train_unit(run) for run in round_.experiment.runs if run.published}
    snapshot = round_.jobs
    busy = Counter(role for key, role in slot_holders(round_).items() if key in snapshot.jobs)
    actions: list[Action] = []
    for attempt in round_.own_attempts:
        task = attempt.task
        if attempt.end is not None or isinstance(task, MemberPointer) or (task.unit, task.number) in round_.closed:
            continue
        if task.key in snapshot.jobs or not never_started(attempt, round_.store):
            continue
        refusal = snapshot.refused.get(task.key)
        if not (within_start_grace(attempt, round_.now) or snapshot.may_have_been_refused(task)):
            continue
        if refusal is not None and round_.now < refusal.retry_at:
            continue
        if task.unit in published or accepted_host(attempt, round_.store) is not None:
            continue
        why = Reason("NotStarted", "the task was written but never started")
        log_end = _open_log(attempt, round_)
        if log_end is None:
            role = role_of(task)
            if _host_is_live(attempt, snapshot) or _full_pools(snapshot.pools, busy, role):
                continue
            busy[role] += 1
        actions += launch(task, why, missing_pointers=_pointers_missing(task, round_.store), host=log_end)
    return actions


def _pointers_missing(task: RunnableTask, store: StoreSnapshot) -> bool:
    return any(store.unit(unit).next_number <= number for unit, number in members_of(task) if unit != task.unit)


def launch(
    task: RunnableTask, why: Reason, *, missing_pointers: bool, host: tuple[TaskRef, int] | None = None
) -> list[Action]:
    """Returns the actions that start `task`. Pointers are written first, because the program reads its members there.

    `host`: the engine that the task is offered to, and the next number in its log of offers. None: a new Job runs it.
    """
    actions: list[Action] = []
    if isinstance(task, GenerateTask | GradeTask) and missing_pointers:
        actions.append(WritePointers(task, why))
    if host is not None and isinstance(task, GenerateTask):
        actions.append(OfferTask(host[0], host[1], task, why))
    else:
        actions.append(Start(task, why))
    return actions


def _open_log(attempt: Attempt, round_: Round) -> tuple[TaskRef, int] | None:
    """Returns the engine that this task was written for and the next entry of its log, if the log is open."""
    task = attempt.task
    if not isinstance(task, GenerateTask) or task.host is None or task.host.key not in round_.jobs.jobs:
        return None
    for other in round_.store.unit(task.host.unit).attempts:
        if other.number == task.host.number and other.end is None and None not in other.offers:
            return task.host, len(other.offers) + 1
    return None


def new_tasks(round_: Round, pending: Sequence[PendingTask]) -> Scheduled:
    """Gives each pending task to a running engine (`engine_admission`), else to a new Job if all pools of its role have
    a slot.

    Slots that a pool reserves for others stay free. Engines get no offer while other experiments wait for a pool, or
    while a pending task waits that no running engine can take: the engines then end. A task that an engine takes does
    not wait for its batch window.
    """
    now = round_.now
    pools = (*_pools(round_.experiment), *round_.jobs.pools)
    busy = Counter(slot_holders(round_).values())
    engines = running_engines(round_)
    others_wait = _full_pools(pools, busy, GENERATE.name, more=0, reserved_for_others=True)
    is_full = _full_pools(pools, busy, GENERATE.name, reserved_for_others=True)
    if others_wait or (is_full and not all(_joins(candidate, engines) for candidate in pending)):
        engines = []
    actions: list[Action] = []
    waiting: dict[UnitRef, Reason] = {}
    gathering: dict[UnitRef, Reason] = {}
    for candidate in pending:
        task, role = candidate.task, role_of(candidate.task)
        full = _full_pools(pools, busy, role, reserved_for_others=True)
        left: RunnableTask | None = task
        while isinstance(left, GenerateTask):
            host = chosen(engines, left, suspected=candidate.suspected, must_wait=bool(full))
            if host is None:
                break
            engines.remove(host)
            part, left = split_offers(left, host)
            why = Reason("Joins", f"{candidate.why.message}; {len(part.members)} in the engine of {host.task.key}")
            actions.append(WriteTask(part, why))
            log_end = (host.task, host.sequence)
            actions += launch(part, why, missing_pointers=len(part.members) > 1, host=log_end)
        if left is None:
            continue
        task = left
        if candidate.batch_until is not None and now < candidate.batch_until:
            seconds = (candidate.batch_until - now).total_seconds()
            why = Reason("Gathering", f"waits up to {seconds:.0f} s for others to share its engine")
            gathering |= {unit: why for unit, _ in members_of(task)}
            continue
        if not full:
            busy[role] += 1
            actions.append(WriteTask(task, candidate.why))
            actions += launch(task, candidate.why, missing_pointers=len(members_of(task)) > 1)
        elif all(pool.quota_message for pool in full):
            why = Reason(LIMIT_REACHED, full[0].quota_message)
            waiting |= {unit: why for unit, _ in members_of(task)}
    return Scheduled(tuple(actions), waiting, gathering)


def _joins(candidate: PendingTask, engines: Sequence[RunningEngine]) -> bool:
    task = candidate.task
    if not isinstance(task, GenerateTask):
        return True
    return chosen(engines, task, suspected=candidate.suspected, must_wait=True) is not None


def _full_pools(
    pools: Iterable[Pool], busy: Mapping[Role, int], role: Role, *, more: int = 1, reserved_for_others: bool = False
) -> list[Pool]:
    """Returns the pools of this role that have no slot for `more` tasks of it.

    `reserved_for_others`: their slots that are reserved for others count as taken.
    """
    return [
        pool
        for pool in pools
        if role in pool.roles
        and sum(busy[r] for r in pool.roles) + more
        > pool.slots - (pool.reserved_for_others if reserved_for_others else 0)
    ]


def _host_is_live(attempt: Attempt, snapshot: JobsSnapshot) -> bool:
    """Returns whether the engine that the task was written for still holds its slot.

    The task then waits for the engine's end.
    """
    host = attempt.task.host if isinstance(attempt.task, GenerateTask) else None
    job = snapshot.jobs.get(host.key) if host is not None else None
    return job is not None and job.phase != "ended"


def _pools(frozen: FrozenExperiment) -> tuple[Pool, ...]:
    stages = stages_of(frozen)
    return tuple(Pool(frozenset({s.name}), s.slots(frozen.limits)) for s in stages if s.slots is not None)


def slot_holders(round_: Round) -> dict[str, Role]:
    """Returns the role by key of this experiment's tasks that hold a slot.

    These are open tasks that this round does not close, and tasks whose Job is live.
    """
    roles: dict[str, Role] = {}
    for attempt in round_.own_attempts:
        task = attempt.task
        if isinstance(task, MemberPointer) or accepted_host(attempt, round_.store) is not None:
            continue
        job = round_.jobs.jobs.get(task.key)
        is_open = attempt.end is None and (task.unit, task.number) not in round_.closed
        if is_open or (job is not None and is_live(job, round_.now)):
            roles[task.key] = role_of(task)
    return roles
