"""Runs Potstill's programs in forks of a process that has imported torch: `python -m tests.faults.fork_server SOCKET`.

For the fault schedules only: the programs' imports take twenty times as long as their work on a tiny base. A program is
otherwise the same: a process in its own session that runs a module as `__main__`. `POTSTILL_TEST_*` variables of
a program's environment change the program as a schedule needs (`adjustments`). Each start is a line in
`POTSTILL_TEST_STARTS`.
"""

import array
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

PRELOADED = (
    "torch",
    "transformers",
    "controller.cli",
    "workloads.train.program",
    "workloads.evaluate.program",
    "workloads.engines.transformers.engine",
    "workloads.grade.program",
    "workloads.report.files",
)


def serve(address: Path) -> None:
    for name in PRELOADED:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    waiting: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as events:
        events.register(listener, selectors.EVENT_READ)
        events.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is listener:
                    client, _ = listener.accept()
                    pid = fork(client, [listener.fileno(), woken, wakes, *(c.fileno() for c in waiting.values())])
                    if pid is not None:
                        waiting[pid] = client
                else:
                    os.read(woken, 4096)
            reap(waiting)


def fork(client: socket.socket, inherited: list[int]) -> int | None:
    """Returns the process number; None if the client was killed before it had sent its order."""
    try:
        order, files = receive(client)
    except (OSError, ValueError):
        client.close()
        return None
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for descriptor in inherited:
            os.close(descriptor)
        run(order, files, client)
    for descriptor in files:
        os.close(descriptor)
    tell(client, {"pid": pid})
    return pid


def receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, rights, _, _ = client.recvmsg(8, socket.CMSG_SPACE(8))
    files = array.array("i")
    for _, _, data in rights:
        files.frombytes(data)
    size, parts = int.from_bytes(head, "big"), []
    if not head:
        raise ValueError("the client has gone")
    while size:
        part = client.recv(min(size, 1 << 20))
        if not part:
            raise ValueError("the client has gone")
        parts.append(part)
        size -= len(part)
    return json.loads(b"".join(parts)), list(files)


def tell(client: socket.socket, answer: dict[str, int]) -> None:
    try:
        client.sendall(json.dumps(answer).encode() + b"\n")
    except OSError:
        return


def reap(waiting: dict[int, socket.socket]) -> None:
    for pid in list(waiting):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            client = waiting.pop(pid)
            tell(client, {"status": status})
            client.close()


def run(order: dict[str, Any], files: list[int], client: socket.socket) -> None:
    """In the fork. Never returns."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        for target, descriptor in zip((1, 2), files, strict=True):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        threading.Thread(target=die_with, args=(client,), daemon=True).start()
        sys.argv = [order["module"], *order["arguments"]]
        sys.executable = os.environ["POTSTILL_TEST_PYTHON"]
        adjust(order)
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 255)


def die_with(client: socket.socket) -> None:
    """Ends this process when its client has been killed."""
    try:
        client.recv(1)
    finally:
        os.killpg(0, signal.SIGKILL)


def adjust(order: dict[str, Any]) -> None:
    from tests.faults.adjustments import apply

    with open(os.environ["POTSTILL_TEST_STARTS"], "a") as starts:  # noqa: PTH123
        starts.write(json.dumps([order["client"], os.getpid(), order["module"], *order["arguments"]]) + "\n")
    apply(os.environ)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
