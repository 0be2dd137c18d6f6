"""The seccomp filter, as classic BPF. Pure: a function from (architecture, pid, allowed files) to bytes.

An allow-list: any other call is refused with EPERM, including calls of future kernels. Refused are: every socket, fork,
exec, ptrace, namespaces, mounts, keys, shared memory, io_uring, links, chmod. Struct layouts: linux/filter.h
(sock_filter) and linux/seccomp.h (seccomp_data).
"""

import errno
import struct
from typing import Literal

from workloads.sandbox.syscalls import ALLOWED, CONDITIONAL, FILES

Files = Literal["private", "read", "none"]
"""Allowed files: write in a limited private folder; only read; none."""

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine name: (column of the tables, AUDIT_ARCH)."""

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_CLONE_THREAD, _PR_SET_NAME, _WRITES = 0x10000, 15, 0x1 | 0x2 | 0x40 | 0x200 | 0x400 | 0x400000
"""_WRITES: O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, __O_TMPFILE: equal on both architectures."""

_FCNTL = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. Not F_SETOWN and F_SETSIG: with them the kernel sends
any signal to any process of the same user."""

Instruction = tuple[int, int, int, int]


def _refuse(code: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


_PASS: Instruction = (_RETURN, 0, 0, _ALLOW)


def _one_of(values: tuple[int, ...], refusal: int) -> list[Instruction]:
    """Decides on the loaded value."""
    tests: list[Instruction] = [(_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
    return [*tests, _refuse(refusal), _PASS]


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _rule(number: int, body: list[Instruction]) -> list[Instruction]:
    """The rule for one call. `body` must return, because after it the call's number is no longer loaded."""
    return [(_EQUAL, 0, len(body), number), *body]


def program(machine: str, pid: int, files: Files) -> bytes:
    """Returns the filter as packed sock_filter structs. `pid`: the only process that may be signalled."""
    column, architecture = ARCHITECTURES[machine]
    only_itself = [_argument(0), (_EQUAL, 0, 1, pid), _PASS, _refuse(errno.EPERM)]
    conditional: dict[str, list[Instruction]] = {
        "fcntl": [_argument(1), *_one_of(_FCNTL, errno.EPERM)],
        "kill": only_itself,
        "tgkill": only_itself,
        "clone": [_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), _PASS, _refuse(errno.EPERM)],
        "clone3": [_refuse(errno.ENOSYS)],
        "prctl": [_argument(0), (_EQUAL, 0, 1, _PR_SET_NAME), _PASS, _refuse(errno.EPERM)],
        "prlimit64": [_argument(0), (_EQUAL, 0, 1, 0), _PASS, _refuse(errno.EPERM)],
        "ioctl": [_refuse(errno.ENOTTY)],
        "openat": _open(2, files),
        "open": _open(1, files),
        "creat": [_PASS if files == "private" else _refuse(errno.EACCES)],
    }
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, 0x40000000), _refuse(errno.ENOSYS)]
    plain = {**ALLOWED, **FILES} if files == "private" else ALLOWED
    for numbers in plain.values():
        if (number := numbers[column]) is not None:
            lines += _rule(number, [_PASS])
    for name, body in conditional.items():
        if (number := CONDITIONAL[name][column]) is not None:
            lines += _rule(number, body)
    lines.append(_refuse(errno.EPERM))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _open(flags_argument: int, files: Files) -> list[Instruction]:
    if files == "private":
        return [_PASS]
    if files == "none":
        return [_refuse(errno.EACCES)]
    return [_argument(flags_argument), (_ANY_BIT, 1, 0, _WRITES), _PASS, _refuse(errno.EACCES)]
