"""When requests that wait join a batch: several at once.

A step that reads a prompt runs without a CUDA graph and takes longer than those that only decode. Where outputs end at
different times, requests let in one by one would make every fifth step such a one (docs/performance.md).
"""

from collections import deque

from workloads.engines.base import Request

SHARE = 16
"""Of a batch's rows one in so many must be free before requests join those under way."""
GROWING = 2
"""For each request that memory would hold at its full length so many are under way: the longest are on average half as
long. With many more the engine puts some back, and reads them again one by one.
"""


class Admission:
    """Requests in their order, for a batch of at most `rows`, where memory holds `full_length_rows` of the longest."""

    def __init__(self, rows: int, full_length_rows: int) -> None:
        self._rows = min(rows, max(1, GROWING * full_length_rows))
        self._together = max(1, self._rows // SHARE)
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def wants(self, running: int) -> bool:
        """Whether the batch has rows for which no request waits."""
        return self._rows - running > len(self._waiting)

    def room(self, running: int, requests: int) -> int:
        """How many times `requests` more would join at once; once at least while a half of the rows is free."""
        free = self._rows - running - len(self._waiting)
        return max(free // requests, int(2 * free >= self._rows))

    def put(self, request: Request) -> None:
        self._waiting.append(request)

    def take(self, running: int) -> list[Request]:
        """Those that join now, where `running` rows are taken. Some, if none are and any wait."""
        free = self._rows - running
        if running and free < self._together:
            return []
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
