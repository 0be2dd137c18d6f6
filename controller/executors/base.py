"""The interface of executors, which run tasks: subprocesses here, or Jobs in a cluster. Both report a JobsSnapshot."""

from collections.abc import Callable, Iterable
from typing import Protocol

from controller.planner.actions import Decision
from controller.snapshot.types import JobsSnapshot, Unknown
from workloads.api.tasks import Owner, RunnableTask


class ActionRefused(Exception):
    """The cluster does not allow an action. The action had no effect, and the other actions of the round continue.

    For a task that was not started, the next JobsSnapshot states the reason and the time of the next try.
    """


class Executor(Protocol):
    def view(self) -> JobsSnapshot | Unknown:
        """Returns all Jobs of this store, without gone_owners.

        Call it before the store is read: a Job that has ended had written its results before.
        """
        ...

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        """Calls `decide` with the current slots, and reserves the slots that its decision takes before other
        experiments decide.
        """
        ...

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Returns those of `owners` that certainly have no runner or controller."""
        ...

    def start(self, task: RunnableTask) -> None:
        """Runs the task, at most once: a task that was started before is not started again. Raises ActionRefused."""
        ...

    def stop(self, key: str) -> None:
        """Asks the task's Job to end, and kills it after the grace period. Does nothing if there is no such Job."""
        ...

    def discard(self, key: str) -> None:
        """Deletes the record of an ended Job. Does nothing if there is no such Job."""
        ...

    def fetch_weights(self) -> None:
        """Starts a Job that downloads the base to the weights volume. Called only if the JobsSnapshot says that it is
        absent.

        Raises ActionRefused.
        """
        ...
