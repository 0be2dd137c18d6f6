"""Jobs that the API server refuses (a quota, an admission policy): what it said, and when it is asked again."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controller.executors.kubernetes.api import ApiError
from controller.snapshot.types import Refusal
from workloads.untrusted import one_line

FIRST_SECONDS = 2.0
LONGEST_SECONDS = 30.0
"""Between two tries. Nothing tells the controller that a quota was raised, so this is how long that goes unnoticed."""
SHOWN_CHARACTERS = 600
TRANSIENT = frozenset({401, 408, 429, 502, 503, 504})
"""Answers about the API server or our access to it, and not about the object."""


def is_refusal(error: ApiError) -> bool:
    return error.status not in TRANSIENT


def message_of(error: ApiError) -> str:
    """The API server's own words, on one line."""
    return one_line(error.message, SHOWN_CHARACTERS) or f"{error.status} {error.reason}".strip()


class Refusals:
    """Of one Experiment, by task key. Memory only: a controller that starts again asks again."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._found: dict[str, Refusal] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, key: str, message: str) -> float:
        """Records one more refusal of this key. Returns the seconds until it is asked again, doubled with each."""
        with self._lock:
            count = self._counts.get(key, 0)
            seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(count, 16))
            self._counts[key] = count + 1
            self._found[key] = Refusal(message, self._clock() + timedelta(seconds=seconds))
            return seconds

    def made(self, key: str) -> bool:
        """The Job of this key is there: all others may be asked again at once. Returns whether there are others."""
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
        """Until one is asked again; None when all that are to be asked again may be by now."""
        now = self._clock()
        later = [seconds for one in self.current().values() if (seconds := (one.retry_at - now).total_seconds()) > 0]
        return min(later, default=None)
