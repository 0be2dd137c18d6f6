"""The processes of one schedule: a store, runners on one or two machines, and the programs that they started."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.lab import Lab, Program, base_environment
from tests.faults.schedules import Schedule
from tests.storage.http_proxy import HttpProxy, http_proxy
from tests.tools.s3 import FaultProxy, S3Server, fault_proxy, s3_server
from workloads.storage.base import Store, open_store
from workloads.storage.s3.store import S3Store

DISK_BYTES = 256 * 1024 * 1024
HELD_BYTES = 4096
"""Where there is no small file system to fill: files may not grow beyond this while the disk is "full"."""


@dataclass
class S3:
    server: S3Server
    network: FaultProxy
    requests: HttpProxy


@dataclass
class Stack:
    """`disk`: the folder of the store's files, a separate small file system if one may be mounted. `clock`: the file with
    the error of the first machine's clock.
    """

    lab: Lab
    folder: Path
    disk: Path
    url: str
    s3: S3 | None
    mounted: bool
    runner: Program | None = None
    others: list[Program] = field(default_factory=list)
    runs: int = 0

    @property
    def store_folder(self) -> Path:
        """Where the store's objects lie as files, S3's too."""
        return self.disk / "s3" / "lab" / "store" if self.s3 else self.disk / "store"

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def environment(self, machine: str = "first") -> dict[str, str]:
        found = base_environment(self.lab, self.folder, machine)
        if self.s3:
            found |= self.s3.server.environment(self.s3.requests.url)
        found |= {"POTSTILL_TEST_MACHINE": machine, "POTSTILL_TEST_FASTER": "10"}
        return found | ({"POTSTILL_TEST_CLOCK": str(self.clock)} if machine == "first" else {})

    def potstill(self, *words: str, machine: str = "first") -> Program:
        self.runs += 1
        log = self.folder / f"log-{self.runs:02d}-{words[0]}"
        return Program(self.lab.forks, "tests.faults.run", words, self.environment(machine), log)

    def run(self, machine: str = "first") -> Program:
        return self.potstill("run", self.lab.spec, "--store", self.url, machine=machine)

    def direct(self) -> Store:
        """The store without the proxies."""
        if self.s3 is None:
            return open_store(self.url)
        return S3Store(self.s3.server.client(retries=3), self.s3.server.bucket, "store", 60.0)

    def starts(self, machine: str = "first") -> list[tuple[int, str, str]]:
        """(pid, program, task's key) of every program that was started on the machine."""
        found = started_in(self.folder / f"starts-{machine}")
        return [(pid, module, words[0]) for pid, module, words in found]

    def live(self, module: str = "workloads.") -> list[int]:
        """Processes of running programs, on any machine."""
        found = [*self.starts(), *self.starts("second")]
        return [pid for pid, started, _ in found if started.startswith(module) and is_alive(pid)]

    def markers(self) -> int:
        return count_markers(self.store_folder)

    def work(self) -> int:
        return self.markers() + len(self.starts())

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """A file system that has no room, or files that may not grow."""
        if self.mounted:
            ballast = self.disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            try:
                yield
            finally:
                ballast.unlink()
            return
        pids = [self.lab.server.pid, *self.live(), *(p.pid for p in (self.runner, *self.others) if p)]
        limit_files(pids, HELD_BYTES)
        try:
            yield
        finally:
            limit_files([*pids, *self.live()], resource.RLIM_INFINITY)

    def end(self) -> None:
        for program in (self.runner, *self.others):
            if program is not None:
                program.signal(signal.SIGCONT)
                program.signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while (left := self.live()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def limit_files(pids: list[int], size: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@contextmanager
def stack(lab: Lab, schedule: Schedule, folder: Path) -> Iterator[Stack]:
    """A new one in `folder`, which is empty. Its processes end with the block."""
    folder.mkdir(parents=True)
    (folder / "clock").write_text("0")
    with contextlib.ExitStack() as closing:
        disk = folder / "disk"
        disk.mkdir()
        mounted = any(f.kind == "full disk" for f in schedule.faults) and closing.enter_context(small_disk(disk))
        s3 = None
        if schedule.store == "s3":
            s3 = closing.enter_context(s3_behind_proxies(disk, folder))
        url = "s3://lab/store" if s3 else (disk / "store").as_uri()
        made = Stack(lab, folder, disk, url, s3, mounted)
        closing.callback(made.end)
        yield made


@contextmanager
def s3_behind_proxies(disk: Path, logs: Path) -> Iterator[S3]:
    """An empty server, its objects in `disk`."""
    with (
        s3_server(disk) as server,
        fault_proxy(server.endpoint, logs) as network,
        http_proxy(network.url) as requests,
    ):
        yield S3(server, network, requests)


def started_in(file: Path) -> list[tuple[int, str, list[str]]]:
    """(pid, module, arguments) of each of Potstill's programs that the fork server has noted there."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [(pid, module, words) for _, pid, module, *words in lines if module.startswith("workloads.")]


def count_markers(store_folder: Path) -> int:
    return sum(1 for _ in store_folder.glob("units/*/*/markers/*.json"))


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a small tmpfs there; False where this process may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
