"""The limit of evaluation pods of a namespace. Its Experiments share the pods through a fair queue.

A pod counts from the decision to start it until it ends: first by a claim, until its Job is in the copy; then by the
Job; then by the pod, if it outlives its Job. Decisions are made and recorded one at a time, so no two decisions take
the same pod. The Experiment that has waited longest gets the next pod. An Experiment that gets a pod, or more
evaluations for a running one, goes to the end of the queue. Claims and the queue are in memory only: after a restart
the controller knows the pods from its first LIST, and the queue from the next round of each Experiment.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.executors.kubernetes.job_states import job_of
from controller.executors.kubernetes.names import EXPERIMENT_LABEL, TASK_ANNOTATION, UID8_LABEL
from controller.executors.kubernetes.task_index import TaskIndex, is_evaluation
from controller.planner.actions import Decision, WriteTask
from controller.planner.unit_state import STUCK_SECONDS, is_live
from controller.snapshot.types import JobsSnapshot, Pool
from workloads.api.tasks import GenerateTask, Owner
from workloads.stages.generate import GENERATE

Json = dict[str, Any]
CLAIM_SECONDS = 120.0
"""A claim that is not confirmed for this long ends.

It is more than STALE_SECONDS, so a Job would be in the copies by then.
"""
WAITING_SECONDS = 180.0
"""An Experiment whose rounds fail for this long is skipped until its next decision."""
SHOWN_NAMES = 3


@dataclass(frozen=True)
class Claim:
    """A generate task that may have a Job that is not in the copy yet."""

    owner: Owner
    confirmed: datetime


@dataclass(frozen=True)
class Waiter:
    since: datetime
    confirmed: datetime


@dataclass(frozen=True)
class QuotaQueue:
    """`holders`: the owner of each evaluation pod, by task key.

    `waiting`: owners that wait for a pod, the longest first.
    """

    most: int
    holders: Mapping[str, Owner]
    waiting: tuple[Owner, ...] = ()

    def pool(self, owner: Owner) -> Pool:
        """Returns the pool for `owner`: slots that others do not hold.

        `reserved_for_others`: slots for owners ahead of it in the queue.
        """
        others = sum(holder != owner for holder in self.holders.values())
        ahead = self.waiting[: self.waiting.index(owner)] if owner in self.waiting else self.waiting
        return Pool(
            frozenset({GENERATE.name}),
            self.most - others,
            reserved_for_others=len(ahead),
            quota_message=self._full(len(ahead)),
        )

    def next(self) -> tuple[Owner, ...]:
        """Returns the waiting owners that can have a pod now."""
        return self.waiting[: max(0, self.most - len(self.holders))]

    def _full(self, ahead: int) -> str:
        have = Counter(holder.experiment for holder in self.holders.values())
        names = [f"{name} ({count})" for name, count in sorted(have.items(), key=lambda item: (-item[1], item[0]))]
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        message = f"the namespace's limit of evaluation pods is {self.most}"
        message += f", used by {', '.join(names[:SHOWN_NAMES])}{more}" if names else ""
        return message + (f"; {ahead} waited longer" if ahead else "")


@dataclass(frozen=True)
class QuotaLedger:
    """The state in addition to the copies of Jobs and pods: claims by task key, and waiting owners. Pure.

    `known`: task keys of all Jobs seen so far, including deleted ones. A task has one Job in its life.
    """

    claims: Mapping[str, Claim] = field(default_factory=dict)
    waiters: Mapping[Owner, Waiter] = field(default_factory=dict)
    known: frozenset[str] = frozenset()

    def with_seen(self, keys: Iterable[str], now: datetime) -> "QuotaLedger":
        """Returns the ledger without claims for Jobs that were seen. `keys` may contain only the keys that are new."""
        new = frozenset(keys) - self.known
        known, oldest = self.known | new if new else self.known, now - timedelta(seconds=CLAIM_SECONDS)
        claims = {key: c for key, c in self.claims.items() if key not in known and c.confirmed > oldest}
        return replace(self, claims=claims, known=known)

    def after_decision(self, owner: Owner, decision: Decision, now: datetime) -> "QuotaLedger":
        """Returns the ledger after a decision of `owner`. A decision without a complete snapshot changes nothing."""
        if decision.generating is None:
            return self
        claims = {key: claim for key, claim in self.claims.items() if claim.owner != owner}
        claims |= {key: Claim(owner, now) for key in decision.generating - self.known}
        waiters = dict(self.waiters)
        before = waiters.pop(owner, None)
        if decision.limited:
            waiters[owner] = Waiter(before.since if before and not _takes(decision) else now, now)
        return replace(self, claims=claims, waiters=waiters)

    def waiting(self, now: datetime) -> tuple[Owner, ...]:
        oldest = now - timedelta(seconds=WAITING_SECONDS)
        asking = [(waiter.since, owner) for owner, waiter in self.waiters.items() if waiter.confirmed > oldest]
        return tuple(owner for _, owner in sorted(asking, key=lambda one: (one[0], one[1].experiment, one[1].uid8)))

    def without(self, owner: Owner) -> "QuotaLedger":
        """Returns the ledger in which `owner` does not wait. Its claims stay until their Jobs are seen."""
        return replace(self, waiters={other: waiter for other, waiter in self.waiters.items() if other != owner})


def _takes(decision: Decision) -> bool:
    """Returns whether the decision takes a pod, or gives a running one more evaluations.

    Without the second rule an owner could keep its pod forever while others wait.
    """
    tasks = (action.task for action in decision.actions if isinstance(action, WriteTask))
    return any(isinstance(task, GenerateTask) for task in tasks)


def holders(jobs: Iterable[Json], pods: Iterable[Json], claims: Mapping[str, Claim], now: datetime) -> dict[str, Owner]:
    """Returns owners by task key: of live Jobs, of pods that have not ended (their Job may be deleted), and of
    claims.
    """
    found = {_key(item): _owner(item) for item in jobs if is_evaluation(item) and is_live(job_of(item, []), now)}
    found |= {_key(item): _owner(item) for item in pods if is_evaluation(item) and _pod_is_live(item, now)}
    return found | {key: claim.owner for key, claim in claims.items()}


def _pod_is_live(pod: Json, now: datetime) -> bool:
    if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return False
    ending = pod["metadata"].get("deletionTimestamp")
    return ending is None or now - datetime.fromisoformat(ending) < timedelta(seconds=STUCK_SECONDS)


def _key(item: Json) -> str:
    return str(item["metadata"]["annotations"][TASK_ANNOTATION])


def _owner(item: Json) -> Owner:
    marks = item["metadata"]["labels"]
    return Owner(experiment=marks[EXPERIMENT_LABEL], uid8=marks[UID8_LABEL])


class EvaluationLimit:
    """The limit of one namespace. `most`: 0 for no limit. `wake` is called with an Experiment that can have a pod now.

    `tasks` must keep evaluations. Only this object calls its `take_evaluations`.
    """

    def __init__(
        self,
        most: int,
        tasks: TaskIndex,
        clock: Callable[[], datetime],
        wake: Callable[[str], None],
    ) -> None:
        self._most = most
        self._tasks = tasks
        self._clock = clock
        self._wake = wake
        self._ledger = QuotaLedger()
        self._lock = threading.Lock()

    def admit(self, owner: Owner, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        """Makes and records the decision of `owner` before any other decision.

        `decide` must do no I/O, because others wait.
        """
        if not self._most:
            return decide(view)
        with self._lock:
            line = self._look()
            decision = decide(replace(view, pools=(*view.pools, line.pool(owner))))
            self._ledger = self._ledger.after_decision(owner, decision, self._clock())
            after = self._look()
        self._call({*after.next()} - {*line.next(), owner})
        return decision

    def changed(self) -> None:
        """Call it when a Job or pod was added, changed or deleted."""
        if self._most:
            with self._lock:
                line = self._look()
            self._call(line.next())

    def forget(self, owner: Owner) -> None:
        """Removes an owner that has finished or was deleted from the queue."""
        with self._lock:
            self._ledger = self._ledger.without(owner)
        self.changed()

    def line(self) -> QuotaQueue | None:
        """Returns the current queue; None without a limit."""
        if not self._most:
            return None
        with self._lock:
            return self._look()

    def _look(self) -> QuotaQueue:
        """Returns the current queue. Call it with the lock held."""
        now, found = self._clock(), self._tasks.take_evaluations()
        self._ledger = self._ledger.with_seen(found.seen, now)
        return QuotaQueue(
            self._most, holders(found.jobs, found.pods, self._ledger.claims, now), self._ledger.waiting(now)
        )

    def _call(self, owners: Iterable[Owner]) -> None:
        for owner in owners:
            self._wake(owner.experiment)
