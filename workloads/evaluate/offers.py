"""Reads tasks that the controller offers to a running engine, from the engine's log of offers; closes the log at the
end.

The log is `store_keys.offer_key` 1, 2, ... without a gap, each entry PUT If-None-Match: either the key of a task for
this engine, by the controller, or the end of the log, by the engine. The first writer of a number decides, so that a
task is never offered to an engine that has ended, and an engine never ends with an unread offer.
"""

import logging
import time
from dataclasses import dataclass
from threading import Event

from workloads.api import store_keys
from workloads.api.tasks import GenerateTask, Offer, parse_task
from workloads.storage.base import AlreadyExists, NotFound, Store

logger = logging.getLogger("potstill")
LINGERING = "lingering"
"""The phase of the progress record in which the engine is idle and waits for offers."""
POLL_SECONDS = 2.0


@dataclass
class Offers:
    """The log of one task's engine, read from its beginning."""

    store: Store
    task: GenerateTask
    sequence: int = 1
    closed: bool = False
    _returned: GenerateTask | None = None

    def put_back(self, task: GenerateTask) -> None:
        """Puts back a task that could not be begun: `take` returns it next, and the log stays open until then."""
        self._returned = task

    def take(self) -> GenerateTask | None:
        """Returns the next offered task; None if there is none now, or the log is closed.

        Raises StoreError, and takes none then.
        """
        if self._returned is not None:
            task, self._returned = self._returned, None
            return task
        while not self.closed:
            try:
                data = self.store.get(store_keys.offer_key(self.task.unit, self.task.number, self.sequence))
            except NotFound:
                return None
            offer = Offer.model_validate_json(data)
            if offer.task_key is None:
                self.closed = True
                return None
            offered = parse_task(self.store.get(offer.task_key))
            self.sequence += 1
            if isinstance(offered, GenerateTask):
                logger.info("took %s, attempt %d, which was offered", offered.unit, offered.number)
                return offered
            logger.error("offer %d: %s is not a generate task", self.sequence - 1, offer.task_key)
        return None

    def close(self) -> bool:
        """Returns whether the log is closed now. False: an offer came first, so take it. Raises StoreError."""
        if self._returned is not None:
            return False
        if not self.closed:
            key = store_keys.offer_key(self.task.unit, self.task.number, self.sequence)
            try:
                self.store.put_new(key, Offer(task_key=None).to_json())
            except AlreadyExists:
                return False
            self.closed = True
        return True


def linger(
    offers: Offers, seconds: float, terminated: Event, poll_seconds: float = POLL_SECONDS
) -> GenerateTask | None:
    """Returns the first task offered within `seconds`.

    If none came (or SIGTERM did), closes the log and returns None.
    """
    deadline = time.monotonic() + seconds
    while True:
        offered = offers.take()
        if offered is not None:
            return offered
        left = deadline - time.monotonic()
        if (left <= 0 or terminated.is_set() or offers.closed) and offers.close():
            return None
        terminated.wait(max(0.0, min(left, poll_seconds)))
