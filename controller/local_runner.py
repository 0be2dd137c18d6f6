"""`potstill run`: rounds until the experiment is finished, with subprocesses of this machine as executor."""

import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Literal

from controller.accept import accept
from controller.events import EventLog
from controller.executors.local.executor import LocalExecutor
from controller.executors.local.machine import this_machine
from controller.lease import Busy, Lease, LeaseLost, acquire, release, renew
from controller.planner.actions import Status
from controller.planner.round import owner_of
from controller.rounds import Rounds
from controller.terminal import Screen, make_screen
from controller.trouble import ROUNDS, trouble_of_error, wait_seconds
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.storage.base import Store, StoreError

DIRECTORY_POLL_SECONDS = 0.5
S3_POLL_SECONDS = 5.0

logger = logging.getLogger("potstill")

Outcome = Literal["Succeeded", "PartiallyFailed", "Failed", "Interrupted", "Refused"]


@dataclass(frozen=True)
class FinalStatus:
    """How `potstill run` ended. `status` is None if it was refused; keys are relative to the store's root."""

    outcome: Outcome
    message: str
    status: Status | None
    manifest_key: str
    report_prefix: str


class Interrupts:
    """The first SIGINT, SIGTERM or SIGHUP asks for a graceful end, the second for an immediate one."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def since_now(self) -> Callable[[], bool]:
        """Returns a function that says whether a signal has arrived since this call."""
        before = self.count
        return lambda: self.count != before

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def run_local(
    frozen: FrozenExperiment,
    store: Store,
    *,
    live: bool,
    folder: Path | None = None,
    executor: LocalExecutor | None = None,
) -> FinalStatus:
    """Runs the experiment to its end on this machine, or until it is interrupted. Call it in the main thread.

    If this process dies, its programs end too, or the next call finds them. A second call continues where the first one
    stopped. Raises StoreError if the store is not usable at all.
    """
    store.probe()
    folder = folder or work_folder(store.url)
    runner = executor or LocalExecutor(store, folder, this_machine(frozen.limits))
    try:
        lease = acquire(store, owner_of(frozen), _now())
    except Busy as error:
        return _final(frozen, "Refused", str(error), None)
    frozen = accept(frozen, store)
    writer = f"{_now():%Y%m%dT%H%M%S}-{lease.runner.host}-{os.getpid()}"
    events = EventLog(store, frozen.name, frozen.uid8, writer)
    with Interrupts() as interrupts, make_screen(live) as screen:
        return _run(frozen, store, runner, events, lease, interrupts, screen)


def _run(
    frozen: FrozenExperiment,
    store: Store,
    executor: LocalExecutor,
    events: EventLog,
    lease: Lease,
    interrupts: Interrupts,
    screen: Screen,
) -> FinalStatus:
    rounds = Rounds(frozen, store, executor, events)
    poll_seconds = DIRECTORY_POLL_SECONDS if store.url.startswith("file:") else S3_POLL_SECONDS
    troubled_rounds = 0
    while True:
        if interrupts.count > 1:
            executor.kill_all()
            return _final(frozen, "Interrupted", "ended at once; " + _how_to_continue(frozen), None)
        decision = rounds.next("suspend" if interrupts.count else "run", _now)
        status, trouble = decision.status, rounds.trouble
        try:
            events.flush()
            lease = renew(store, lease, _now())
        except LeaseLost as error:
            executor.kill_all()
            return _final(frozen, "Refused", str(error), status)
        except StoreError as error:
            trouble = trouble or trouble_of_error("events", error)
        screen.show(status, _now(), trouble, stopping=interrupts.count > 0)
        troubled_rounds = troubled_rounds + 1 if trouble is not None else 0
        if status.finished is not None:
            _release(store, lease)
            return _final(frozen, status.finished, _message(status), status)
        if interrupts.count and status.idle:
            _release(store, lease)
            return _final(frozen, "Interrupted", "stopped; " + _how_to_continue(frozen), status)
        if trouble is None:
            if rounds.lost_race or not decision.actions:
                executor.wait(poll_seconds, interrupts.since_now())
            continue
        if interrupts.count:
            executor.stop_all()
            if not executor.is_busy():
                _release(store, lease)
                message = f"stopped, while {trouble.message}; {_how_to_continue(frozen)}"
                return _final(frozen, "Interrupted", message, status)
        elif trouble.lasting and troubled_rounds >= ROUNDS and not executor.is_busy():
            _release(store, lease)
            raise StoreError(trouble.message)
        seconds = poll_seconds if interrupts.count else wait_seconds(troubled_rounds, poll_seconds)
        _wait(executor, interrupts, seconds)


def _wait(executor: LocalExecutor, interrupts: Interrupts, seconds: float) -> None:
    """Waits the whole time, or until a signal comes."""
    end, before = time.monotonic() + seconds, interrupts.count
    while (left := end - time.monotonic()) > 0 and interrupts.count == before:
        executor.wait(min(left, DIRECTORY_POLL_SECONDS))


def _release(store: Store, lease: Lease) -> None:
    """Releases the lease. If this fails, the next run detects that our process has ended."""
    try:
        release(store, lease)
    except (StoreError, LeaseLost) as error:
        logger.warning("%s", error)


def work_folder(store_url: str) -> Path:
    """Returns the folder of this machine for its processes: their logs and records."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "potstill" / hashlib.sha256(store_url.encode()).hexdigest()[:12]


def _now() -> datetime:
    return datetime.now(UTC)


def _message(status: Status) -> str:
    finished = status.condition("Finished")
    return finished.message if finished else ""


def _how_to_continue(frozen: FrozenExperiment) -> str:
    return f"what is committed stays: run {frozen.name} again to continue"


def _final(frozen: FrozenExperiment, outcome: Outcome, message: str, status: Status | None) -> FinalStatus:
    manifest = store_keys.manifest_key(frozen.name, frozen.uid8)
    return FinalStatus(outcome, message, status, manifest, store_keys.report_prefix(frozen.name, frozen.uid8))
