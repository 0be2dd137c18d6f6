"""Records that a task was started, and then executes its program. Run by path, with only the standard library.

    python -I -S launch.py RECORD PARENT_PID DESCRIPTION COMMAND...

RECORD is created exclusively before the program is executed, so that a task is started at most once, also when a
process is killed. The kernel sends SIGTERM when the parent dies (Linux), so that no orphan continues. On other systems
the next `potstill run` finds the process by its record.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import NoReturn

ALREADY_STARTED = 97
"""The exit code if another process has started the task already."""
ORPHANED = 98
"""The exit code if the parent ended before this process could start the task."""
PR_SET_PDEATHSIG = 1


def identity(pid: int) -> str | None:
    """Returns text that differs between two processes with the same number; None if the process has ended or is a
    zombie.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
                fields = file.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{machine()}/{fields[19]}"
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def machine() -> str:
    """Returns the scope in which process numbers are unique: one boot of one machine, one process namespace."""
    if sys.platform == "linux":
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    return os.uname().nodename


def main(record: str, parent: int, description: str, command: list[str]) -> NoReturn:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(ORPHANED)
    try:
        file = os.open(record, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        sys.exit(ALREADY_STARTED)
    about = {**json.loads(description), "pid": os.getpid(), "identity": identity(os.getpid())}
    os.write(file, json.dumps(about).encode())
    os.fsync(file)
    os.close(file)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
