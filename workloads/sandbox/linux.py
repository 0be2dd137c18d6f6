"""System calls that Python does not have, one function each, which raises OSError. Linux on x86_64 or aarch64."""

import ctypes
import os
import struct
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_STATVFS_TO_MS = {2: MS_NOSUID, 4: MS_NODEV, 8: MS_NOEXEC, 1024: 1024, 2048: 2048, 4096: 1 << 21}
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _prctl(option: int, *arguments: int | ctypes.c_void_p, what: str) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    _check(_libc.prctl(option, *[ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded]), what)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(arguments[0], arguments[1], arguments[2], ctypes.c_ulong(flags), arguments[3])
    _check(result, f"mount {source} on {target}")


def bind_read_only(source: str, target: str) -> None:
    """Keeps the flags of the mount below, which a user namespace may not remove."""
    mount(source, target, None, MS_BIND | MS_REC)
    kept = sum(flag for bit, flag in _STATVFS_TO_MS.items() if os.statvfs(source).f_flag & bit)
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)


def unmount(target: str) -> None:
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """`new_root` becomes /, and the old root cannot be reached any more."""
    os.chdir(new_root)
    _check(_libc.syscall(ctypes.c_long(_PIVOT_ROOT[os.uname().machine]), b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, 9, what="PR_SET_PDEATHSIG")


def no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")


def drop_capabilities() -> None:
    """Drops all sets, including the bounding set if the process may."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability, what="PR_CAPBSET_DROP")
        except OSError:
            break
    header = struct.pack("=II", 0x20080522, 0)
    result = _libc.syscall(ctypes.c_long(_CAPSET[os.uname().machine]), header, bytes(24))
    _check(result, "capset")


def install_filter(program: bytes) -> None:
    """seccomp, mode filter; needs no_new_privileges() first."""
    code = ctypes.create_string_buffer(program, len(program))
    descriptor = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.cast(descriptor, ctypes.c_void_p), what="seccomp")


def landlock_version() -> int:
    """Returns 0 if the kernel has no Landlock, or it is switched off."""
    return max(0, int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(1))))


_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | (1 << 14) | (1 << 15)
_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def landlock_rules(readable: list[str], writable: list[str], listable: list[str]) -> int:
    """Returns a file descriptor of rules: only these paths may be opened (and no TCP used, if the kernel
    supports it).
    """
    version = landlock_version()
    handled = _RIGHTS_BY_VERSION[min(version, 5)]
    network = 3 if version >= 4 else 0
    scoped = 3 if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _check(
        _libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)),
        "landlock_create_ruleset",
    )
    wanted = [(path, _EXECUTE | _READ_FILE | _READ_DIR) for path in readable]
    wanted += [(path, handled & ~_EXECUTE) for path in writable] + [(path, _READ_DIR) for path in listable]
    for path, rights in wanted:
        if not Path(path).is_dir():
            rights &= _OF_FILES
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights & handled, beneath)
        result = _libc.syscall(
            ctypes.c_long(_LANDLOCK_ADD), ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0)
        )
        os.close(beneath)
        _check(result, f"landlock_add_rule {path}")
    return rules


def landlock_restrict(rules: int) -> None:
    result = _libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT), ctypes.c_int(rules), ctypes.c_uint(0))
    _check(result, "landlock_restrict_self")
