"""The sandbox server: a small process that forks a watcher per order, which forks a locked candidate and watches it.

It reads an order per line from its standard input, writes `{"layers": [...]}` once and then an outcome per line to its
standard output. Only the watcher reads the order and sees the values, and it ends after that order: a candidate's
memory, which is a copy of the watcher's, has no data of other programs. Times are CPU times of the candidate's process,
read from its clock by the watcher, so a busy machine changes no verdict. A candidate that waits although the machine
has processor time is ended after seconds; the larger wall limits are for overloaded machines.
"""

import gc
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workloads.sandbox import candidate, linux, lock, place
from workloads.sandbox.order import Order, Outcome, order_from
from workloads.sandbox.watch import ProcessEnd, Time, Watch, end_of, waited_seconds

GRACE_SECONDS = 2.0
SAMPLE_SECONDS, PROBE_SECONDS = 1.0, 0.01
"""How often a watcher checks whether its candidate waits; CPU seconds that it uses to measure the available processor
time.
"""
SERVED, NO_MORE = 0, 3
"""Exit codes of a watcher."""


@dataclass(frozen=True)
class Ground:
    """The environment of candidates: their locks, a private folder or None, and whether other processes are visible."""

    locks: lock.Locks
    private: place.PrivateFolder | None
    devnull: int
    own_processes: bool


@dataclass(frozen=True)
class Usage:
    """The result of wait for a candidate. `status`: None if it had to be killed.

    `blocks`: blocks of 512 bytes read from disk.
    """

    status: int | None
    cpu_seconds: float
    resident_bytes: int
    blocks: int


def execute(order: Order, ground: Ground, watch: Watch | None = None) -> Outcome:
    """Forks, locks, runs, watches and ends one candidate. No process of it is left on return.

    `watch`: reads the candidate's data; by default a new Watch of the order.

    Returns an outcome for any behaviour of the candidate. Raises OSError if it could not be started; the program has
    then not run at all.
    """
    started = time.monotonic()
    if ground.private is not None:
        ground.private.renew()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_candidate(order, ground, writer)
    os.close(writer)
    watch = watch or Watch(order)
    out_of: Time | None = None
    usage = Usage(None, 0.0, 0, 0)
    failures: list[Exception] = []
    try:
        out_of = _watch(watch, pid, reader)
    except Exception as e:
        failures.append(e)
    try:
        os.close(reader)
        waits_for_end = not watch.over and out_of is None and not failures
        usage = _end(pid, GRACE_SECONDS if waits_for_end else 0.0, everything=ground.own_processes)
        if ground.private is not None:
            ground.private.drop()
    except Exception as e:
        failures.append(e)
    if not watch.locked:
        raise OSError(f"a candidate's process could not be locked: none of the candidate has run {failures or ''}")
    if failures and not watch.over:
        ended = ProcessEnd("flood", f"the watcher could not read it: {type(failures[0]).__name__}: {failures[0]}"[:500])
    else:
        ended = end_of(watch, out_of, usage.status, usage.resident_bytes, usage.blocks)
    return Outcome(
        key=order.key,
        end=ended.end,
        values=tuple(watch.values),
        seconds=tuple(round(s, 4) for s in watch.seconds),
        detail=ended.detail,
        cpu_seconds=round(usage.cpu_seconds, 4),
        wall_seconds=round(time.monotonic() - started, 4),
        doubtful=ended.doubtful,
    )


def _become_candidate(order: Order, ground: Ground, writer: int) -> None:
    locks, private = ground.locks, ground.private
    try:
        os.setsid()
        for target in (0, 1, 2):
            os.dup2(ground.devnull, target)
        rules = None if locks.rules is None else os.dup(locks.rules)
        pipe = os.dup2(writer, 3)
        if rules is not None:
            locks = lock.Locks(locks.machine, os.dup2(rules, 4), locks.files)
        os.closerange(4 if rules is None else 5, 1024)
        os.set_inheritable(3, False)
        if private is not None:
            os.chdir(private.path)
        limits = order.limits
        lock.limit(
            ADDRESS_SPACE_BYTES + limits.memory_bytes,
            limits.total_cpu_seconds + limits.encode_cpu_seconds,
            place.PRIVATE_BYTES if private else 0,
        )
        lock.lock(locks)
        os.write(pipe, b"L")
        candidate.serve(order, pipe)
    finally:
        os._exit(0)


