"""Runs tasks as subprocesses of this machine, each in its own session, at most once each.

Each process writes a record to the store's work folder before it executes the program (`launch`). Every `potstill run`
of one store and machine uses this folder: it sees all processes, including those of a killed `potstill run`, and waits
for them.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controller.executors.local import launch
from controller.executors.local.machine import Machine
from controller.lease import OwnersWatch
from controller.planner.actions import Decision
from controller.snapshot.types import Job, JobsSnapshot, role_of
from workloads.api.tasks import Owner, RunnableTask
from workloads.stages.registry import stage_named
from workloads.storage.base import Store

GRACE_SECONDS = 60.0
"""The time between SIGTERM and SIGKILL: enough to save the state of a small training."""
KILL_SECONDS = 5.0
"""How long the executor waits for the end of a process after SIGKILL."""
TAIL_BYTES = 2000
SCRATCH = "potstill-task-"
"""Each program has a folder with this prefix for its temporary files. It is deleted with the program's record."""


def program(task: RunnableTask) -> list[str]:
    return [sys.executable, "-P", "-m", stage_named(role_of(task)).program, task.key]


@dataclass(frozen=True)
class Record:
    """The record that a started process wrote about itself."""

    key: str
    pid: int
    identity: str
    created: datetime
    device: str | None
    scratch: str | None = None


def is_alive(record: Record) -> bool:
    return launch.identity(record.pid) == record.identity


