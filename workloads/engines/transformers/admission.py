"""Decides when waiting requests join a batch: several at once.

A step that reads a prompt runs without a CUDA graph and takes longer than one that only decodes. If outputs end at
different times and requests joined one by one, every fifth step would read a prompt (docs/performance.md).
"""

from collections import deque

from workloads.engines.base import Request

SHARE = 16
"""Requests join a running batch only when one row in this many is free."""
GROWING = 2
"""This many requests run for each one that memory could hold at full length, because they are on average half as long.

With many more the engine would preempt some, and read them again one by one.
"""


class Admission:
    """Requests in order, for a batch of at most `rows`. Memory holds `full_length_rows` of the longest ones."""

    def __init__(self, rows: int, full_length_rows: int) -> None:
        self._rows = min(rows, max(1, GROWING * full_length_rows))
        self._together = max(1, self._rows // SHARE)
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def wants(self, running: int) -> bool:
        """Returns whether the batch has rows for which no request waits."""
        return self._rows - running > len(self._waiting)

    def room(self, running: int, requests: int) -> int:
        """Returns how many times `requests` more would join at once; at least 1 while half of the rows are free."""
        free = self._rows - running - len(self._waiting)
        return max(free // requests, int(2 * free >= self._rows))

    def put(self, request: Request) -> None:
        self._waiting.append(request)

    def take(self, running: int) -> list[Request]:
        """Returns the requests that join now, with `running` rows in use. If none run and any wait, some join."""
        free = self._rows - running
        if running and free < self._together:
            return []
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
