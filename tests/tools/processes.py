"""Servers that a test starts: a process with a log, a deadline for its start, and an end with the block."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")
PATIENCE = float(os.environ.get("POTSTILL_TEST_PATIENCE", "1"))
"""Every deadline is multiplied by this: more than 1 for machines that are slow or shared."""


class NotInTimeError(Exception):
    """A condition did not come true before its deadline."""


class EndedEarlyError(Exception):
    """A server ended before it was ready; the message holds the end of its log."""


def wait_until(condition: Callable[[], Seen], what: str, deadline_seconds: float = 30.0) -> Seen:
    """Returns the result of `condition` as soon as it is true. It is checked again at once, then less
    and less often. Raises NotInTimeError if it was not true before the deadline.
    """
    deadline_seconds *= PATIENCE
    end = time.monotonic() + deadline_seconds
    pause_seconds = 0.005
    while not (seen := condition()):
        if time.monotonic() > end:
            raise NotInTimeError(f"waited {deadline_seconds:g} s for {what}; the last answer was {seen!r}")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.25)
    return seen


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a TCP port without a listener. Another process may take it first: start again with another one then."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listening(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class Server:
    """Starts a process in its own session, with its output in `log`.

    Where the machine has setpriv, it also ends with the thread that started it: a killed test run leaves no servers.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], object], deadline_seconds: float = 30.0) -> None:
        """Starts it and waits until `ready()`.

        Raises:
            EndedEarlyError: it ended before that.
            NotInTimeError: it still ran, not ready, at the deadline; it has been ended.
        """
        assert self._process is None, f"{self.command[0]} runs already"
        wrapper = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, *self.command],
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        process = self._process
        try:
            wait_until(
                lambda: process.poll() is not None or ready(), f"{self.command[0]} to be ready", deadline_seconds
            )
        except BaseException:
            self.stop()
            raise
        if process.poll() is not None:
            self._process = None
            raise EndedEarlyError(f"{' '.join(self.command)} ended with {process.returncode}:\n{self.log_tail()}")

    def stop(self, how: signal.Signals = signal.SIGTERM, deadline_seconds: float = 20.0) -> None:
        """Ends it with the signal, or with SIGKILL if it has not ended by the deadline."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(how)
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stops its execution: connections stay open and get no answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.command[0]} does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self, characters: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


@contextmanager
def server_on_free_port(make: Callable[[int], Server], tries: int = 5) -> Iterator[tuple[Server, int]]:
    """A server on a free port, started again with another one if another process took it first."""
    for remaining in reversed(range(tries)):
        port = free_port()
        server = make(port)
        try:
            server.start(partial(listening, port))
            break
        except EndedEarlyError:
            if not remaining or "address already in use" not in server.log_tail():
                raise
    try:
        yield server, port
    finally:
        server.stop()
