"""Writes an attempt's progress, log and notices in a thread, so that a slow store never delays the work."""

import json
import logging
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from workloads.api import store_keys
from workloads.api.records import Progress
from workloads.api.units import UnitRef
from workloads.attempt_log import AttemptLog
from workloads.storage.base import Store, StoreError

PROGRESS_SECONDS = 5.0
DIRECTORY_PROGRESS_SECONDS = 0.5
"""The interval for a store in a directory: writing is cheap there, and its readers are on the same machine."""
LOG_SECONDS = 20.0
"""The interval at which the log's tail is written, if it grew."""
NOTICE_SECONDS = 3600.0
"""The interval at which the attempt's notice is written again: controllers delete notices that are much older."""

logger = logging.getLogger("potstill")


class ProgressSink(Protocol):
    """Where a program leaves its progress and its notices.

    `abandoned`: set when the store does not answer; nothing more is written or waited for.
    """

    abandoned: bool

    def leave(self, progress: Progress) -> None:
        """Takes the progress."""

    def notify(self, unit: UnitRef, number: int, about: str) -> None:
        """Requests a notice for this attempt of the unit, because `about` was committed there."""


class Courier:
    """A thread that writes the latest progress every `progress_seconds`, the log's tail less often, and both at the
    end.

    With `notices` it writes a notice when it starts and after each `notify`. If a notice cannot be written, it is lost.
    """

    def __init__(
        self,
        store: Store,
        unit: UnitRef,
        number: int,
        log: AttemptLog,
        progress_seconds: float = PROGRESS_SECONDS,
        *,
        notices: bool = False,
    ) -> None:
        self._store = store
        self._own_notice = store_keys.notice_key(unit, number)
        self._notices = notices
        self._pending_notices: dict[str, str] = {}
        self._pending_lock = threading.Lock()
        self._notice_failed = False
        self._progress_key = store_keys.progress_key(unit, number)
        self._log_key = store_keys.log_key(unit, number)
        self._log = log
        self._progress_seconds = progress_seconds
        self._writing = threading.Lock()
        self._latest: Progress | None = None
        self._written: Progress | None = None
        self._log_lines_written = 0
        self.abandoned = False
        """Set when the store does not answer: nothing more is written or waited for."""
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._carry, name="courier", daemon=True)

    def __enter__(self) -> Self:
        self._add_notice(self._own_notice, "started")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._wake.set()
        if self.abandoned:
            return
        self._thread.join()
        self._write_progress()
        self._write_notices()
        self._write_log()

    def notify(self, unit: UnitRef, number: int, about: str) -> None:
        """Requests a notice for this attempt of the unit, because something was committed there. Never raises, never
        waits.

        `about`: what was committed, for messages.
        """
        self._add_notice(store_keys.notice_key(unit, number), about)
        self._wake.set()

    def _add_notice(self, key: str, about: str) -> None:
        if self._notices:
            with self._pending_lock:
                self._pending_notices[key] = about

    def leave(self, progress: Progress) -> None:
        """Takes the progress. A change of `loading` is written before this returns, a change of `phase` at once."""
        before, self._latest = self._latest, progress
        if progress.loading != (before.loading if before else None):
            self._write_progress()
        elif before is None or before.phase != progress.phase:
            self._wake.set()

    def _carry(self) -> None:
        log_due = time.monotonic() + LOG_SECONDS
        notice_due = time.monotonic() + NOTICE_SECONDS
        self._write_notices()
        while not self._stopped:
            self._wake.wait(self._progress_seconds)
            self._wake.clear()
            if time.monotonic() >= notice_due:
                self._add_notice(self._own_notice, "running")
                notice_due = time.monotonic() + NOTICE_SECONDS
            self._write_notices()
            self._write_progress()
            if time.monotonic() >= log_due:
                self._write_log()
                log_due = time.monotonic() + LOG_SECONDS

    def _write_progress(self) -> None:
        with self._writing:
            latest = self._latest
            if latest is not None and latest is not self._written and self._put(self._progress_key, latest.to_json()):
                self._written = latest

    def _write_notices(self) -> None:
        """Writes pending notices, once. The time makes each notice's content, and so its ETag, different."""
        with self._pending_lock:
            pending, self._pending_notices = self._pending_notices, {}
        for key, about in pending.items():
            notice = {"about": about, "time": datetime.now(UTC).isoformat()}
            try:
                self._store.put(key, json.dumps(notice).encode())
            except StoreError as error:
                if not self._notice_failed:
                    logger.warning("a notice was not written, so its commit is seen minutes later: %s", error)
                self._notice_failed = True

    def _write_log(self) -> None:
        with self._writing:
            lines = self._log.lines
            if lines != self._log_lines_written and self._put(self._log_key, self._log.tail()):
                self._log_lines_written = lines

    def _put(self, key: str, data: bytes) -> bool:
        try:
            self._store.put(key, data)
        except StoreError as error:
            logger.warning("%s", error)
            return False
        return True
