"""Carries an attempt's progress and log to the store beside the work, so that a slow store never holds the work up."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from workloads.attempt_log import AttemptLog
from workloads.contract import layout
from workloads.contract.records import Progress
from workloads.contract.units import UnitRef
from workloads.store import Store, StoreError

PROGRESS_SECONDS = 5.0
DIRECTORY_PROGRESS_SECONDS = 0.5
"""In a directory progress costs nothing, and its readers are on the same machine."""
LOG_SECONDS = 20.0
"""The log's tail goes so often, if it grew."""

logger = logging.getLogger("potstill")


class Courier:
    """A thread that writes the latest progress every `progress_seconds`, the log's tail less often, both at the end."""

    def __init__(
        self, store: Store, unit: UnitRef, number: int, log: AttemptLog, progress_seconds: float = PROGRESS_SECONDS
    ) -> None:
        self._store = store
        self._progress_key = layout.progress_key(unit, number)
        self._log_key = layout.log_key(unit, number)
        self._log = log
        self._progress_seconds = progress_seconds
        self._writing = threading.Lock()
        self._latest: Progress | None = None
        self._written: Progress | None = None
        self._log_lines_written = 0
        self.abandoned = False
        """Set when the store is away: nothing more is written, and nothing waited for."""
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._carry, name="courier", daemon=True)

    def __enter__(self) -> Self:
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
        self._write_log()

    def leave(self, progress: Progress) -> None:
        """Takes the progress. A change of `loading` is written before this returns, one of `phase` at once."""
        before, self._latest = self._latest, progress
        if progress.loading != (before.loading if before else None):
            self._write_progress()
        elif before is None or before.phase != progress.phase:
            self._wake.set()

    def _carry(self) -> None:
        log_due = time.monotonic() + LOG_SECONDS
        while not self._stopped:
            self._wake.wait(self._progress_seconds)
            self._wake.clear()
            self._write_progress()
            if time.monotonic() >= log_due:
                self._write_log()
                log_due = time.monotonic() + LOG_SECONDS

    def _write_progress(self) -> None:
        with self._writing:
            latest = self._latest
            if latest is not None and latest is not self._written and self._put(self._progress_key, latest.to_json()):
                self._written = latest

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
