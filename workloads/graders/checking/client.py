"""Sends checks to several checking servers. If a server was lost, its check is repeated alone in a new server."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workloads.api.grades import Cause

LATE_SECONDS = 120.0
"""A server that has not answered after this time is killed with its child. Its own limits are far below."""

END_SECONDS = 5.0
AGAIN_SECONDS = 600.0
WRITTEN_AT_ONCE = 1 << 16


class Check(Protocol):
    """A request of a grader to its checking process."""

    def to_json(self) -> str:
        """Returns an object whose first field is `kind`, the grader's name."""
        ...


@dataclass(frozen=True)
class AnswerCheck:
    """A check whether an answer equals a gold."""

    grader: str
    answer: str
    gold: str
    choices: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(
            {"kind": self.grader, "answer": self.answer, "gold": self.gold, "choices": list(self.choices)}
        )


@dataclass(frozen=True)
class CheckFailed:
    """A check without a verdict. The cause `checker_lost` comes from the machine, every other one from the check
    itself.

    `tries`: how often it was sent.
    """

    cause: Cause
    detail: str
    tries: int = 1


Reply = dict[str, Any] | CheckFailed


@dataclass(frozen=True)
class Checked:
    """`replies`: what the grader's `reply` returned, or CheckFailed, by key."""

    replies: Mapping[str, Reply]
    asked_again: int


class CheckingServer:
    """A separate checking server (`checker`), in a process group with its child. Every wait for it has a deadline.

    It finds added graders as this process does: by PYTHONPATH and in the same interpreter's packages.
    """

    def __init__(self, late_seconds: float = LATE_SECONDS) -> None:
        root = str(Path(__file__).resolve().parents[3])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self._late_seconds = late_seconds
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from workloads.graders.checking.server import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            cwd="/",
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._requests, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: str) -> Reply:
        """Raises OSError if the server has ended or is late: it cannot be used any more."""
        line = self._exchange(request.encode() + b"\n")
        reply: dict[str, Any] = json.loads(line)
        return CheckFailed(reply["failed"], reply["detail"]) if "failed" in reply else reply

    def _exchange(self, request: bytes) -> bytes:
        """Writes the request and reads one line. The server reads the whole request before it writes."""
        end = time.monotonic() + self._late_seconds
        left = memoryview(request)
        received = bytearray()
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(self._requests, select.POLLOUT)
        while not received.endswith(b"\n"):
            events = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000))
            if not events:
                raise TimeoutError(f"the checking server did not answer within {self._late_seconds:g} s")
            if self._requests in events:
                left = left[os.write(self._requests, left[:WRITTEN_AT_ONCE]) :]
                if not left:
                    poll.unregister(self._requests)
            if self._replies in events:
                data = os.read(self._replies, 1 << 16)
                if not data:
                    raise OSError("the checking server ended")
                received += data
        return bytes(received)

    def close(self) -> None:
        """Ends the server; kills its process group if it does not end by itself."""
        self._close_pipes()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kills the server and its child."""
        self._close_pipes()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stopped in the kernel: it is not waited for
            self._process.wait(END_SECONDS)

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def check_all(
    checks: Mapping[str, Check],
    workers: int,
    ended: Callable[[str], None] = lambda _: None,
    start: Callable[[], CheckingServer] = CheckingServer,
) -> Checked:
    """Returns a reply per key. A check that was lost is repeated once in a separate server, after all others.

    A check that exceeded its time or memory, or raised, would do so again, so it is not repeated. No check is repeated
    later than AGAIN_SECONDS after the first one. `ended` gets each key when its check has ended, in this thread. An
    exception from it stops the checking.
    """
    if not checks:
        return Checked({}, 0)
    idle: list[CheckingServer] = []
    guard = threading.Lock()

    def one(check: Check) -> Reply:
        with guard:
            server = idle.pop() if idle else None
        server = server or start()
        try:
            reply = server.ask(check.to_json())
        except OSError as e:
            server.kill()
            return CheckFailed("checker_lost", str(e))
        with guard:
            idle.append(server)
        return reply

    def close_all() -> None:
        while idle:
            idle.pop().close()

    replies: dict[str, Reply] = {}
    try:
        with ThreadPoolExecutor(max_workers=min(workers, len(checks))) as threads:
            keys = {threads.submit(one, check): key for key, check in checks.items()}
            try:
                for future in as_completed(keys):
                    key, reply = keys[future], future.result()
                    replies[key] = reply
                    if not _is_lost(reply):
                        ended(key)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        lost = [key for key in checks if _is_lost(replies[key])]
        last = time.monotonic() + AGAIN_SECONDS
        for key in lost:
            if time.monotonic() > last:
                ended(key)
                continue
            close_all()
            reply = one(checks[key])
            replies[key] = CheckFailed(reply.cause, reply.detail, 2) if isinstance(reply, CheckFailed) else reply
            ended(key)
    finally:
        close_all()
    return Checked(replies, len(lost))


def _is_lost(reply: Reply) -> bool:
    return isinstance(reply, CheckFailed) and reply.cause == "checker_lost"
