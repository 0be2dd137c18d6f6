"""A checking server: compares answers with golds in a child process that is killed if it takes too long.

It reads a request per line, an object whose first field is `kind`, the grader's name, and writes a reply per line: the
result of that grader's `reply`, or `{"failed": cause, "detail"}`. It imports a grader's libraries at the first request
for that grader, before it forks a child, so replacing a killed or large child takes milliseconds. A child ends with its
server: it has a parent-death signal, its own CPU limit, and none of the server's descriptors except its two pipes.
Causes: `checker_timeout`, `checker_memory` and `checker_failed` come from the check itself; `checker_lost` comes from
the machine: the child was killed from outside, or did not run in time.
"""

import ctypes
import gc
import json
import os
import re
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from workloads.graders.registry import GRADERS

CPU_SECONDS, WALL_SECONDS = 5.0, 40.0
BACKSTOP_SECONDS = 3
"""The kernel's CPU limit of a child is CPU_SECONDS plus this. It ends a child that the server has stopped watching."""
MEMORY_BYTES = 2 << 30
KIND = re.compile(r'\{"kind": "([A-Za-z0-9_.-]+)"')
RECYCLED_AFTER = 5_000
"""Requests after which a child is replaced, because caches of the libraries grow."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    return GRADERS.require(request["kind"]).reply(request)


def _child(requests: int, replies: int, server: int) -> None:
    """Answers until it is killed, or its server has ended. Raises OSError if the parent-death signal cannot be set."""
    _end_with_parent(server)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (_mapped_bytes() + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = os.fdopen(requests, "r"), os.fdopen(replies, "w")
    for line in source:
        limit = int(time.process_time() + CPU_SECONDS) + BACKSTOP_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            reply = answer(json.loads(line))
        except MemoryError:
            reply = {"failed": "checker_memory", "detail": "MemoryError"}
        except Exception as e:
            reply = {"failed": "checker_failed", "detail": f"{type(e).__name__}: {e}"[:300]}
        sink.write(json.dumps(reply) + "\n")
        sink.flush()


def _end_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends, on Linux; elsewhere the CPU limit ends it."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent ended before the signal was set
        os._exit(1)


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


class Child:
    """The forked process that answers, and the pipes to it."""

    def __init__(self) -> None:
        requests, self._to_child = os.pipe()
        self._from_child, replies = os.pipe()
        self.answered = 0
        server = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._to_child)
                os.close(self._from_child)
                _child(requests, replies, server)
            finally:
                os._exit(0)
        os.close(requests)
        os.close(replies)

    def ask(self, line: str) -> dict[str, Any] | str:
        """Returns the reply or, if there is none, the cause; the child is then unusable."""
        self.answered += 1
        # Linux's id of the CPU-time clock of the child, as clock_getcpuclockid returns it
        clock = (~self._pid << 3) | 2
        cpu_end, wall_end = time.clock_gettime(clock) + CPU_SECONDS, time.monotonic() + WALL_SECONDS
        received = bytearray()
        try:
            _write_all(self._to_child, line.encode())
            while not received.endswith(b"\n"):
                cpu_left, wall_left = cpu_end - time.clock_gettime(clock), wall_end - time.monotonic()
                if cpu_left <= 0:
                    return "checker_timeout"
                if wall_left <= 0:
                    return "checker_lost"
                if select.select([self._from_child], [], [], min(cpu_left, wall_left))[0]:
                    data = os.read(self._from_child, 1 << 16)
                    if not data:
                        return self._why_gone()
                    received += data
        except OSError:
            return self._why_gone()
        reply: dict[str, Any] = json.loads(received)
        return reply

    def _why_gone(self) -> str:
        """Called when the child's pipe is closed; returns why the child ended.

        WNOWAIT leaves the process for `end` to reap.
        """
        ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_code == os.CLD_EXITED:
            return "checker_failed"
        causes: dict[int, str] = {signal.SIGKILL: "checker_lost", signal.SIGXCPU: "checker_timeout"}
        return causes.get(ended.si_status, "checker_failed")

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._to_child)
        os.close(self._from_child)


def _write_all(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    child: Child | None = None
    warmed: set[str] = set()
    for line in sys.stdin:
        kind = KIND.match(line)
        if kind is not None and kind[1] not in warmed:
            warmed.add(kind[1])
            with suppress(Exception):  # the child's reply reports the problem
                GRADERS.require(kind[1]).warm()
            # Freeze what was imported, so that forked children share it; the old child was forked without these
            # libraries.
            gc.collect()
            gc.freeze()
            if child is not None:
                child.end()
                child = None
        child = child or Child()
        reply = child.ask(line)
        if isinstance(reply, str):
            reply = {"failed": reply, "detail": ""}
        if "failed" in reply or child.answered >= RECYCLED_AFTER:
            child.end()
            child = None
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    if child is not None:
        child.end()


if __name__ == "__main__":
    main()
