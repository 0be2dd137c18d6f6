"""The outcome of a task, and of each member of its group: the cause, and whether another attempt may succeed.

A failure counts only for the member that caused it: the crash of a group counts for no member. A member that is named
(by the failure, or as the one whose weights were being loaded) runs alone next. If no member is named, the suspects
continue in groups of half the size.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.planner.round import Round
from controller.snapshot.types import Attempt, Job, StoreSnapshot, UnitView, members_of
from workloads.api.records import NO_RETRY, Ending, ExitCode, Failure, ProgramEnd, TaskEnd
from workloads.api.tasks import GenerateTask, RunnableTask
from workloads.api.units import UnitRef

EVICTED = "Evicted"
"""The reason of a failure by a limit in the pod's own configuration, which a new pod would exceed again."""
KILLED = frozenset({"OOMKilled"})
"""Reasons of the kubelet that override the failure that the program wrote before."""
MESSAGE_CHARACTERS = 2000
"""The length of a failure's message. The log has more."""
NOT_THE_WORK = frozenset({"superseded", "lost", "suspended", "preempted", "deleted"})
DEADLINE = "DeadlineExceeded"
"""The reason of a Job that exceeded its activeDeadlineSeconds, which Potstill does not set."""
NON_RETRYABLE = frozenset({"PendingTooLong", "GpuSecondsExceeded"})
"""Reasons of the controller's own limits. Another attempt would exceed the limit again."""


@dataclass(frozen=True)
class AttemptOutcome:
    """How a whole task ended."""

    outcome: Ending
    exit_code: int | None
    reason: str
    message: str
    member: str | None = None
    gpu_seconds: float = 0.0


def undecided(store: StoreSnapshot, task: RunnableTask) -> list[UnitRef]:
    """Returns its members with neither a result nor a failure."""
    return [unit for unit, attempt in _unfinished(store, task).items() if attempt.failure is None]


def _unfinished(store: StoreSnapshot, task: RunnableTask) -> dict[UnitRef, Attempt]:
    """Returns the task's members that have no result and were not closed before it, with their attempts."""
    attempts = ((unit, _attempt_of(store.unit(unit), number, task.key)) for unit, number in members_of(task))
    return {unit: a for unit, a in attempts if a is not None and a.end is None and not store.unit(unit).done}


def offered_tasks(engine: Attempt, store: StoreSnapshot) -> list[GenerateTask]:
    """Returns the open tasks that this attempt's engine was offered and did not refuse."""
    tasks = store.open_generations
    return [tasks[key] for key in dict.fromkeys(engine.offers) if key is not None and key in tasks]


def is_member(view: UnitView, number: int, key: str) -> bool:
    """Returns whether the unit's attempt `number` belongs to the task `key`, and not to a writer who was first."""
    return _attempt_of(view, number, key) is not None


def _attempt_of(view: UnitView, number: int, key: str) -> Attempt | None:
    return next((a for a in view.attempts if a.number == number and a.lead_key == key), None)


def ended_by_itself(attempt: Attempt, job: Job | None) -> AttemptOutcome:
    """Returns the outcome of a task whose Job has ended or disappeared: from its exit code, else from its records.

    A failure that names a member is the program's only if it ended with that code. Otherwise it is the leader's own,
    and the program continued.
    """
    failure = attempt.failure
    seen = job.exit_code if job is not None else None
    if failure is not None and seen != failure.exit_code:
        killed = job is not None and job.reason in KILLED
        failure = None if killed or failure.member is not None else failure
    code = job.exit_code if job is not None and job.exit_code is not None else failure.exit_code if failure else None
    member = (failure.member if failure else None) or (attempt.progress.loading if attempt.progress else None)
    if job is not None and job.preempted:
        return AttemptOutcome("preempted", code, job.reason or "Preempted", job.message or "was preempted")
    if job is not None and job.reason in (EVICTED, DEADLINE):
        return AttemptOutcome("failed", code, job.reason, job.message, member)
    if code is None:
        return AttemptOutcome("lost", None, "Lost", "its process or Job no longer exists, and its end is unknown")
    reason = failure.reason if failure else (job.reason if job else "") or "Crashed"
    message = cut(failure.message) if failure else (job.message if job else "") or _describe(code)
    match code:
        case ExitCode.OK:
            return AttemptOutcome("succeeded", code, "Completed", "ended by itself")
        case ExitCode.TERMINATED:
            return AttemptOutcome("preempted", code, "Terminated", message if failure else "was asked to stop")
        case ExitCode.SUPERSEDED:
            return AttemptOutcome("superseded", code, "Superseded", message)
    return AttemptOutcome("failed", code, reason, message, member)


def cut(message: str) -> str:
    """Returns at most MESSAGE_CHARACTERS of it, because a program wrote it and it goes into status, manifest and
    report.
    """
    if len(message) <= MESSAGE_CHARACTERS:
        return message
    return f"{message[:MESSAGE_CHARACTERS]}... ({len(message)} characters; see the log)"


