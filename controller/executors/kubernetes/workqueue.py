"""A queue of keys.

Each key is handled by one worker at a time, at its due time, with a longer pause after each failure.
"""

import heapq
import logging
import random
import threading
from collections.abc import Callable

logger = logging.getLogger("potstill")

Key = tuple[str, str]
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 120.0


class KeyedQueue:
    """`clock` gives monotonic seconds. A key added while it is due later becomes due at the earlier time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._taken: set[Key] = set()
        self._changed = threading.Condition()
        self._closed = False

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        with self._changed:
            due = self._clock() + after_seconds
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            if key not in self._taken:
                heapq.heappush(self._heap, (due, key))
                self._changed.notify()

    def done(self, key: Key) -> None:
        """Call it when the key was handled: it may then be taken again when it is due."""
        with self._changed:
            self._taken.discard(key)
            if key in self._due:
                heapq.heappush(self._heap, (self._due[key], key))
                self._changed.notify()

    def failed(self, key: Key) -> float:
        """Adds the key after a jittered pause that doubles with each failure in a row. Returns the seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        ceiling = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(count, 16))
        wait = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter
        self.add(key, wait)
        return wait

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    def failing(self) -> tuple[Key, ...]:
        """Keys whose last round failed."""
        with self._changed:
            return tuple(self._failures)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> Key | None:
        """Waits for the next due key and returns it; None after `close`. No other worker gets the key before `done`."""
        with self._changed:
            while not self._closed:
                while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                    heapq.heappop(self._heap)
                wait = self._heap[0][0] - self._clock() if self._heap else None
                if wait is not None and wait <= 0:
                    _, key = heapq.heappop(self._heap)
                    del self._due[key]
                    self._taken.add(key)
                    return key
                self._changed.wait(wait)
            return None


def work(queue: KeyedQueue, handle: Callable[[Key], None]) -> None:
    """Calls `handle` with each key of the queue until the queue is closed.

    Logs errors; the key of an error comes again after a pause.
    """
    while (key := queue.take()) is not None:
        try:
            handle(key)
        except Exception:
            logger.exception("%s/%s: this is a bug in Potstill; again in %.1f s", *key, queue.failed(key))
        finally:
            queue.done(key)
