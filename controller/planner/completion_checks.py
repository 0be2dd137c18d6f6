"""Which open tasks are over, and why: an ordered chain of small checks, each of which gives the task's end or None."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.planner.actions import CloseTask, Intent, Reason
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
from controller.planner.unit_state import STUCK_SECONDS, owner_of
from controller.snapshot.types import Attempt, Job, JobsSnapshot, StoreSnapshot, UnitView, members_of
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.records import TaskEnd
from workloads.api.tasks import GenerateTask, ImportTask, MemberPointer

YOUNG_SECONDS = 120.0
"""A task without a Job that is younger, and has left no trace, is started. An older one is lost, if not refused."""


@dataclass(frozen=True)
class OpenTask:
    """One open task (no pointer) and all that the checks look at. `owner_gone`: it is another's, orphaned.

    `refused`: its Job may never have been made.
    """

    attempt: Attempt
    store: StoreSnapshot
    job: Job | None
    host: Attempt | None
    limits: Limits
    intent: Intent
    owner_gone: bool
    gpu_seconds_spent: float
    now: datetime
    refused: bool = False


Check = Callable[[OpenTask], AttemptOutcome | None]


def completion_checks(
    frozen: FrozenExperiment,
    store: StoreSnapshot,
    executor: JobsSnapshot,
    now: datetime,
    intent: Intent,
    gpu_seconds_spent: float,
) -> list[CloseTask]:
    owner = owner_of(frozen)
    closed: list[CloseTask] = []
    for view in store.units.values():
        for attempt in view.open_attempts:
            gone = attempt.task.owner in executor.gone_owners
            if attempt.task.owner != owner and not gone:
                continue
            if isinstance(attempt.task, MemberPointer):
                end = _of_member(attempt, view, store, executor, now)
            else:
                host = accepted_host(attempt, store)
                job = executor.jobs.get(host.task.key if host else attempt.task.key)
                refused = executor.may_have_been_refused(attempt.task)
                case = OpenTask(attempt, store, job, host, frozen.limits, intent, gone, gpu_seconds_spent, now, refused)
                checks = CHECKS if host is None else (_with_host,)
                ended = next((ended for check in checks if (ended := check(case)) is not None), None)
                spent = gpu_seconds_of(job, now) if host is None else 0.0
                of_host = host.end if host is not None else None
                end = (
                    outcome_of_leader(replace(ended, gpu_seconds=spent), attempt, store, now, of_host)
                    if ended
                    else None
                )
            if end is not None:
                closed.append(CloseTask(view.unit, end, Reason(end.reason, end.message)))
    return closed


def accepted_host(attempt: Attempt, store: StoreSnapshot) -> Attempt | None:
    """The attempt whose engine's log names this task: it runs there, and never on its own."""
    task = attempt.task
    if not isinstance(task, GenerateTask) or task.host is None:
        return None
    hosts = store.unit(task.host.unit).attempts
    return next((h for h in hosts if h.number == task.host.number and task.key in h.offers), None)


def never_started(attempt: Attempt, store: StoreSnapshot) -> bool:
    """Nothing says that the task was ever started: it may be, without two processes writing as one attempt."""
    if attempt.progress is not None or attempt.failure is not None or isinstance(attempt.task, MemberPointer):
        return False
    return not any(
        marker.attempt == number
        for unit, number in members_of(attempt.task)
        if is_member(store.unit(unit), number, attempt.task.key)
        for marker in store.unit(unit).markers.values()
    )


def within_start_grace(attempt: Attempt, now: datetime) -> bool:
    return now - attempt.task.created < timedelta(seconds=YOUNG_SECONDS)