def _describe(code: int) -> str:
    signal = -code if code < 0 else code - 128 if code > 128 else 0
    return f"was killed by signal {signal}" if signal else f"exited with {code}"


def outcome_of_leader(ended: AttemptOutcome, attempt: Attempt, round_: Round, host: TaskEnd | None = None) -> TaskEnd:
    """Returns the end of the task itself, which counts as a failure if the leader failed.

    `host`: the end of the task whose engine took this one.
    """
    task, store = attempt.task, round_.store
    suspects = _suspects(store, attempt)
    if host is not None:
        suspects = max(host.suspects, suspects + 1)  # it may have been offered after the host's tasks were counted
    failure = attempt.failure
    named = failure is not None and failure.member == task.unit.digest
    own = failure if named or ended.exit_code == ExitCode.OK else None
    mine = _share(ended, store.unit(task.unit), task.number, suspects, own)
    program = ProgramEnd(outcome=ended.outcome, exit_code=ended.exit_code, reason=ended.reason, message=ended.message)
    if store.unit(task.unit).done:
        outcome, reason, message = ended.outcome, ended.reason, ended.message
    else:
        outcome, reason, message = mine.outcome, mine.reason, mine.message
    return TaskEnd(
        number=task.number,
        outcome=outcome,
        exit_code=ended.exit_code,
        reason=reason,
        message=message,
        program=program if (outcome, reason) != (ended.outcome, ended.reason) else None,
        counts_as_failure=mine.counts_as_failure,
        retry=mine.retry,
        member=ended.member,
        suspects=suspects,
        ended=round_.now,
        gpu_seconds=ended.gpu_seconds,
    )


def _suspects(store: StoreSnapshot, attempt: Attempt) -> int:
    """Returns the number of all evaluations that were in one engine, over all its tasks."""
    assert attempt.task.type != "member"
    return sum(len(_unfinished(store, task)) for task in (attempt.task, *offered_tasks(attempt, store)))


def outcome_of(lead: TaskEnd) -> AttemptOutcome:
    """Returns how the whole task ended, from its end record."""
    program = lead.program or lead
    return AttemptOutcome(program.outcome, program.exit_code, program.reason, program.message, lead.member)


def outcome_of_member(lead: TaskEnd, attempt: Attempt, view: UnitView, now: datetime) -> TaskEnd:
    """Returns the end of a group's other member, from the leader's. It can be derived again until it is written."""
    ended = outcome_of(lead)
    mine = _share(ended, view, attempt.number, lead.suspects, attempt.failure)
    return TaskEnd(
        number=attempt.number,
        outcome=mine.outcome,
        exit_code=lead.exit_code,
        reason=mine.reason,
        message=mine.message,
        counts_as_failure=mine.counts_as_failure,
        retry=mine.retry,
        member=lead.member,
        suspects=lead.suspects,
        ended=now,
    )


def own_outcome(attempt: Attempt, failure: Failure, now: datetime) -> TaskEnd:
    """Returns the end of a member that the program gave up: it may be tried again while the program continues."""
    mine = _own_share(failure)
    return TaskEnd(
        number=attempt.number,
        outcome=mine.outcome,
        exit_code=failure.exit_code,
        reason=mine.reason,
        message=mine.message,
        counts_as_failure=mine.counts_as_failure,
        retry=mine.retry,
        ended=now,
    )


@dataclass(frozen=True)
class _Share:
    outcome: Ending
    reason: str
    message: str
    counts_as_failure: bool = False
    retry: bool = True


def _own_share(own: Failure) -> _Share:
    return _Share("failed", own.reason, cut(own.message), counts_as_failure=True, retry=own.exit_code not in NO_RETRY)


def _share(ended: AttemptOutcome, view: UnitView, number: int, suspects: int, own: Failure | None) -> _Share:
    """Returns one member's share of a task's end, by the first rule that holds. `number`: its attempt.

    If a pod was evicted for exceeding its own storage limits, a new pod would be evicted too: the member is given up at
    once, unless this attempt left a marker, from which the next one continues with an empty disk.
    """
    if view.done:
        return _Share("succeeded", "Completed", "its result is committed")
    if own is not None:
        return _own_share(own)
    if ended.outcome in NOT_THE_WORK:
        return _Share(ended.outcome, ended.reason, ended.message)
    if ended.exit_code == ExitCode.OK and ended.reason != EVICTED:
        return _Share("failed", "NoResult", "the program succeeded but left no result", counts_as_failure=True)
    if ended.exit_code == ExitCode.STORE_UNAVAILABLE:
        return _Share("failed", ended.reason, ended.message)
    if ended.reason in NON_RETRYABLE or ended.exit_code == ExitCode.BAD_CONFIGURATION:
        return _Share("failed", ended.reason, ended.message, counts_as_failure=True, retry=False)
    if suspects <= 1:
        moved = any(marker.attempt == number for marker in view.markers.values())
        is_final = ended.exit_code in NO_RETRY or (ended.reason == EVICTED and not moved)
        return _Share("failed", ended.reason, ended.message, counts_as_failure=True, retry=not is_final)
    return _Share("failed", ended.reason, ended.message)
