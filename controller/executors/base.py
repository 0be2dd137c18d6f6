"""What runs tasks: subprocesses here, or Jobs in a cluster. decide sees both as an JobsSnapshot."""

from collections.abc import Callable, Iterable
from typing import Protocol

from controller.planner.actions import Decision
from controller.snapshot.types import JobsSnapshot, Unknown
from workloads.api.tasks import Owner, RunnableTask


class ActionRefused(Exception):
    """The cluster does not allow an action: nothing came of it, and the other actions of the round go on.

    Of a task that was not started the executor's view says so, and when it is asked again.
    """


class Executor(Protocol):
    def view(self) -> JobsSnapshot | Unknown:
        """All Jobs of this store, without gone_owners. Taken before the store is read: what ended, wrote before."""
        ...

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        """What is decided on `view` with the slots that are free now: others see what it takes before they decide."""
        ...

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        """Those of `owners` for which certainly no runner or controller acts."""
        ...

    def start(self, task: RunnableTask) -> None:
        """Runs the task, at most once ever: a task that was started before is left as it is. Raises ActionRefused."""
        ...

    def stop(self, key: str) -> None:
        """Asks the task's Job to end and, after the grace, makes it. Absent is fine."""
        ...

    def discard(self, key: str) -> None:
        """Forgets an ended Job. Absent is fine."""
        ...

    def fetch_weights(self) -> None:
        """Has the base brought to the weights volume. Asked only while the view says that it is absent.

        Raises ActionRefused.
        """
        ...