def _of_member(
    attempt: Attempt, view: UnitView, store: StoreSnapshot, executor: JobsSnapshot, now: datetime
) -> TaskEnd | None:
    assert isinstance(attempt.task, MemberPointer)
    leads = store.unit(attempt.task.lead).attempts
    lead = next((a for a in leads if a.number == attempt.task.lead_number), None)
    if lead is not None and lead.end is not None:
        return outcome_of_member(lead.end, attempt, view, now)
    if attempt.failure is not None:
        return own_outcome(attempt, attempt.failure, now)
    if lead is None and attempt.lead_key not in executor.jobs and not within_start_grace(attempt, now):
        return TaskEnd(
            number=attempt.number,
            outcome="lost",
            reason="Lost",
            message=f"the task of its group, {attempt.lead_key}, is not in the store",
            charged=False,
            retry=True,
            ended=now,
        )
    return None


def gpu_seconds_of(job: Job | None, now: datetime) -> float:
    if job is None or job.started is None:
        return 0.0
    return max(0.0, ((job.ended or now) - job.started).total_seconds()) * job.gpus


def _with_host(case: OpenTask) -> AttemptOutcome | None:
    """A task that another task's engine took ends as that task did, once its Job is gone; before, if it has failed and
    the engine has nothing more to do for it: engines that others join may be at work for long.
    """
    task, failure = case.attempt.task, case.attempt.failure
    assert not isinstance(task, MemberPointer)
    if failure is not None and not undecided(case.store, task):
        return AttemptOutcome("failed", failure.exit_code, failure.reason, cut(failure.message))
    end = case.host.end if case.host else None
    live = case.job is not None and case.job.phase != "ended" and _stuck(case) is None
    if end is None or live:
        return None
    return outcome_of(end)


def _ended(case: OpenTask) -> AttemptOutcome | None:
    if case.job is not None and case.job.phase == "ended":
        return ended_by_itself(case.attempt, case.job)
    return None


def _asked_to_stop(case: OpenTask) -> AttemptOutcome | None:
    if case.intent == "suspend":
        return AttemptOutcome("suspended", None, "Suspended", "the experiment was suspended")
    if case.intent == "delete":
        return AttemptOutcome("deleted", None, "Deleted", "the experiment was deleted")
    return None


def _without_job(case: OpenTask) -> AttemptOutcome | None:
    if case.job is not None:
        return None
    may_start = case.refused or within_start_grace(case.attempt, case.now)
    if may_start and never_started(case.attempt, case.store) and not case.owner_gone:
        return None
    return ended_by_itself(case.attempt, None)


def _stuck(case: OpenTask) -> AttemptOutcome | None:
    job = case.job
    if job is None or job.stopping is None or case.now - job.stopping < timedelta(seconds=STUCK_SECONDS):
        return None
    return AttemptOutcome(
        "lost", None, "StuckStopping", f"its Job has been stopping for more than {STUCK_SECONDS:.0f} s"
    )


def _budget_spent(case: OpenTask) -> AttemptOutcome | None:
    limit = case.limits.gpu_seconds
    if limit is None or case.gpu_seconds_spent < limit:
        return None
    message = f"the experiment used {case.gpu_seconds_spent:.0f} GPU-seconds of limits.gpuSeconds {limit:.0f}"
    return AttemptOutcome("failed", None, "GpuSecondsExceeded", message)


def _pending_too_long(case: OpenTask) -> AttemptOutcome | None:
    job, limit = case.job, case.limits.pending_seconds
    if job is None or job.phase != "pending" or limit is None or case.now - job.created < timedelta(seconds=limit):
        return None
    detail = f": {job.reason}: {job.message}" if job.reason else ""
    return AttemptOutcome(
        "failed", None, "PendingTooLong", f"did not start within limits.pendingSeconds {limit:.0f}{detail}"
    )


def _no_progress(case: OpenTask) -> AttemptOutcome | None:
    """An import waits for another trainer as long as it takes. A lingering engine waits too, and says so."""
    job, progress = case.job, case.attempt.progress
    if job is None or job.phase != "running" or isinstance(case.attempt.task, ImportTask):
        return None
    since = max(filter(None, [job.created, job.started, progress.updated if progress else None]))
    limit = case.limits.no_progress_seconds
    if case.now - since < timedelta(seconds=limit):
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
