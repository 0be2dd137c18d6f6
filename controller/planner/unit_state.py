"""The state of one unit: done, running, in backoff, exhausted, or ready for its next attempt, for example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from controller.planner.actions import Reason
from controller.planner.retry_policy import RetryState, retry_state
from controller.planner.round import Round
from controller.snapshot.types import Attempt, Job, JobsSnapshot, UnitView, members_of
from workloads.api.tasks import MemberPointer
from workloads.api.units import UnitRef

STUCK_SECONDS = 600.0
"""A Job that has been stopping for this long (on a lost node) no longer delays the next attempt."""

UNREADABLE = "UnreadableRecord"
"""The reason of a unit with a record that cannot be read."""
SHARED = "SharedUnit"
"""The reason of a unit for which another experiment has an open attempt."""
REFUSED = "JobRefused"
"""The reason of a unit whose Job the cluster refuses."""

STARTING = "Starting"
"""The reason of a pending Job without a problem."""

State = Literal["done", "open", "foreign", "stopping", "exhausted", "backoff", "ready"]


@dataclass(frozen=True)
class UnitState:
    """`pending`: the unit is open and no process of it runs yet; `why` has the reason."""

    state: State
    why: Reason
    retry_state: RetryState = field(default_factory=RetryState)
    pending: bool = False


def is_live(job: Job, now: datetime) -> bool:
    """Returns whether the Job has not ended. If it has been stopping for STUCK_SECONDS (a lost node), it has ended."""
    if job.phase == "ended":
        return False
    return job.stopping is None or now - job.stopping < timedelta(seconds=STUCK_SECONDS)


def reserved(round_: Round) -> Mapping[UnitRef, str]:
    """Returns the members of this experiment's open groups that have no pointer yet, each with its task's key."""
    group_keys: dict[UnitRef, str] = {}
    for attempt in round_.open_attempts():
        task = attempt.task
        if isinstance(task, MemberPointer) or task.owner != round_.owner:
            continue
        for unit, number in members_of(task):
            if unit != task.unit and round_.store.unit(unit).next_number <= number:
                group_keys[unit] = task.key
    return group_keys


def state_of(view: UnitView, round_: Round, group_keys: Mapping[UnitRef, str]) -> UnitState:
    """`group_keys`: as `reserved` returns it."""
    owner, now = round_.owner, round_.now
    damage = next((Reason(UNREADABLE, message) for message in view.unreadable.values()), None)
    if view.done:
        return UnitState("done", damage or Reason("Committed", "its result is committed"))
    if damage is not None:
        return UnitState("exhausted", damage)
    for attempt in view.open_attempts:
        if attempt.task.owner == owner:
            return _open(attempt, round_.jobs)
        other = attempt.task.owner
        message = f"waits for experiment {other.experiment} (attempt {attempt.number})"
        return UnitState("foreign", Reason(SHARED, message))
    if view.unit in group_keys:
        return UnitState("open", Reason("Grouped", f"is a member of {group_keys[view.unit]}"))
    for attempt in view.attempts:
        job = round_.jobs.jobs.get(attempt.lead_key)
        if job is not None and is_live(job, now):
            return UnitState("stopping", Reason("Stopping", f"waits for attempt {attempt.number} to stop"))
    past = retry_state(view, owner, round_.experiment.limits)
    if past.exhausted is not None:
        return UnitState("exhausted", past.exhausted, past)
    if past.not_before is not None and now < past.not_before:
        seconds = (past.not_before - now).total_seconds()
        return UnitState("backoff", Reason("BackingOff", f"next attempt in {seconds:.0f} s"), past)
    return UnitState("ready", Reason("Ready", "waits for a slot"), past)


def _open(attempt: Attempt, snapshot: JobsSnapshot) -> UnitState:
    """Returns the state of a unit with our open attempt: whether any process of it runs."""
    refusal, job = snapshot.refused.get(attempt.lead_key), snapshot.jobs.get(attempt.lead_key)
    if refusal is not None and job is None:
        return UnitState("open", Reason(REFUSED, f"attempt {attempt.number}: {refusal.message}"), pending=True)
    if job is not None and job.phase == "pending" and job.reason:
        message = f"attempt {attempt.number} has not started: {job.reason}: {job.message}"
        return UnitState("open", Reason(job.reason, message), pending=True)
    return UnitState("open", Reason("Attempted", f"attempt {attempt.number} is running"))
