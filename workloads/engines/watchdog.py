"""Detects an engine that hangs: if it makes no token for some time, logs its stacks and ends the process.

A hung engine is inside a kernel or a collective and cannot raise an exception, so the process must end.
"""

import faulthandler
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

logger = logging.getLogger("potstill")
STACKS_SECONDS = 3.0
"""How long children have to write their stacks."""


class Watchdog:
    """`alive()` returns a number that changes while the engine works. It is checked only between `expect` and `rest`.

    `end(message, stacks)` is called once, in the watchdog's thread, and need not return.
    """

    def __init__(self, end: Callable[[str, str], None], poll_seconds: float = 1.0) -> None:
        self._end = end
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._alive: Callable[[], int] | None = None
        self._limit_seconds, self._doing = 0.0, ""
        self._seen, self._since, self._still_seconds = 0, 0.0, 0.0
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def expect(self, doing: str, limit_seconds: float, alive: Callable[[], int] | None = None) -> None:
        """From now on `alive()` must change every `limit_seconds`, until `rest` or another `expect`.

        If the last `expect` had the same `doing` and the number has not changed since, the seconds before count too,
        without the seconds at rest. Without `alive`, all of it must end within `limit_seconds`.
        """
        with self._lock:
            self._pause()
            number = alive() if alive else 0
            goes_on = alive is not None and (doing, number) == (self._doing, self._seen)
            self._since = time.monotonic() - (self._still_seconds if goes_on else 0.0)
            self._doing, self._limit_seconds, self._seen = doing, limit_seconds, number
            self._alive = alive or (lambda: 0)

    def rest(self) -> None:
        with self._lock:
            self._pause()

    def _pause(self) -> None:
        if self._alive is not None:
            self._still_seconds = time.monotonic() - self._since
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
                message = f"{doing}: no progress for {stuck_seconds:.0f} s"
                stacks = own_stacks() + stacks_of_children()
                logger.error("%s; the stacks of all threads:\n%s", message, stacks)
                self._end(message, stacks)
                return


def own_stacks() -> str:
    """Returns the stacks of this process's threads."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        return file.read()


def stacks_folder(program: int) -> Path:
    """Returns the folder where the children of a process write their stacks."""
    return Path(tempfile.gettempdir()) / f"potstill-stacks-{program}"


def listen_for_stack_requests(program: int) -> None:
    """In a child process of `program`: SIGUSR1 writes the stacks of all threads to its folder."""
    folder = stacks_folder(program)
    folder.mkdir(parents=True, exist_ok=True)
    _kept.append((folder / str(os.getpid())).open("w"))
    faulthandler.register(signal.SIGUSR1, file=_kept[-1], all_threads=True)


_kept: list[TextIO] = []
"""Kept open while the process runs, because the handler writes to their descriptors."""


def stacks_of_children() -> str:
    """Returns the stacks of all descendants that have the handler.

    Others are not signalled, because the signal would end them.
    """
    asked = [child for child in children_of(os.getpid()) if catches(child, signal.SIGUSR1)]
    for child in asked:
        _send(child, signal.SIGUSR1)
    if asked:
        time.sleep(STACKS_SECONDS)
    return "".join(map(_stacks_of, asked))


def _stacks_of(child: int) -> str:
    try:
        return f"\nprocess {child}:\n{(stacks_folder(os.getpid()) / str(child)).read_text()}"
    except OSError as error:
        return f"\nprocess {child}: {error}\n"


def end_process(exit_code: int) -> None:
    """Ends the children and this process, without unwinding what hangs."""
    for child in children_of(os.getpid()):
        _send(child, signal.SIGKILL)
    forget_stacks()
    os._exit(exit_code)


def forget_stacks() -> None:
    """Deletes the stacks that children of this process may have written."""
    shutil.rmtree(stacks_folder(os.getpid()), ignore_errors=True)


def _send(process: int, number: signal.Signals) -> None:
    with suppress(OSError):
        os.kill(process, number)


def catches(process: int, number: signal.Signals) -> bool:
    """Returns whether the process has a handler for that signal, from Linux's /proc."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def children_of(process: int) -> list[int]:
    """Returns all descendants, from Linux's /proc; empty elsewhere."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:  # it has ended, or this is not Linux
        return []
    found: list[int] = []
    for thread in threads:
        with suppress(OSError):  # it has ended since
            for child in map(int, (thread / "children").read_text().split()):
                found += [*children_of(child), child]
    return found
