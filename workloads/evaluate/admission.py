"""When requests that wait join a batch: several at once.

A step that reads a prompt runs without a CUDA graph and takes longer than those that only decode. Where outputs end at
different times, requests let in one by one would make every fifth step such a one (docs/performance.md).
"""

from collections import deque

from workloads.evaluate.engine import Request

SHARE = 16
"""Of a batch's rows one in so many must be free before requests join those under way."""


class Admission:
    """Requests in their order, for a batch of `rows` rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._together = max(1, rows // SHARE)
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request) -> None:
        self._waiting.append(request)

    def take(self, running: int) -> list[Request]:
        """Those that join now, where `running` rows are taken. Some, if none are and any wait."""
        free = self._rows - running
        if running and free < self._together:
            return []
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
