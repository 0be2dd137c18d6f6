"""The limit of evaluation pods of a namespace, which its Experiments share: who has one, and whose turn is next.

A pod counts from the decision to start it to its end: by its task while its Job has not been seen (a claim), then by
the Job, then by the pod as long as it outlives its Job. Decisions are made and noted one at a time, so that no two take
the same pod. Who waited longest has the next one; who gets one, or more evaluations for one, waits again behind the
others. Claims and the order of waiting are in memory only: a controller that starts again knows the pods from its first
LIST, and who waits as they ask again.
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
"""A claim that is not confirmed for so long ends: above STALE_SECONDS of the copies, so that a Job would be in them."""
WAITING_SECONDS = 180.0
"""An Experiment that has not asked for so long, because its rounds fail, is passed over until it asks again."""
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
    """`holders`: by task key, who has an evaluation pod; `waiting`: who waits for one, the longest first."""

    most: int
    holders: Mapping[str, Owner]
    waiting: tuple[Owner, ...] = ()

    def pool(self, owner: Owner) -> Pool:
        """What is left to `owner` by others, and reserved_for_others to those who wait before it."""
        others = sum(holder != owner for holder in self.holders.values())
        ahead = self.waiting[: self.waiting.index(owner)] if owner in self.waiting else self.waiting
        return Pool(
            frozenset({GENERATE.name}),
            self.most - others,
            reserved_for_others=len(ahead),
            quota_message=self._full(len(ahead)),
        )

    def next(self) -> tuple[Owner, ...]:
        """Who of those that wait can have a pod now."""
        return self.waiting[: max(0, self.most - len(self.holders))]

    def _full(self, ahead: int) -> str:
        have = Counter(holder.experiment for holder in self.holders.values())
        names = [f"{name} ({count})" for name, count in sorted(have.items(), key=lambda item: (-item[1], item[0]))]
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        message = f"the namespace's limit of evaluation pods is {self.most}"
        message += f", at work for {', '.join(names[:SHOWN_NAMES])}{more}" if names else ""
        return message + (f"; {ahead} waited longer" if ahead else "")


@dataclass(frozen=True)
class QuotaLedger:
    """What is known beside the copies of Jobs and pods: claims by task key, and who waits. Pure.

    `known`: task keys of Jobs that were seen, be they gone since: a task has one Job in its life.
    """

    claims: Mapping[str, Claim] = field(default_factory=dict)
    waiters: Mapping[Owner, Waiter] = field(default_factory=dict)
    known: frozenset[str] = frozenset()

    def with_seen(self, keys: Iterable[str], now: datetime) -> "QuotaLedger":
        """A Job that was seen once speaks for itself, also when it is gone. `keys`: those that are new are enough."""
        new = frozenset(keys) - self.known
        known, oldest = self.known | new if new else self.known, now - timedelta(seconds=CLAIM_SECONDS)
        claims = {key: c for key, c in self.claims.items() if key not in known and c.confirmed > oldest}
        return replace(self, claims=claims, known=known)

    def after_decision(self, owner: Owner, decision: Decision, now: datetime) -> "QuotaLedger":
        """After a decision of `owner`. One that saw nothing says nothing."""
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
        """It waits no more. What it may have started counts until it is seen."""
        return replace(self, waiters={other: waiter for other, waiter in self.waiters.items() if other != owner})


def _takes(decision: Decision) -> bool:
    """A pod, or more for one that it has: else who keeps one at work would never let others have it."""
    tasks = (action.task for action in decision.actions if isinstance(action, WriteTask))
    return any(isinstance(task, GenerateTask) for task in tasks)


def holders(jobs: Iterable[Json], pods: Iterable[Json], claims: Mapping[str, Claim], now: datetime) -> dict[str, Owner]:
    """By task key: of live Jobs, of pods that have not ended (their Job may be gone), and claims."""
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
    """`most` 0: none. `wake` is called with the name of an Experiment whose turn has come.

    `tasks` keeps evaluations, and only this takes them.
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
        """The decision of `owner`, noted before anybody else's is made. `decide` does no I/O: others wait for it."""
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
        """A Job or pod came, changed or went."""
        if self._most:
            with self._lock:
                line = self._look()
            self._call(line.next())

    def forget(self, owner: Owner) -> None:
        """It is finished or gone: nobody waits behind it."""
        with self._lock:
            self._ledger = self._ledger.without(owner)
        self.changed()

    def line(self) -> QuotaQueue | None:
        """As it is now; None without a limit."""
        if not self._most:
            return None
        with self._lock:
            return self._look()

    def _look(self) -> QuotaQueue:
        """The line as it is now. Call it with the lock held."""
        now, found = self._clock(), self._tasks.take_evaluations()
        self._ledger = self._ledger.with_seen(found.seen, now)
        return QuotaQueue(
            self._most, holders(found.jobs, found.pods, self._ledger.claims, now), self._ledger.waiting(now)
        )

    def _call(self, owners: Iterable[Owner]) -> None:
        for owner in owners:
            self._wake(owner.experiment)
