"""Finds open tasks that have ended. The checks have a fixed order; each returns the task's end or None."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.planner.actions import CloseTask, Reason
from controller.planner.outcomes import (
    AttemptOutcome,
    cut,
    ended_by_itself,
    is_member,
    outcome_of,
    outcome_of_leader,
    outcome_of_member,
    own_outcome,
    undecided,
)
from controller.planner.round import Round, gpu_seconds_of
from controller.planner.unit_state import STUCK_SECONDS
from controller.snapshot.types import Attempt, Job, StoreSnapshot, UnitView, members_of, role_of
from workloads.api.experiment import Limits
from workloads.api.records import TaskEnd
from workloads.api.tasks import GenerateTask, MemberPointer, RunnableTask
from workloads.stages.registry import stage_named

START_GRACE_SECONDS = 120.0
"""A task without a Job and without any record of a program is started if it is younger than this, and lost if it is
older.

A task whose Job may have been refused is not lost.
"""


@dataclass(frozen=True)
class OpenTask:
    """One open task (not a pointer) and the data for the checks.

    `host`: the attempt in whose engine it runs; None if it has its own. `job`: its Job, or None. `owner_gone`: it
    belongs to an experiment without a controller. `refused`: its Job may never have been made.
    """

    attempt: Attempt
    round_: Round
    job: Job | None
    host: Attempt | None
    owner_gone: bool
    refused: bool = False

    @property
    def limits(self) -> Limits:
        return self.round_.experiment.limits


Check = Callable[[OpenTask], AttemptOutcome | None]


def completion_checks(round_: Round) -> list[CloseTask]:
    """Returns the ends of open tasks that have ended, of this experiment and of experiments without a controller."""
    closed: list[CloseTask] = []
    for view in round_.store.units.values():
        for attempt in view.open_attempts:
            is_orphan = attempt.task.owner in round_.jobs.gone_owners
            if attempt.task.owner != round_.owner and not is_orphan:
                continue
            if isinstance(attempt.task, MemberPointer):
                end = _end_of_member(attempt, view, round_)
            else:
                end = _end_of_task(attempt, attempt.task, round_, is_orphan)
            if end is not None:
                closed.append(CloseTask(view.unit, end, Reason(end.reason, end.message)))
    return closed


def _end_of_task(attempt: Attempt, task: RunnableTask, round_: Round, is_orphan: bool) -> TaskEnd | None:
    host = accepted_host(attempt, round_.store)
    job = round_.jobs.jobs.get(host.task.key if host else task.key)
    open_task = OpenTask(attempt, round_, job, host, is_orphan, round_.jobs.may_have_been_refused(task))
    checks = CHECKS if host is None else (_with_host,)
    outcome = next((outcome for check in checks if (outcome := check(open_task)) is not None), None)
    if outcome is None:
        return None
    gpu_seconds = gpu_seconds_of(job, round_.now) if host is None else 0.0
    end_of_host = host.end if host is not None else None
    return outcome_of_leader(replace(outcome, gpu_seconds=gpu_seconds), attempt, round_, end_of_host)


def accepted_host(attempt: Attempt, store: StoreSnapshot) -> Attempt | None:
    """Returns the attempt whose engine's log of offers names this task; None if there is none.

    Such a task runs in that engine, and never on its own.
    """
    task = attempt.task
    if not isinstance(task, GenerateTask) or task.host is None:
        return None
    hosts = store.unit(task.host.unit).attempts
    return next((h for h in hosts if h.number == task.host.number and task.key in h.offers), None)


def never_started(attempt: Attempt, store: StoreSnapshot) -> bool:
    """Returns whether the store has no record that the task was started.

    Then it may be started: two processes cannot write as the same attempt.
    """
    if attempt.progress is not None or attempt.failure is not None or isinstance(attempt.task, MemberPointer):
        return False
    return not any(
        marker.attempt == number
        for unit, number in members_of(attempt.task)
        if is_member(store.unit(unit), number, attempt.task.key)
        for marker in store.unit(unit).markers.values()
    )


def within_start_grace(attempt: Attempt, now: datetime) -> bool:
    """Returns whether the task was written less than START_GRACE_SECONDS ago."""
    return now - attempt.task.created < timedelta(seconds=START_GRACE_SECONDS)


def _end_of_member(attempt: Attempt, view: UnitView, round_: Round) -> TaskEnd | None:
    assert isinstance(attempt.task, MemberPointer)
    now = round_.now
    leads = round_.store.unit(attempt.task.lead).attempts
    lead = next((a for a in leads if a.number == attempt.task.lead_number), None)
    if lead is not None and lead.end is not None:
        return outcome_of_member(lead.end, attempt, view, now)
    if attempt.failure is not None:
        return own_outcome(attempt, attempt.failure, now)
    if lead is None and attempt.lead_key not in round_.jobs.jobs and not within_start_grace(attempt, now):
        return TaskEnd(
            number=attempt.number,
            outcome="lost",
            reason="Lost",
            message=f"the task of its group, {attempt.lead_key}, is not in the store",
            counts_as_failure=False,
            retry=True,
            ended=now,
        )
    return None


def _with_host(open_task: OpenTask) -> AttemptOutcome | None:
    """Returns the end of a task in another task's engine: that of the other task, when its Job has ended.

    It ends earlier if this task has failed and its engine has no more work for it, because an engine may run for long.
    """
    task, failure = open_task.attempt.task, open_task.attempt.failure
    assert not isinstance(task, MemberPointer)
    if failure is not None and not undecided(open_task.round_.store, task):
        return AttemptOutcome("failed", failure.exit_code, failure.reason, cut(failure.message))
    end = open_task.host.end if open_task.host else None
    live = open_task.job is not None and open_task.job.phase != "ended" and _stuck(open_task) is None
    if end is None or live:
        return None
    return outcome_of(end)


def _ended(open_task: OpenTask) -> AttemptOutcome | None:
    if open_task.job is not None and open_task.job.phase == "ended":
        return ended_by_itself(open_task.attempt, open_task.job)
    return None


def _asked_to_stop(open_task: OpenTask) -> AttemptOutcome | None:
    if open_task.round_.intent == "suspend":
        return AttemptOutcome("suspended", None, "Suspended", "the experiment was suspended")
    if open_task.round_.intent == "delete":
        return AttemptOutcome("deleted", None, "Deleted", "the experiment was deleted")
    return None


def _without_job(open_task: OpenTask) -> AttemptOutcome | None:
    if open_task.job is not None:
        return None
    may_start = open_task.refused or within_start_grace(open_task.attempt, open_task.round_.now)
    if may_start and never_started(open_task.attempt, open_task.round_.store) and not open_task.owner_gone:
        return None
    return ended_by_itself(open_task.attempt, None)


def _stuck(open_task: OpenTask) -> AttemptOutcome | None:
    job = open_task.job
    if job is None or job.stopping is None or open_task.round_.now - job.stopping < timedelta(seconds=STUCK_SECONDS):
        return None
    return AttemptOutcome(
        "lost", None, "StuckStopping", f"its Job has been stopping for more than {STUCK_SECONDS:.0f} s"
    )


def _budget_spent(open_task: OpenTask) -> AttemptOutcome | None:
    limit = open_task.limits.gpu_seconds
    if limit is None or not open_task.round_.is_budget_spent:
        return None
    message = (
        f"the experiment used {open_task.round_.gpu_seconds_spent:.0f} GPU-seconds of limits.gpuSeconds {limit:.0f}"
    )
    return AttemptOutcome("failed", None, "GpuSecondsExceeded", message)


def _pending_too_long(open_task: OpenTask) -> AttemptOutcome | None:
    job, limit = open_task.job, open_task.limits.pending_seconds
    if (
        job is None
        or job.phase != "pending"
        or limit is None
        or open_task.round_.now - job.created < timedelta(seconds=limit)
    ):
        return None
    detail = f": {job.reason}: {job.message}" if job.reason else ""
    return AttemptOutcome(
        "failed", None, "PendingTooLong", f"did not start within limits.pendingSeconds {limit:.0f}{detail}"
    )


def _no_progress(open_task: OpenTask) -> AttemptOutcome | None:
    """Returns None for stages that wait for another trainer. An idle engine reports progress while it waits."""
    job, progress = open_task.job, open_task.attempt.progress
    if job is None or job.phase != "running" or stage_named(role_of(open_task.attempt.task)).waits_for_others:
        return None
    since = max(filter(None, [job.created, job.started, progress.updated if progress else None]))
    limit = open_task.limits.no_progress_seconds
    if open_task.round_.now - since < timedelta(seconds=limit):
        return None
    where = f" in phase {progress.phase}, {progress.done} of {progress.total}" if progress else ""
    message = f"no progress for limits.noProgressSeconds {limit:.0f}{where}"
    return AttemptOutcome("failed", None, "NoProgress", message, progress.loading if progress else None)


CHECKS: tuple[Check, ...] = (
    _ended,
    _asked_to_stop,
    _without_job,
    _stuck,
    _budget_spent,
    _pending_too_long,
    _no_progress,
)