class LocalExecutor:
    """`command` returns the program of a task.

    `environment` is passed to programs, in addition to the store and threads.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        machine: Machine,
        *,
        command: Callable[[RunnableTask], list[str]] = program,
        environment: Mapping[str, str] = os.environ,
        grace_seconds: float = GRACE_SECONDS,
        is_alive: Callable[[Record], bool] = is_alive,
    ) -> None:
        """`is_alive` returns whether the recorded process still runs."""
        self._store = store
        self._owners = OwnersWatch(store)
        self._records = folder / "processes"
        self._logs = folder / "logs"
        self._machine = machine
        self._command = command
        self._environment = dict(environment)
        self._grace_seconds = grace_seconds
        self._is_alive = is_alive
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: dict[str, datetime] = {}
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)

    def view(self) -> JobsSnapshot:
        """Also sends SIGKILL to processes that have been stopping for longer than the grace period."""
        now = datetime.now(UTC)
        jobs = {record.key: self._job(record, now) for record in self.records()}
        for key, child in list(self._children.items()):
            code = child.poll()
            if code == launch.ALREADY_STARTED:
                del self._children[key]
            elif key not in jobs:
                phase, ended = ("pending", None) if code is None else ("ended", now)
                message = self._tail(key) if code is not None else ""
                jobs[key] = Job(key, phase, now, ended=ended, exit_code=code, message=message)  # type: ignore[arg-type]
        return JobsSnapshot(jobs, pools=self._machine.pools)

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        """Calls `decide` directly, because each `potstill run` has its own slots."""
        return decide(view)

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        return frozenset(owner for owner in owners if self._owners.is_gone(owner))

    def start(self, task: RunnableTask) -> None:
        record = self._records / _file_name(task.key)
        if record.exists() or task.key in self._children:
            return
        device = self._machine.free_device(role_of(task), [r.device for r in self.records() if self._is_alive(r)])
        scratch = tempfile.mkdtemp(prefix=SCRATCH)
        Path(scratch).chmod(0o711)  # processes of a sandbox run as another user
        about = {"key": task.key, "created": datetime.now(UTC).isoformat(), "device": device, "scratch": scratch}
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(record), str(os.getpid()), json.dumps(about)]
        with (self._logs / _file_name(task.key)).open("ab") as log:
            self._children[task.key] = subprocess.Popen(
                [*launcher, *self._command(task)],
                env=self._machine.environment(self._environment, device)
                | {"POTSTILL_STORE": self._store.url, "TMPDIR": scratch},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, key: str) -> None:
        self._signal(key, signal.SIGTERM)
        self._stopping.setdefault(key, datetime.now(UTC))

    def kill_all(self) -> None:
        """Kills this process's children at once, with all processes that they started."""
        for key, child in self._children.items():
            self._signal(key, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(KILL_SECONDS)
        for record in self.records():
            if record.key in self._children:
                _remove_scratch(record)

    def stop_all(self) -> None:
        """Asks each of this process's children to end, unless it was asked before."""
        for key, child in self._children.items():
            if child.poll() is None and key not in self._stopping:
                self.stop(key)

    def is_busy(self) -> bool:
        """Returns whether a child of this process runs."""
        return any(child.poll() is None for child in self._children.values())

    def discard(self, key: str) -> None:
        for record in self.records():
            if record.key == key:
                _remove_scratch(record)
        (self._records / _file_name(key)).unlink(missing_ok=True)
        self._children.pop(key, None)
        self._stopping.pop(key, None)

    def fetch_weights(self) -> None:
        """Never called: programs on this machine find or download their base themselves."""

    def wait(self, seconds: float, ends: Callable[[], bool] = lambda: False) -> None:
        """Waits until a child ends, `ends` returns True, or `seconds` have passed."""
        deadline = time.monotonic() + seconds
        running = [child for child in self._children.values() if child.returncode is None]
        while time.monotonic() < deadline and not ends() and all(child.poll() is None for child in running):
            time.sleep(min(0.05, seconds))

    def _job(self, record: Record, now: datetime) -> Job:
        child = self._children.get(record.key)
        code = child.poll() if child is not None else None
        stopping = self._stopping.get(record.key)
        if code is None and self._is_alive(record):
            if stopping is not None and (now - stopping).total_seconds() > self._grace_seconds:
                self._signal(record.key, signal.SIGKILL)
            return Job(
                record.key,
                "running" if stopping is None else "stopping",
                record.created,
                started=record.created,
                stopping=stopping,
                gpus=0 if record.device is None else 1,
            )
        if code is None and child is not None:  # it ended after the request
            code = child.poll()
        return Job(
            record.key,
            "ended",
            record.created,
            started=record.created,
            ended=now if child is not None else self._last_heard_of(record),
            exit_code=code,
            message=self._tail(record.key),
            gpus=0 if record.device is None else 1,
        )

    def records(self) -> list[Record]:
        """Returns the records of the started processes. A record that is being written is left out."""
        records = []
        for path in sorted(self._records.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                text = path.read_text()
                if text.endswith("}"):
                    about = json.loads(text)
                    created = datetime.fromisoformat(about["created"])
                    device = None if about["device"] is None else str(about["device"])
                    records.append(
                        Record(about["key"], about["pid"], about["identity"], created, device, about.get("scratch"))
                    )
        return records

    def _signal(self, key: str, number: signal.Signals) -> None:
        """Sends the signal to the whole process group, if the recorded process still exists."""
        record = next((record for record in self.records() if record.key == key), None)
        child = self._children.get(key)
        alive = (record is not None and self._is_alive(record)) or (child is not None and child.poll() is None)
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(record.pid if record is not None else child.pid, number)  # type: ignore[union-attr]

    def _last_heard_of(self, record: Record) -> datetime:
        """Returns when a process with an unseen end wrote its last line. It may have ended days ago."""
        path = self._logs / _file_name(record.key)
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else record.created
        return max(record.created, written)

    def _tail(self, key: str) -> str:
        """Returns the last line that the process wrote, to explain an unknown end."""
        path = self._logs / _file_name(key)
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f"{lines[-1]} (log: {path})" if lines else ""


def _remove_scratch(record: Record) -> None:
    """Deletes the temporary files of a killed program."""
    if record.scratch is not None and Path(record.scratch).name.startswith(SCRATCH) and not is_alive(record):
        shutil.rmtree(record.scratch, ignore_errors=True)


def _file_name(key: str) -> str:
    return key.replace("/", "-")
