"""Asks checking servers, several at once. A check that fails is tried again alone; if it fails again it is an error."""

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
    suite: Suite
    outcome: Outcome

    def to_json(self) -> str:
        return json.dumps({"kind": "code", "suite": asdict(self.suite), "outcome": asdict(self.outcome)})


@dataclass(frozen=True)
class CheckFailed:
    """No verdict: the checker's failure, not the answer's."""

    cause: Cause
    detail: str


class _Server:
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

    def ask(self, request: str) -> dict[str, Any]:
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
        if not line:
            raise OSError(f"the checking server ended with {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        try:
            self._process.communicate(timeout=END_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()


Reply = dict[str, Any] | CheckFailed


def check_all(
    checks: Mapping[str, MathCheck | CodeCheck], workers: int, ended: Callable[[str], None] = lambda _: None
) -> dict[str, Reply]:
    """A reply per key: `mathematics.MathVerdict` or `oracles.SuiteVerdict` as a dict, or CheckFailed.

    `ended` is told each key when it is over, in this thread; what it raises ends the checking.
    """
    if not checks:
        return {}
    idle: list[_Server] = []
    guard = threading.Lock()

    def one(check: MathCheck | CodeCheck) -> Reply:
        with guard:
            server = idle.pop() if idle else None
        server = server or _Server()
        try:
            reply = server.ask(check.to_json())
        except OSError as e:
            server.close()
            return CheckFailed("checker_failed", str(e))
        with guard:
            idle.append(server)
        return CheckFailed(reply["failed"], reply["detail"]) if "failed" in reply else reply

    replies: dict[str, Reply] = {}
    try:
        with ThreadPoolExecutor(max_workers=min(workers, len(checks))) as threads:
            keys = {threads.submit(one, check): key for key, check in checks.items()}
            try:
                for future in as_completed(keys):
                    replies[keys[future]] = future.result()
                    ended(keys[future])
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        for key, reply in list(replies.items()):
            if isinstance(reply, CheckFailed):
                replies[key] = one(checks[key])
    finally:
        for server in idle:
            server.close()
    return replies
