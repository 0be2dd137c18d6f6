"""Notices an engine that hangs: no token for so long, its stacks in the log, the process ended.

A hung engine is inside a kernel or a collective and answers no exception, so the process has to go.
"""

import faulthandler
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger("potstill")
STACKS_SECONDS = 3.0
"""How long children have to write their stacks to stderr."""


class Watchdog:
    """`alive()` returns a number that changes while the engine works; looked at only between `expect` and `rest`.

    `end(message, stacks)` is called once, in the watchdog's thread, and need not return.
    """

    def __init__(self, end: Callable[[str, str], None], poll_seconds: float = 1.0) -> None:
        self._end = end
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._alive: Callable[[], int] | None = None
        self._limit_seconds, self._doing = 0.0, ""
        self._seen, self._since = -1, 0.0
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def expect(self, doing: str, limit_seconds: float, alive: Callable[[], int] = lambda: 0) -> None:
        """From now on `alive()` must change every `limit_seconds`, until `rest` or another `expect`."""
        with self._lock:
            self._doing, self._limit_seconds, self._alive = doing, limit_seconds, alive
            self._seen, self._since = alive(), time.monotonic()

    def rest(self) -> None:
        with self._lock:
            self._alive = None

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            with self._lock:
                if self._alive is None:
                    continue
                seen, now = self._alive(), time.monotonic()
                if seen != self._seen:
                    self._seen, self._since = seen, now
                stuck_seconds, limit_seconds, doing = now - self._since, self._limit_seconds, self._doing
            if stuck_seconds > limit_seconds:
                message = f"{doing}: nothing moved for {stuck_seconds:.0f} s"
                stacks = own_stacks()
                logger.error("%s; the stacks of all threads:\n%s", message, stacks)
                self._end(message, stacks)
                return


def own_stacks() -> str:
    """The stacks of this process's threads."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        return file.read()


def listen_for_stack_requests() -> None:
    """In a child process: SIGUSR1 writes the stacks of all threads to stderr."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def end_process(exit_code: int) -> None:
    """Asks the children for their stacks, then ends them and this process without unwinding what hangs.

    Only those that listen are asked: the signal would end others, and their children would be nobody's.
    """
    children = children_of(os.getpid())
    asked = [child for child in children if catches(child, signal.SIGUSR1)]
    for child in asked:
        _send(child, signal.SIGUSR1)
    if asked:
        time.sleep(STACKS_SECONDS)
    for child in dict.fromkeys([*children, *children_of(os.getpid())]):
        _send(child, signal.SIGKILL)
    os._exit(exit_code)


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def catches(process: int, number: signal.Signals) -> bool:
    """Whether it has a handler for that signal, by Linux's /proc."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def children_of(process: int) -> list[int]:
    """All descendants, by Linux's /proc; empty elsewhere."""
    found: list[int] = []
    for listing in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, listing.read_text().split()):
            found += [*children_of(child), child]
    return found
