"""The sandbox server: a small process that forks a locked candidate per order and watches it from outside.

Reads an order per line from its standard input, writes `{"layers": [...]}` once and then an outcome per line to its
standard output. Times are CPU times of the candidate's process, read from its clock by this process, so a busy machine
changes no verdict; wall limits are far behind them, for programs that wait instead of working.
"""

import gc
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from workloads.grade.sandbox import candidate, linux, lock, place
from workloads.grade.sandbox.order import Order, Outcome, order_from
from workloads.grade.sandbox.watch import Time, Watch, end_of

GRACE_SECONDS = 2.0


def execute(order: Order, locks: lock.Locks, private: str | None, devnull: int, memory_base: int) -> Outcome:
    """Forks, locks, runs, watches and ends one candidate. Nothing of it is left when this returns."""
    started = time.monotonic()
    if private is not None:
        place.fresh_private(private)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_candidate(order, locks, private, devnull, writer, memory_base)
    os.close(writer)
    watch = Watch(order)
    out_of: Time | None = None
    try:
        out_of = _watch(watch, pid, reader)
    finally:
        os.close(reader)
        status, cpu_seconds = _end(pid, GRACE_SECONDS if not watch.over and out_of is None else 0.0)
    if private is not None:
        place.drop_private(private)
    if not watch.locked:
        raise OSError("a candidate's process could not be locked: none of the candidate has run")
    ended = end_of(watch, out_of, status)
    return Outcome(
        key=order.key,
        end=ended.end,
        values=tuple(watch.values),
        seconds=tuple(round(s, 4) for s in watch.seconds),
        detail=ended.detail,
        cpu_seconds=round(cpu_seconds, 4),
        wall_seconds=round(time.monotonic() - started, 4),
        doubtful=ended.doubtful,
    )


def _become_candidate(
    order: Order, locks: lock.Locks, private: str | None, devnull: int, writer: int, memory_base: int
) -> None:
    try:
        os.setsid()
        for target in (0, 1, 2):
            os.dup2(devnull, target)
        pipe = os.dup2(writer, 3)
        if locks.rules is not None:
            locks = lock.Locks(locks.machine, os.dup2(locks.rules, 4), locks.files)
        os.closerange(5, 1024)
        os.set_inheritable(3, False)
        if private is not None:
            os.chdir(private)
        limits = order.limits
        lock.limit(
            memory_base + limits.memory_bytes,
            limits.total_cpu_seconds + limits.encode_cpu_seconds,
            place.PRIVATE_BYTES if private else 0,
        )
        lock.lock(locks)
        os.write(pipe, b"L")
        candidate.serve(order, pipe)
    finally:
        os._exit(0)


def _watch(watch: Watch, pid: int, reader: int) -> Time | None:
    """Until the candidate is done, closes its pipe, breaks the protocol or is out of time: then, of which."""
    clock = (~pid << 3) | 2
    limits = watch.order.limits
    stage_cpu, stage_wall = 0.0, time.monotonic()
    longest_cpu = limits.total_cpu_seconds + limits.encode_cpu_seconds
    last_wall = stage_wall + limits.wall_seconds(longest_cpu)
    while not watch.over:
        cpu = time.clock_gettime(clock)
        now = time.monotonic()
        cpu_left = min(watch.limit() - (cpu - stage_cpu), longest_cpu - cpu)
        wall_left = min(stage_wall + limits.wall_seconds(watch.limit()), last_wall) - now
        if cpu_left <= 0 or wall_left <= 0:
            return "CPU" if cpu_left <= 0 else "wall"
        ready, _, _ = select.select([reader], [], [], min(cpu_left, wall_left))
        if ready:
            data = os.read(reader, 1 << 16)
            if not data:
                return None
            cpu = time.clock_gettime(clock)
            if watch.take(data, cpu - stage_cpu):
                stage_cpu, stage_wall = cpu, time.monotonic()
    return None


def _end(pid: int, grace_seconds: float) -> tuple[int | None, float]:
    """Kills the candidate, its group, and in a pid namespace whatever else there is.

    Returns (wait status, CPU seconds); no status when the candidate had to be killed.
    `grace_seconds`: how long a candidate that has closed its pipe may take to end by itself, so that it is seen how.
    """
    deadline = time.monotonic() + grace_seconds
    done, status, usage = os.wait4(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.001)
        done, status, usage = os.wait4(pid, os.WNOHANG)
    if not done:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not come to its setsid yet
            os.kill(pid, signal.SIGKILL)
        _, _, usage = os.wait4(pid, 0)
    if os.getpid() == 1:
        try:
            os.kill(-1, signal.SIGKILL)
            while True:
                os.waitpid(-1, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    return status if done else None, usage.ru_utime + usage.ru_stime


def main(base: str, hidden: str, numpy_folders: list[str], options: dict[str, bool]) -> None:
    """Serves orders until its input ends. `options`: namespaces, landlock (both true but in tests of the fallbacks)."""
    linux.die_with_parent()
    os.environ.clear()
    orders, outcomes = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    devnull = os.open("/dev/null", os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(devnull, 1)
    preload()
    ground = place.make(Path(base), Path(hidden), numpy_folders, options["namespaces"])
    sys.path[:] = [entry for entry in sys.path if entry != hidden] + [ground.packages]
    locks = lock.prepare(list(ground.readable), [ground.packages], ground.private, use_landlock=options["landlock"])
    if locks.files == "none" and numpy_folders:
        __import__("numpy")
    memory_base = ADDRESS_SPACE_BYTES
    layers = [*ground.layers, *locks.layers]
    outcomes.write(json.dumps({"layers": layers}) + "\n")
    outcomes.flush()
    gc.collect()
    gc.freeze()
    for line in orders:
        outcome = execute(order_from(json.loads(line)), locks, ground.private, devnull, memory_base)
        outcomes.write(outcome.to_json() + "\n")
        outcomes.flush()


def preload() -> None:
    """Modules that programs import most, loaded once; and all they may import where nothing can be opened."""
    for name in [
        "array",
        "bisect",
        "cmath",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "queue",
        "random",
        "re",
        "statistics",
        "string",
        "struct",
        "textwrap",
        "time",
        "types",
        "typing",
        "unicodedata",
        "calendar",
        "threading",
    ]:
        __import__(name)


ADDRESS_SPACE_BYTES = 1 << 29
"""More than a fork inherits of address space (RLIMIT_AS counts it): the interpreter, its preloaded modules, numpy."""
