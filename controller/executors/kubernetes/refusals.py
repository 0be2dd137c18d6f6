"""Jobs that the API server refuses (a quota, an admission policy): its message, and the time of the next try."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controller.executors.kubernetes.api import ApiError
from controller.snapshot.types import Refusal
from workloads.untrusted import one_line

FIRST_SECONDS = 2.0
LONGEST_SECONDS = 30.0
"""The longest time between two tries.

The controller is not notified when a quota is raised, so it notices this late.
"""
SHOWN_CHARACTERS = 600
TRANSIENT = frozenset({401, 408, 429, 502, 503, 504})
"""HTTP statuses that are about the API server or our access to it, and not about the object."""


def is_refusal(error: ApiError) -> bool:
    return error.status not in TRANSIENT


def message_of(error: ApiError) -> str:
    """Returns the API server's message on one line."""
    return one_line(error.message, SHOWN_CHARACTERS) or f"{error.status} {error.reason}".strip()


class Refusals:
    """The refusals of one Experiment, by task key. They are in memory only: a new controller tries again at once."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._found: dict[str, Refusal] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, key: str, message: str) -> float:
        """Records one more refusal of this key. Returns the seconds until the next try, which double each time."""
        with self._lock:
            count = self._counts.get(key, 0)
            seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(count, 16))
            self._counts[key] = count + 1
            self._found[key] = Refusal(message, self._clock() + timedelta(seconds=seconds))
            return seconds

    def made(self, key: str) -> bool:
        """Records that the Job of this key exists. All others may be tried again at once.

        Returns whether there are others.
        """
        with self._lock:
            if self._found.pop(key, None) is None:
                return False
            now = self._clock()
            self._counts.clear()
            self._found = {other: replace(refusal, retry_at=now) for other, refusal in self._found.items()}
            return bool(self._found)

    def current(self) -> Mapping[str, Refusal]:
        with self._lock:
            return dict(self._found)

    def seconds_to_next(self) -> float | None:
        """Returns the seconds until the next try; None if all may be tried now."""
        now = self._clock()
        later = [seconds for one in self.current().values() if (seconds := (one.retry_at - now).total_seconds()) > 0]
        return min(later, default=None)
