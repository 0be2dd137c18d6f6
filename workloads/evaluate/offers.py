"""What became ready while an engine works, or waits before it exits: taken from its log of offers, which is closed at
the end.

The log is `layout.offer_key` 1, 2, ... without a gap, each entry PUT If-None-Match: either the key of a task for this
engine, by the controller, or its end, by the engine. The first writer of a number decides, so that a task is never
offered to an engine that has gone, and an engine never goes with an offer untaken.
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
"""The phase of the progress record in which offers are made."""
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
        """What was taken and could not be begun: it is the next that is taken, and the log is not closed before."""
        self._returned = task

    def take(self) -> GenerateTask | None:
        """The next offered task; None if there is none now, or the log is closed. Raises StoreError: none is taken."""
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
            logger.error("offer %d: %s is no generate task", self.sequence - 1, offer.task_key)
        return None

    def close(self) -> bool:
        """Whether the log is closed now; False: an offer came first, take it. Raises StoreError."""
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
    """The first task offered within `seconds`; None once nothing came (or SIGTERM did) and the log is closed."""
    deadline = time.monotonic() + seconds
    while True:
        offered = offers.take()
        if offered is not None:
            return offered
        left = deadline - time.monotonic()
        if (left <= 0 or terminated.is_set() or offers.closed) and offers.close():
            return None
        terminated.wait(max(0.0, min(left, poll_seconds)))
