"""decide: what to do next, from what is seen. Pure: no clock, no I/O, no memory.

    (frozen experiment, StoreSnapshot, JobsSnapshot, now) -> (actions, status)

Each round is an ordered list of guards and steps:

1. Not everything was seen (Unknown), or less than before (StoreRegressed): no action.
2. Close every open task that is over (`closings`), each attempt with its share of the blame (`ends`).
3. Stop the Jobs of closed tasks, forget the ended ones. A verdict is durable before the process is told.
4. Start what a crash left written but not started: nobody regroups it (`starts.unstarted`).
5. Make new tasks for the units that are ready (`work`), as far as the slots go (`starts.new_tasks`). Where the base
   must be brought to a volume first, trainings and evaluations are not ready before it is there (`weights`).
6. When everything is committed or explained: fold the manifest, make the report, finish (`finish`).

A task is written, then its pointers, then it is started; a crash between any two leaves a state from which the same
function goes on. A unit gets its next attempt only when all attempts before it are closed and their Jobs have stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from controller.planner.actions import (
    Action,
    CloseTask,
    Condition,
    ConditionStatus,
    Counts,
    Decision,
    Intent,
    Reason,
    Start,
    Status,
    counted,
)
from controller.planner.base_prefetch import prefetch_actions, wait_for_base
from controller.planner.completion_checks import completion_checks, gpu_seconds_of
from controller.planner.evaluations import EvaluationState, resolve_evaluations, units_of
from controller.planner.experiment_end import Finish, Verdict, all_settled, finish, interim_manifest, verdict
from controller.planner.pending_tasks import pending_tasks
from controller.planner.scheduling import Scheduled, holders, new_tasks, stops, unstarted
from controller.planner.status import conditions, counts, evaluation_lines, gpu_seconds_spent, progressing, run_lines
from controller.planner.unit_state import UnitState, owner_of, reserved, state_of
from controller.snapshot.types import Attempt, JobsSnapshot, StoreSnapshot, Unknown, role_of
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import ReportTask
from workloads.api.units import UnitRef

__all__ = ["Decision", "decide"]


def decide(
    frozen: FrozenExperiment,
    store: StoreSnapshot | Unknown,
    executor: JobsSnapshot | Unknown,
    now: datetime,
    intent: Intent = "run",
    recorded: Counts | None = None,
) -> Decision:
    """`recorded`: the counts of the last status, below which the store can only have lost something."""
    for seen in (store, executor):
        if isinstance(seen, Unknown):
            return _no_action("Ready", "Unknown", seen.reason, seen.message)
    assert isinstance(store, StoreSnapshot)
    assert isinstance(executor, JobsSnapshot)
    evaluations = resolve_evaluations(frozen, store)
    counted = counts(frozen, evaluations, store)
    damaged = any(view.unreadable for view in store.units.values())
    if recorded is not None and not damaged and counted.fewer_than(recorded):
        message = f"the store holds {counted}, and held {recorded}: nothing is done until it is whole again"
        return _no_action("Ready", "False", "StoreRegressed", message)

    spent = gpu_seconds_spent(frozen, store) + _live_gpu_seconds(frozen, store, executor, now)
    closing = completion_checks(frozen, store, executor, now, intent, spent)
    actions: list[Action] = [*closing, *stops(store, executor, closing, frozen)]
    unheld = _standings(frozen, evaluations, store, executor, now, spent)
    unit_states = wait_for_base(unheld, executor.weights)
    new = Scheduled()
    if intent == "run" and not _budget_spent(frozen, spent):
        actions += prefetch_actions(executor.weights, unheld)
        actions += unstarted(frozen, store, executor, closing, now)
        wanting = pending_tasks(frozen, evaluations, unit_states, store, now)
        new = new_tasks(frozen, store, executor, wanting, closing, now)
        actions += new.actions
    told = {**new.gathering, **new.waiting}
    unit_states |= {unit: replace(unit_states[unit], why=why) for unit, why in told.items()}
    generating = _generating(frozen, store, executor, closing, actions, now)

    runs = run_lines(frozen, unit_states, store)
    lines = evaluation_lines(frozen, evaluations, unit_states, store)
    idle = not any(_is_at_work(frozen, store, executor))
    progress = progressing(frozen, store, executor, idle and not actions, intent)
    status = Status(
        conditions(runs, lines, intent, progress),
        runs,
        lines,
        counted,
        idle=idle and not actions,
        gpu_seconds=spent,
    )
    if intent == "run" and not actions and all_settled(runs, lines) and _only_report_open(frozen, store):
        ending = finish(frozen, store, executor, units_of(frozen, evaluations), status, now)
        return Decision(ending.actions, _with_ending(status, ending, verdict(runs, lines)), generating)
    interim = interim_manifest(store, units_of(frozen, evaluations), status, now)
    done = (*actions, interim) if interim else tuple(actions)
    return Decision(done, status, generating, limited=bool(new.waiting))


def _budget_spent(frozen: FrozenExperiment, spent: float) -> bool:
    return frozen.limits.gpu_seconds is not None and spent >= frozen.limits.gpu_seconds


def _standings(
    frozen: FrozenExperiment,
    evaluations: Sequence[EvaluationState],
    store: StoreSnapshot,
    executor: JobsSnapshot,
    now: datetime,
    spent: float,
) -> dict[UnitRef, UnitState]:
    """Where every unit stands; with the GPU-seconds spent, what has not started never will."""
    held = reserved(store, owner_of(frozen))
    found = {unit: state_of(store.unit(unit), frozen, executor, held, now) for unit in units_of(frozen, evaluations)}
    if not _budget_spent(frozen, spent):
        return found
    over = Reason("GpuSecondsExceeded", f"limits.gpuSeconds {frozen.limits.gpu_seconds:.0f} are used up")
    return {
        unit: UnitState("exhausted", over) if unit_state.state in {"ready", "backoff"} else unit_state
        for unit, unit_state in found.items()
    }


def _generating(
    frozen: FrozenExperiment,
    store: StoreSnapshot,
    executor: JobsSnapshot,
    closing: Sequence[CloseTask],
    actions: Sequence[Action],
    now: datetime,
) -> frozenset[str]:
    held = {key for key, role in holders(frozen, store, executor, closing, now).items() if role == "generate"}
    return frozenset(held | {a.task.key for a in actions if isinstance(a, Start) and role_of(a.task) == "generate"})


def _own_attempts(frozen: FrozenExperiment, store: StoreSnapshot) -> Iterator[Attempt]:
    owner = owner_of(frozen)
    return (a for view in store.units.values() for a in view.attempts if a.task.owner == owner)


def _live_gpu_seconds(frozen: FrozenExperiment, store: StoreSnapshot, executor: JobsSnapshot, now: datetime) -> float:
    open_keys = {a.task.key for a in _own_attempts(frozen, store) if a.end is None}
    return sum(gpu_seconds_of(executor.jobs.get(key), now) for key in sorted(open_keys))


def _is_at_work(frozen: FrozenExperiment, store: StoreSnapshot, executor: JobsSnapshot) -> Iterator[bool]:
    for attempt in _own_attempts(frozen, store):
        job = executor.jobs.get(attempt.task.key)
        yield attempt.end is None or (job is not None and job.phase != "ended")


def _only_report_open(frozen: FrozenExperiment, store: StoreSnapshot) -> bool:
    """A report's own task is no reason to wait before looking at it."""
    return all(a.end is not None or isinstance(a.task, ReportTask) for a in _own_attempts(frozen, store))


def _with_ending(status: Status, ending: Finish, reached: Verdict) -> Status:
    if ending.settled is None:
        return replace(status, idle=False)
    if ending.report_failed and reached == "Succeeded":
        reached = "PartiallyFailed"
    message = _summary(status) + (f"; no report: {ending.settled.message}" if ending.report_failed else "")
    finished = Condition("Finished", "True", reached, message)
    ended = Condition("Progressing", "False", "Finished", "all work is done or given up")
    told = (ended if condition.type == ended.type else condition for condition in status.conditions)
    report = None if ending.report_failed else ending.report
    return replace(status, conditions=(*told, finished), finished=reached, report=report)


def _summary(status: Status) -> str:
    found = counted(status.evaluations)
    return f"{found.graded} of {found.asked} evaluations graded, {status.counts.checkpoints} checkpoints committed"


def _no_action(type_: str, status: ConditionStatus, reason: str, message: str) -> Decision:
    return Decision((), Status((Condition(type_, status, reason, message),)))
