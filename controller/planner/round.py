"""The inputs of one decision, as one value that the planner's functions share."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from controller.planner.actions import CloseTask, Intent
from controller.snapshot.types import Attempt, Job, JobsSnapshot, StoreSnapshot
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import Owner
from workloads.api.units import UnitRef


@dataclass(frozen=True)
class Round:
    """One round of one experiment: the two snapshots, the time, and the task ends that this round writes.

    `intent`: the user's request for the experiment. `closing` is empty until the completion checks have run.
    """

    experiment: FrozenExperiment
    store: StoreSnapshot
    jobs: JobsSnapshot
    now: datetime
    intent: Intent = "run"
    closing: tuple[CloseTask, ...] = ()

    @cached_property
    def owner(self) -> Owner:
        return owner_of(self.experiment)

    @cached_property
    def closed(self) -> frozenset[tuple[UnitRef, int]]:
        """The (unit, number) of the attempts that this round closes."""
        return frozenset((close.unit, close.end.number) for close in self.closing)

    @cached_property
    def own_attempts(self) -> tuple[Attempt, ...]:
        """All attempts of this experiment, open or closed, including pointers of group members."""
        return tuple(a for view in self.store.units.values() for a in view.attempts if a.task.owner == self.owner)

    def open_attempts(self) -> Iterator[Attempt]:
        """Yields attempts of any experiment that have no end in the store."""
        return (attempt for view in self.store.units.values() for attempt in view.open_attempts)

    def is_running(self, attempt: Attempt) -> bool:
        """Returns whether the attempt is open, or its Job has not ended yet."""
        job = self.jobs.jobs.get(attempt.task.key)
        return attempt.end is None or (job is not None and job.phase != "ended")

    @cached_property
    def gpu_seconds_spent(self) -> float:
        """GPU-seconds of this experiment's closed tasks and of the Jobs of its open tasks."""
        closed = sum(attempt.end.gpu_seconds for attempt in self.own_attempts if attempt.end is not None)
        open_keys = {attempt.task.key for attempt in self.own_attempts if attempt.end is None}
        return closed + sum(gpu_seconds_of(self.jobs.jobs.get(key), self.now) for key in sorted(open_keys))

    @property
    def is_budget_spent(self) -> bool:
        """Returns whether limits.gpuSeconds are used up."""
        limit = self.experiment.limits.gpu_seconds
        return limit is not None and self.gpu_seconds_spent >= limit


def owner_of(frozen: FrozenExperiment) -> Owner:
    return Owner(experiment=frozen.name, uid8=frozen.uid8)


def gpu_seconds_of(job: Job | None, now: datetime) -> float:
    """Returns GPUs times seconds since the Job started, up to its end or `now`."""
    if job is None or job.started is None:
        return 0.0
    return max(0.0, ((job.ended or now) - job.started).total_seconds()) * job.gpus
