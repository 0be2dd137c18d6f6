"""decide: what to do next, from what is seen. Pure: no clock, no I/O, no memory.

    (frozen experiment, StoreView, ExecutorView, now) -> (actions, status)

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

from controller.decide.actions import (
    Action,
    CloseTask,
    Condition,
    ConditionStatus,
    Counts,
    Decision,
    Intent,
    Start,
    Status,
    Why,
    counted,
)
from controller.decide.closings import closings, gpu_seconds_of
from controller.decide.finish import Finish, Verdict, all_settled, finish, interim_manifest, verdict
from controller.decide.pieces import Piece, resolve_pieces, units_of
from controller.decide.standing import Standing, owner_of, reserved, standing
from controller.decide.starts import NewTasks, holders, new_tasks, stops, unstarted
from controller.decide.status import conditions, counts, evaluation_lines, gpu_seconds_spent, progressing, run_lines
from controller.decide.weights import awaiting, fetches
from controller.decide.work import candidates
from controller.view import Attempt, ExecutorView, StoreView, Unknown, role_of
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.tasks import ReportTask
from workloads.contract.units import UnitRef

__all__ = ["Decision", "decide"]


def decide(
    frozen: FrozenExperiment,
    store: StoreView | Unknown,
    executor: ExecutorView | Unknown,
    now: datetime,
    intent: Intent = "run",
    recorded: Counts | None = None,
) -> Decision:
    """`recorded`: the counts of the last status, below which the store can only have lost something."""
    for seen in (store, executor):
        if isinstance(seen, Unknown):
            return _no_action("Ready", "Unknown", seen.reason, seen.message)
    assert isinstance(store, StoreView)
    assert isinstance(executor, ExecutorView)
    pieces = resolve_pieces(frozen, store)
    counted = counts(frozen, pieces, store)
    damaged = any(view.unreadable for view in store.units.values())
    if recorded is not None and not damaged and counted.fewer_than(recorded):
        message = f"the store holds {counted}, and held {recorded}: nothing is done until it is whole again"
        return _no_action("Ready", "False", "StoreRegressed", message)

    spent = gpu_seconds_spent(frozen, store) + _live_gpu_seconds(frozen, store, executor, now)
    closing = closings(frozen, store, executor, now, intent, spent)
    actions: list[Action] = [*closing, *stops(store, executor, closing, frozen)]
    unheld = _standings(frozen, pieces, store, executor, now, spent)
    standings = awaiting(unheld, executor.weights)
    new = NewTasks()
    if intent == "run" and not _budget_spent(frozen, spent):
        actions += fetches(executor.weights, unheld)
        actions += unstarted(frozen, store, executor, closing, now)
        wanting = candidates(frozen, pieces, standings, store, now)
        new = new_tasks(frozen, store, executor, wanting, closing, now)
        actions += new.actions
    told = {**new.gathering, **new.waiting}
    standings |= {unit: replace(standings[unit], why=why) for unit, why in told.items()}
    generating = _generating(frozen, store, executor, closing, actions, now)

    runs = run_lines(frozen, standings, store)
    evaluations = evaluation_lines(frozen, pieces, standings, store)
    idle = not any(_is_at_work(frozen, store, executor))
    progress = progressing(frozen, store, executor, idle and not actions, intent)
    status = Status(
        conditions(runs, evaluations, intent, progress),
        runs,
        evaluations,
        counted,
        idle=idle and not actions,
        gpu_seconds=spent,
    )
    if intent == "run" and not actions and all_settled(runs, evaluations) and _only_report_open(frozen, store):
        ending = finish(frozen, store, executor, units_of(frozen, pieces), status, now)
        return Decision(ending.actions, _with_ending(status, ending, verdict(runs, evaluations)), generating)
    interim = interim_manifest(store, units_of(frozen, pieces), status, now)
    done = (*actions, interim) if interim else tuple(actions)
    return Decision(done, status, generating, limited=bool(new.waiting))


def _budget_spent(frozen: FrozenExperiment, spent: float) -> bool:
    return frozen.limits.gpu_seconds is not None and spent >= frozen.limits.gpu_seconds


def _standings(
    frozen: FrozenExperiment,
    pieces: Sequence[Piece],
    store: StoreView,
    executor: ExecutorView,
    now: datetime,
    spent: float,
) -> dict[UnitRef, Standing]:
    """Where every unit stands; with the GPU-seconds spent, what has not started never will."""
    held = reserved(store, owner_of(frozen))
    found = {unit: standing(store.unit(unit), frozen, executor, held, now) for unit in units_of(frozen, pieces)}
    if not _budget_spent(frozen, spent):
        return found
    over = Why("GpuSecondsExceeded", f"limits.gpuSeconds {frozen.limits.gpu_seconds:.0f} are used up")
    return {
        unit: Standing("exhausted", over) if stands.state in {"ready", "backoff"} else stands
        for unit, stands in found.items()
    }


def _generating(
    frozen: FrozenExperiment,
    store: StoreView,
    executor: ExecutorView,
    closing: Sequence[CloseTask],
    actions: Sequence[Action],
    now: datetime,
) -> frozenset[str]:
    held = {key for key, role in holders(frozen, store, executor, closing, now).items() if role == "generate"}
    return frozenset(held | {a.task.key for a in actions if isinstance(a, Start) and role_of(a.task) == "generate"})


def _own_attempts(frozen: FrozenExperiment, store: StoreView) -> Iterator[Attempt]:
    owner = owner_of(frozen)
    return (a for view in store.units.values() for a in view.attempts if a.task.owner == owner)


def _live_gpu_seconds(frozen: FrozenExperiment, store: StoreView, executor: ExecutorView, now: datetime) -> float:
    open_keys = {a.task.key for a in _own_attempts(frozen, store) if a.end is None}
    return sum(gpu_seconds_of(executor.jobs.get(key), now) for key in sorted(open_keys))


def _is_at_work(frozen: FrozenExperiment, store: StoreView, executor: ExecutorView) -> Iterator[bool]:
    for attempt in _own_attempts(frozen, store):
        job = executor.jobs.get(attempt.task.key)
        yield attempt.end is None or (job is not None and job.phase != "ended")


def _only_report_open(frozen: FrozenExperiment, store: StoreView) -> bool:
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
