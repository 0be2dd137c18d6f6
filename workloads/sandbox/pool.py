"""Runs orders in sandbox servers, several at once, and yields outcomes as they come.

If the machine may be the cause (a server died or did not answer, the kernel killed a candidate, or it got no processor
time), the order is run again after all others: alone, in a new server. If a server is lost twice, or a program gets no
processor time twice, the order is `Lost` and its verdict is infra_error. When second runs have taken AGAIN_SECONDS in
total, there are no more: the first outcome counts.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workloads.sandbox.order import MOST_TRIES, Lost, Order, Outcome, SandboxLimits, outcome_from
from workloads.sandbox.watch import WAITED

_START = (
    "import sys, json; o = json.loads(sys.argv[1]); sys.path.insert(0, o['hidden']); "
    "from workloads.sandbox.server import main; main(o['base'], o['hidden'], o['numpy'], o['options'])"
)
LATE_SECONDS = 30.0
"""How long a server may exceed its order's own limits before it counts as lost."""

AGAIN_SECONDS = 1800.0
END_SECONDS = 5.0
_PROBE = Order("probe", "def probe():\n    return 1\n", "probe", ('["l"]',), SandboxLimits((5.0,), 10.0))


class Unsupported(RuntimeError):
    """There is no process sandbox for this kind of machine."""


@dataclass(frozen=True)
class Options:
    """Layers to try: all of them, except in tests of the fallbacks."""

    namespaces: bool = True
    landlock: bool = True


def require_linux() -> None:
    """Raises Unsupported on anything but Linux on x86_64 or aarch64."""
    if sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
        raise Unsupported(
            f"code benchmarks run generated programs, and their sandbox needs Linux on x86_64 or aarch64; this is "
            f"{sys.platform}. Evaluate code benchmarks on a cluster, or allow it unsandboxed on a throw-away machine"
        )


class SandboxServer:
    """One sandbox server process and its folder."""

    def __init__(self, options: Options) -> None:
        require_linux()
        self._base = tempfile.mkdtemp(prefix="potstill-sandbox-")
        hidden = Path(__file__).resolve().parents[2]
        numpy = find_spec("numpy")
        folders = []
        if numpy is not None and numpy.origin is not None:
            home = Path(numpy.origin).resolve().parent
            folders = [str(p) for p in (home, home.parent / "numpy.libs") if p.exists()]
        order = {
            "base": self._base,
            "hidden": str(hidden),
            "numpy": folders,
            "options": {"namespaces": options.namespaces, "landlock": options.landlock},
        }
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-P", "-B", "-X", "int_max_str_digits=4300", "-c", _START, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd="/",
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
        self.layers: tuple[str, ...] = tuple(map(str, self._answer(LATE_SECONDS)["layers"]))

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answer(self, within_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(within_seconds, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise OSError(f"the sandbox server ended with {self._process.wait()} or did not answer in its time")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def execute(self, order: Order) -> Outcome:
        """Raises OSError if the server has ended or is late: it cannot be used any more."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.to_json() + "\n")
        self._process.stdin.flush()
        limits = order.limits
        longest = limits.wall_seconds(limits.total_cpu_seconds + limits.encode_cpu_seconds)
        bound = longest + limits.starved_seconds + LATE_SECONDS
        return outcome_from(self._answer(bound))

    def close(self) -> None:
        """Ends the server by closing its input, or kills it if it does not end."""
        try:
            self._process.communicate(timeout=END_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._base, ignore_errors=True)


def sandbox_layers(options: Options = Options()) -> tuple[str, ...]:
    """Returns the layers that are active on this machine, after running a program in them.

    Raises Unsupported, which says what is missing.
    """
    require_linux()
    server = None
    try:
        server = SandboxServer(options)
        end = server.execute(_PROBE).end
    except (OSError, ValueError) as e:
        raise Unsupported(f"the process sandbox does not work on this machine (is seccomp switched off?): {e}") from e
    finally:
        if server is not None:
            server.close()
    if end != "finished":
        raise Unsupported(f"the process sandbox does not work on this machine: its own test ended with {end}")
    return server.layers


def run_all(
    orders: Sequence[Order],
    workers: int,
    options: Options = Options(),
    start: Callable[[Options], SandboxServer] = SandboxServer,
) -> Generator[Outcome | Lost, None, None]:
    """Yields outcomes in the order of their ends. Give the longest orders first."""
    idle: list[SandboxServer] = []
    guard = threading.Lock()

    def one(order: Order) -> Outcome | Lost:
        with guard:
            server = idle.pop() if idle else None
        try:
            server = server or start(options)
            outcome = server.execute(order)
        except (OSError, ValueError) as e:
            if server is not None:
                server.close()
            return Lost(order.key, str(e)[:500])
        with guard:
            idle.append(server)
        return outcome

    again: list[Outcome | Lost] = []
    order_of = {order.key: order for order in orders}
    with ThreadPoolExecutor(max_workers=workers) as threads:
        futures = [threads.submit(one, order) for order in orders]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if isinstance(outcome, Lost) or outcome.doubtful:
                    again.append(outcome)
                else:
                    yield outcome
        finally:
            for future in futures:
                future.cancel()
            _close_all(idle)  # before their threads end, because a server is killed with the thread that started it
            threads.shutdown()
            _close_all(idle)
    end = time.monotonic() + AGAIN_SECONDS
    for first in again:
        if isinstance(first, Outcome) and time.monotonic() > end:
            yield _decided(first)
            continue
        try:
            yield _decided(replace(one(order_of[first.key]), tries=MOST_TRIES))
        finally:
            _close_all(idle)


def _decided(outcome: Outcome | Lost) -> Outcome | Lost:
    """Returns `Lost` for a program that got no processor time: the machine ended it."""
    if isinstance(outcome, Lost) or outcome.end != "timeout" or not outcome.doubtful or WAITED in outcome.detail:
        return outcome
    return Lost(outcome.key, "the machine gave it no processor time", outcome.tries)


def _close_all(servers: list[SandboxServer]) -> None:
    while servers:
        servers.pop().close()
