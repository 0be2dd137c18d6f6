"""Runs generated programs as plain subprocesses, only on machines without the sandbox and only if the user allowed it.

Nothing prevents such a program from reading files, using the network or leaving processes behind. Golds are still not
in its process, and its values are still compared outside.
"""

import contextlib
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workloads.sandbox.order import Order, Outcome, order_from
from workloads.sandbox.watch import ProcessEnd, Time, Watch, end_of

LAYERS = ("none: programs ran unsandboxed",)


def run_unsandboxed(order: Order) -> Outcome:
    """Runs one order. The kernel enforces the CPU limit of the whole execution; wall limits are the sandbox's.

    Returns an outcome for any behaviour of the program. Raises OSError if it could not be started.
    """
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    folder = tempfile.mkdtemp(prefix="potstill-unsandboxed-")
    reader, writer = os.pipe()
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from workloads.sandbox.unsandboxed import child; child()"
    process = subprocess.Popen(
        [sys.executable, "-s", "-P", "-c", code, str(writer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(writer,),
        start_new_session=True,
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
    )
    os.close(writer)
    assert process.stdin is not None
    process.stdin.write(order.to_json().encode())
    process.stdin.close()
    watch = Watch(order)
    out_of: Time | None = None
    failure: Exception | None = None
    try:
        out_of = "waiting" if _read(watch, reader, started) else None
    except Exception as e:
        failure = e
    os.close(reader)
    status = _end(process, at_once=watch.over or out_of is not None)
    shutil.rmtree(folder, ignore_errors=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = end_of(watch, out_of, status)
    if failure is not None:
        ended = ProcessEnd("flood", f"the watcher could not read it: {type(failure).__name__}: {failure}"[:500])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.monotonic() - started
    return Outcome(
        key=order.key,
        end=ended.end,
        values=tuple(watch.values),
        seconds=tuple(watch.seconds),
        detail=ended.detail,
        cpu_seconds=round(cpu, 4),
        wall_seconds=round(wall, 4),
    )


def _read(watch: Watch, reader: int, started: float) -> bool:
    """Returns True if a stage, or the execution, exceeds its wall time."""
    limits = watch.order.limits
    deadline = started + limits.wall_seconds(limits.total_cpu_seconds)
    stage_end = deadline
    while not watch.over:
        left = min(deadline, stage_end) - time.monotonic()
        if left <= 0:
            return True
        if select.select([reader], [], [], left)[0]:
            data = os.read(reader, 1 << 16)
            if not data:
                return False
            if watch.take(data, 0.0):
                stage_end = time.monotonic() + limits.wall_seconds(watch.limit())
    return False


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> int | None:
    """Returns the wait status; None if it had to be killed."""
    try:
        code = process.wait(timeout=0.0 if at_once else 2.0)
        return code << 8 if code >= 0 else -code
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def child() -> None:
    """The code of the program's process."""
    import json

    from workloads.sandbox import candidate

    pipe = int(sys.argv[1])
    order = order_from(json.load(sys.stdin))
    cpu_seconds = int(order.limits.total_cpu_seconds + order.limits.encode_cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    os.write(pipe, b"L")
    try:
        candidate.serve(order, pipe)
    finally:
        os._exit(0)
