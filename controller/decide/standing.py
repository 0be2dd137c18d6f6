"""Where one unit stands: done, at work, to be waited for, given up, or ready for its next attempt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from controller.decide.accounts import Account, account
from controller.decide.actions import Why
from controller.view import Attempt, ExecutorView, Job, StoreView, UnitView, members_of
from workloads.contract.experiment import FrozenExperiment
from workloads.contract.tasks import MemberPointer, Owner
from workloads.contract.units import UnitRef

STUCK_SECONDS = 600.0
"""A Job that is still ending after this (a dead node) no longer holds back the next attempt."""

UNREADABLE = "UnreadableRecord"
"""The reason of a unit with a record that cannot be read."""
SHARED = "SharedUnit"
"""The reason of a unit that another experiment's attempt works at."""
REFUSED = "JobRefused"
"""The reason of a unit whose Job the cluster does not let be made."""

STARTING = "Starting"
"""The reason of a pending Job that is on its way as usual."""

State = Literal["done", "open", "foreign", "stopping", "exhausted", "backoff", "ready"]


@dataclass(frozen=True)
class Standing:
    """`pending`: an open one of which nothing runs yet; `why` says what it waits for."""

    state: State
    why: Why
    account: Account = field(default_factory=Account)
    pending: bool = False


def owner_of(frozen: FrozenExperiment) -> Owner:
    return Owner(experiment=frozen.name, uid8=frozen.uid8)


def is_live(job: Job, now: datetime) -> bool:
    """It has not ended; one that has been stopping for too long (a dead node) is not waited for any more."""
    if job.phase == "ended":
        return False
    return job.stopping is None or now - job.stopping < timedelta(seconds=STUCK_SECONDS)


def reserved(store: StoreView, owner: Owner) -> Mapping[UnitRef, str]:
    """Members of our open groups whose pointer is not written yet, by the group's task key."""
    found: dict[UnitRef, str] = {}
    for view in store.units.values():
        for attempt in view.open_attempts:
            task = attempt.task
            if isinstance(task, MemberPointer) or task.owner != owner:
                continue
            for unit, number in members_of(task):
                if unit != task.unit and store.unit(unit).next_number <= number:
                    found[unit] = task.key
    return found


def standing(
    view: UnitView,
    frozen: FrozenExperiment,
    executor: ExecutorView,
    held: Mapping[UnitRef, str],
    now: datetime,
) -> Standing:
    owner = owner_of(frozen)
    damage = next((Why(UNREADABLE, message) for message in view.unreadable.values()), None)
    if view.done:
        return Standing("done", damage or Why("Committed", "its result is committed"))
    if damage is not None:
        return Standing("exhausted", damage)
    for attempt in view.open_attempts:
        if attempt.task.owner == owner:
            return _open(attempt, executor)
        other = attempt.task.owner
        message = f"waits for experiment {other.experiment} (attempt {attempt.number})"
        return Standing("foreign", Why(SHARED, message))
    if view.unit in held:
        return Standing("open", Why("Grouped", f"is a member of {held[view.unit]}"))
    for attempt in view.attempts:
        job = executor.jobs.get(attempt.lead_key)
        if job is not None and is_live(job, now):
            return Standing("stopping", Why("Stopping", f"waits for attempt {attempt.number} to stop"))
    past = account(view, owner, frozen.limits)
    if past.exhausted is not None:
        return Standing("exhausted", past.exhausted, past)
    if past.not_before is not None and now < past.not_before:
        seconds = (past.not_before - now).total_seconds()
        return Standing("backoff", Why("BackingOff", f"next attempt in {seconds:.0f} s"), past)
    return Standing("ready", Why("Ready", "waits for a slot"), past)


def _open(attempt: Attempt, executor: ExecutorView) -> Standing:
    """Of a unit that our attempt is open for: whether anything of it runs."""
    refusal, job = executor.refused.get(attempt.lead_key), executor.jobs.get(attempt.lead_key)
    if refusal is not None and job is None:
        return Standing("open", Why(REFUSED, f"attempt {attempt.number}: {refusal.message}"), pending=True)
    if job is not None and job.phase == "pending" and job.reason:
        message = f"attempt {attempt.number} has not started: {job.reason}: {job.message}"
        return Standing("open", Why(job.reason, message), pending=True)
    return Standing("open", Why("Attempted", f"attempt {attempt.number} is at work"))
