"""Asks checking servers, several at once. What fails is asked again alone, in a fresh server; then it is an error."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.benchmarks.model import Suite
from workloads.contract.grades import Cause
from workloads.grade.sandbox.order import Outcome

LATE_SECONDS = 120.0
"""A server that has not answered by then is killed: its own limits are far below."""

END_SECONDS = 5.0


@dataclass(frozen=True)
class MathCheck:
    answer: str
    gold: str

    def to_json(self) -> str:
        return json.dumps({"kind": "math", "answer": self.answer, "gold": self.gold})


@dataclass(frozen=True)
class CodeCheck:
    """`outcome` is read when it is asked for: all outcomes together may be gigabytes."""

    suite: Suite
    outcome: Callable[[], Outcome]

    def to_json(self) -> str:
        return json.dumps({"kind": "code", "suite": asdict(self.suite), "outcome": asdict(self.outcome())})


@dataclass(frozen=True)
class CheckFailed:
    """No verdict: the checker's failure, not the answer's. `tries`: how often it was asked."""

    cause: Cause
    detail: str
    tries: int = 1


Check = MathCheck | CodeCheck
Reply = dict[str, Any] | CheckFailed


@dataclass(frozen=True)
class Checked:
    """`replies`: `mathematics.MathVerdict` or `oracles.SuiteVerdict` as a dict, or CheckFailed, by key."""

    replies: Mapping[str, Reply]
    asked_again: int


class Server:
    """A checking server (`checker`) of its own."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from workloads.grade.checker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            cwd="/",
            text=True,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: str) -> Reply:
        """OSError when the server is gone: it is of no more use."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(LATE_SECONDS, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line.endswith("\n"):
            raise OSError(f"the checking server ended with {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return CheckFailed(reply["failed"], reply["detail"]) if "failed" in reply else reply

    def close(self) -> None:
        try:
            self._process.communicate(timeout=END_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()


def check_all(
    checks: Mapping[str, Check],
    workers: int,
    ended: Callable[[str], None] = lambda _: None,
    start: Callable[[], Server] = Server,
) -> Checked:
    """A reply per key. Each check that failed is asked once more, when all others are done, in a server of its own.

    `ended` is told each key when it is over, in this thread; what it raises ends the checking.
    """
    if not checks:
        return Checked({}, 0)
    idle: list[Server] = []
    guard = threading.Lock()

    def one(check: Check) -> Reply:
        with guard:
            server = idle.pop() if idle else None
        server = server or start()
        try:
            reply = server.ask(check.to_json())
        except OSError as e:
            server.close()
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
                    if not isinstance(reply, CheckFailed):
                        ended(key)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        failed = [key for key in checks if isinstance(replies[key], CheckFailed)]
        for key in failed:
            close_all()
            reply = one(checks[key])
            replies[key] = CheckFailed(reply.cause, reply.detail, 2) if isinstance(reply, CheckFailed) else reply
            ended(key)
    finally:
        close_all()
    return Checked(replies, len(failed))
