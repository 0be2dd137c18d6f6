"""`decide` returns the next actions from a snapshot. Pure: no clock, no I/O, no memory.

    (frozen experiment, StoreSnapshot, JobsSnapshot, now) -> (actions, status)

Each round is an ordered list of guards and steps:

1. If the snapshot is incomplete (Unknown) or has less than before (StoreRegressed): no action.
2. Close every open task that has ended (`completion_checks`), each attempt with its own outcome (`outcomes`).
3. Stop the Jobs of closed tasks, forget the ended ones. The end of a task is durable before its process is stopped.
4. Start tasks that a crash left written but not started, in the same groups (`scheduling.unstarted`).
5. Make new tasks for the units that are ready (`pending_tasks`), as far as the slots go (`scheduling.new_tasks`). Where
   the base must be fetched to a volume first, trainings and evaluations are not ready before (`base_prefetch`).
6. When everything is committed or has failed: fold the manifest, make the report, finish (`experiment_end`).

`Round` holds the inputs of one decision; the functions above take it.

A task is written, then its pointers, then it is started; a crash between any two leaves a state from which the same
function continues. A unit gets its next attempt only when all earlier ones are closed and their Jobs have stopped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from controller.planner.actions import (
    Action,
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
from controller.planner.added_stages import added_units, pending_added, stage_lines
from controller.planner.base_prefetch import prefetch_actions, wait_for_base
from controller.planner.completion_checks import completion_checks
from controller.planner.evaluations import resolve_evaluations, units_of
from controller.planner.experiment_end import Finish, Verdict, all_settled, finish, interim_manifest, verdict
from controller.planner.pending_tasks import pending_tasks
from controller.planner.round import Round
from controller.planner.scheduling import Scheduled, new_tasks, slot_holders, stops, unstarted
from controller.planner.status import conditions, counts, evaluation_lines, progressing, run_lines
from controller.planner.unit_state import UnitState, reserved, state_of
from controller.snapshot.types import JobsSnapshot, StoreSnapshot, Unknown, role_of
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import ReportTask
from workloads.api.units import UnitRef
from workloads.stages.generate import GENERATE
from workloads.words import count_of

__all__ = ["Decision", "decide"]


def decide(
    frozen: FrozenExperiment,
    store: StoreSnapshot | Unknown,
    executor: JobsSnapshot | Unknown,
    now: datetime,
    intent: Intent = "run",
    recorded: Counts | None = None,
) -> Decision:
    """`recorded`: the counts of the last status. If the store has less now, it has lost something."""
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

    round_ = Round(frozen, store, executor, now, intent)
    round_ = replace(round_, closing=tuple(completion_checks(round_)))
    actions: list[Action] = [*round_.closing, *stops(round_)]
    added = added_units(frozen, evaluations, store)
    units = (*units_of(frozen, evaluations), *(added_unit.unit for added_unit in added))
    before_fetch = _unit_states(round_, units)
    unit_states = wait_for_base(before_fetch, executor.weights)
    new = Scheduled()
    if intent == "run" and not round_.is_budget_spent:
        actions += prefetch_actions(executor.weights, before_fetch)
        actions += unstarted(round_)
        new = new_tasks(
            round_,
            [*pending_tasks(round_, evaluations, unit_states), *pending_added(round_, added, unit_states)],
        )
        actions += new.actions
    reasons = {**new.gathering, **new.waiting}
    unit_states |= {unit: replace(unit_states[unit], why=why) for unit, why in reasons.items()}
    generating = _generating(round_, actions)

    runs = run_lines(round_, unit_states)
    lines = evaluation_lines(round_, evaluations, unit_states)
    stages = stage_lines(added, unit_states)
    idle = not any(map(round_.is_running, round_.own_attempts)) and not actions
    status = Status(
        conditions(runs, lines, intent, progressing(round_, idle), stages),
        runs,
        lines,
        counted,
        idle=idle,
        gpu_seconds=round_.gpu_seconds_spent,
        stages=stages,
    )
    if intent == "run" and not actions and all_settled(status) and _only_report_open(round_):
        ending = finish(round_, units, status)
        return Decision(ending.actions, _with_ending(status, ending, verdict(status)), generating)
    interim = interim_manifest(round_, units, status)
    done = (*actions, interim) if interim else tuple(actions)
    return Decision(done, status, generating, limited=bool(new.waiting))


def _unit_states(round_: Round, units: Iterable[UnitRef]) -> dict[UnitRef, UnitState]:
    """Returns the state of every unit. When the GPU-seconds are used up, units that have not started are exhausted."""
    group_keys = reserved(round_)
    unit_states = {unit: state_of(round_.store.unit(unit), round_, group_keys) for unit in units}
    if not round_.is_budget_spent:
        return unit_states
    over = Reason("GpuSecondsExceeded", f"limits.gpuSeconds {round_.experiment.limits.gpu_seconds:.0f} are used up")
    return {
        unit: UnitState("exhausted", over) if unit_state.state in {"ready", "backoff"} else unit_state
        for unit, unit_state in unit_states.items()
    }


def _generating(round_: Round, actions: Sequence[Action]) -> frozenset[str]:
    """Returns the keys of our generate tasks that hold a slot after `actions`."""
    before = {key for key, role in slot_holders(round_).items() if role == GENERATE.name}
    return frozenset(
        before | {a.task.key for a in actions if isinstance(a, Start) and role_of(a.task) == GENERATE.name}
    )


def _only_report_open(round_: Round) -> bool:
    """Returns whether only the report's own task is open, which does not keep the experiment from ending."""
    return all(a.end is not None or isinstance(a.task, ReportTask) for a in round_.own_attempts)


def _with_ending(status: Status, ending: Finish, reached: Verdict) -> Status:
    if ending.settled is None:
        return replace(status, idle=False)
    if ending.report_failed and reached == "Succeeded":
        reached = "PartiallyFailed"
    message = _summary(status) + (f"; no report: {ending.settled.message}" if ending.report_failed else "")
    finished = Condition("Finished", "True", reached, message)
    ended = Condition("Progressing", "False", "Finished", "all work is done or given up")
    others = (ended if condition.type == ended.type else condition for condition in status.conditions)
    report = None if ending.report_failed else ending.report
    return replace(status, conditions=(*others, finished), finished=reached, report=report)


def _summary(status: Status) -> str:
    totals, checkpoints = counted(status.evaluations), count_of(status.counts.checkpoints, "checkpoint")
    return f"{totals.graded} of {count_of(totals.asked, 'evaluation')} graded, {checkpoints} committed"


def _no_action(type_: str, status: ConditionStatus, reason: str, message: str) -> Decision:
    return Decision((), Status((Condition(type_, status, reason, message),)))