def _watch(watch: Watch, pid: int, reader: int) -> Time | None:
    """Watches until the candidate is done, closes its pipe, breaks the protocol or exceeds a time limit: returns which
    limit.
    """
    clock = (~pid << 3) | 2
    limits = watch.order.limits
    started = stage_wall = sample_wall = time.monotonic()
    stage_cpu = sample_cpu = waited = 0.0
    longest_cpu = limits.total_cpu_seconds + limits.encode_cpu_seconds
    while not watch.over:
        cpu, now = time.clock_gettime(clock), time.monotonic()
        if now - sample_wall >= SAMPLE_SECONDS:
            # The watcher itself may be late: time that it did not observe does not count against the candidate.
            waited += _waited(min(now - sample_wall, 2 * SAMPLE_SECONDS), cpu - sample_cpu)
            sample_wall, sample_cpu = time.monotonic(), time.clock_gettime(clock)
        stage_end = stage_wall + limits.wall_seconds(watch.limit())
        left: dict[Time, float] = {
            "CPU": min(watch.limit() - (cpu - stage_cpu), longest_cpu - cpu),
            "waiting": limits.idle_seconds - waited,
            "wall": min(stage_end, started + limits.wall_factor * cpu + limits.starved_seconds) - now,
        }
        out_of = next((which for which, seconds in left.items() if seconds <= 0), None)
        ready, _, _ = select.select([reader], [], [], 0 if out_of else min(*left.values(), SAMPLE_SECONDS))
        ended_stage = False
        if ready:
            data = os.read(reader, 1 << 16)
            if not data:
                return None
            cpu = time.clock_gettime(clock)
            ended_stage = watch.take(data, cpu - stage_cpu)
            if ended_stage:
                stage_cpu, stage_wall = cpu, time.monotonic()
        if out_of is not None and not ended_stage:
            waits_most = waited > (time.monotonic() - stage_wall) / 2
            return "waiting" if out_of == "wall" and waits_most else out_of
    return None


def _waited(wall: float, cpu: float) -> float:
    if waited_seconds(wall, cpu, 1.0) == 0:
        return 0.0
    start_wall, start_cpu = time.monotonic(), time.process_time()
    while time.process_time() - start_cpu < PROBE_SECONDS:
        pass
    share = (time.process_time() - start_cpu) / max(time.monotonic() - start_wall, 1e-9)
    return waited_seconds(wall, cpu, share)


def _end(pid: int, grace_seconds: float, *, everything: bool) -> Usage:
    """Kills the candidate, its group, and with `everything` all other processes in the pid namespace.

    `grace_seconds`: how long a candidate that has closed its pipe may take to end by itself, so that its exit status is
    seen.
    """
    deadline = time.monotonic() + grace_seconds
    done, status, usage = os.wait4(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.001)
        done, status, usage = os.wait4(pid, os.WNOHANG)
    if not done:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not called setsid yet
            os.kill(pid, signal.SIGKILL)
        _, _, usage = os.wait4(pid, 0)
    if everything:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Usage(status if done else None, cpu_seconds, usage.ru_maxrss * 1024, usage.ru_inblock)


def main(base: str, hidden: str, numpy_folders: list[str], options: dict[str, bool]) -> None:
    """Serves orders until its input ends.

    `options`: namespaces, landlock (both true except in tests of the fallbacks).
    """
    linux.die_with_parent()
    os.environ.clear()
    sys.argv[:], sys.orig_argv[:] = [""], [""]
    orders, outcomes = os.dup(0), os.dup(1)
    devnull = os.open("/dev/null", os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(devnull, 1)
    preload()
    made = place.make(Path(base), Path(hidden), numpy_folders, options["namespaces"])
    sys.path[:] = [entry for entry in sys.path if entry != hidden] + [made.packages]
    locks = lock.prepare(list(made.readable), [made.packages], made.private, use_landlock=options["landlock"])
    if locks.files == "none" and numpy_folders:
        __import__("numpy.random")
    _write(outcomes, json.dumps({"layers": [*made.layers, *locks.layers]}))
    private = None if made.private is None else place.PrivateFolder(made.private)
    ground = Ground(locks, private, devnull, own_processes=os.getpid() == 1)
    gc.collect()
    gc.freeze()
    while _forked(orders, outcomes, ground):
        pass


def _forked(orders: int, outcomes: int, ground: Ground) -> bool:
    """Runs one order in a separate watcher; returns False if there are no more.

    Raises OSError if the watcher failed.
    """
    watcher = os.fork()
    if watcher == 0:
        code = 1
        try:
            linux.die_with_parent()
            code = SERVED if _serve(orders, outcomes, ground) else NO_MORE
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    _, status = os.waitpid(watcher, 0)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    code = os.waitstatus_to_exitcode(status)
    if code not in (SERVED, NO_MORE):
        raise OSError(f"a watcher ended with {code}")
    return code == SERVED


def _serve(orders: int, outcomes: int, ground: Ground) -> bool:
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(orders, 1 << 20)
        if not data:
            return False
        line += data
    _write(outcomes, execute(order_from(json.loads(line)), ground).to_json())
    return True


def _write(sink: int, text: str) -> None:
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(sink, data) :]


def preload() -> None:
    """Imports the modules that programs import most, once; and all allowed modules if no file can be opened."""
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
"""More than the address space that a fork inherits (RLIMIT_AS counts it): the interpreter, its preloaded modules,
numpy.
"""
