"""Irreversible restrictions of a candidate's process, applied before it runs any line of the candidate's program."""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from workloads.sandbox import filter as seccomp
from workloads.sandbox import linux


@dataclass(frozen=True)
class Locks:
    """Prepared once by the server. `rules`: a Landlock descriptor, or None."""

    machine: str
    rules: int | None
    files: seccomp.Files

    @property
    def layers(self) -> tuple[str, ...]:
        landlock = () if self.rules is None else ("landlock",)
        closed = ("no files at all",) if self.files == "none" else ()
        return (*landlock, *closed, "seccomp", "no new privileges", "no capabilities", "resource limits")


def prepare(readable: list[str], listable: list[str], private: str | None, *, use_landlock: bool) -> Locks:
    rules = None
    if use_landlock and linux.landlock_version() > 0:
        rules = linux.landlock_rules(readable, [] if private is None else [str(Path(private).parent)], listable)
    files: seccomp.Files = "private" if private is not None else "read" if rules is not None else "none"
    return Locks(machine=os.uname().machine, rules=rules, files=files)


def limit(memory_bytes: int, cpu_seconds: float, private_bytes: int) -> None:
    """`private_bytes`: the largest file; pipes are not files."""
    for which, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_STACK, memory_bytes),
        (resource.RLIMIT_CPU, int(cpu_seconds) + 2),
        (resource.RLIMIT_FSIZE, private_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _, hardest = resource.getrlimit(which)
        value = value if hardest == resource.RLIM_INFINITY else min(value, hardest)
        resource.setrlimit(which, (value, value))


def lock(locks: Locks) -> None:
    linux.die_with_parent()
    linux.no_new_privileges()
    linux.drop_capabilities()
    if locks.rules is not None:
        linux.landlock_restrict(locks.rules)
        os.close(locks.rules)
    linux.install_filter(seccomp.program(locks.machine, os.getpid(), locks.files))
