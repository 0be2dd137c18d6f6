"""`potstill run`: observe, decide, act, again until done, with the subprocesses of this machine as the executor."""

import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Literal

from controller.apply_actions import act
from controller.concerned import concerned_units
from controller.events import EventLog
from controller.executors.base import ActionRefused, Executor
from controller.executors.local.executor import LocalExecutor
from controller.executors.local.machine import this_machine
from controller.lease import Busy, Lease, LeaseLost, acquire, release, renew
from controller.planner.actions import Counts, Intent, Status
from controller.planner.planner import Decision, decide
from controller.planner.unit_state import owner_of
from controller.snapshot.listing import Listing
from controller.snapshot.reader import Observer
from controller.snapshot.types import Folded, JobsSnapshot, StoreSnapshot, Unknown
from controller.terminal import Screen, make_screen
from controller.trouble import ROUNDS, Trouble, refuse_newer_manifest, trouble_of_error, trouble_of_status, wait_seconds
from workloads.accepted import read_experiment
from workloads.api import store_keys
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import Owner
from workloads.api.units import UnitRef
from workloads.storage.base import AlreadyExists, NotFound, Store, StoreError

DIRECTORY_POLL_SECONDS = 0.5
S3_POLL_SECONDS = 5.0

logger = logging.getLogger("potstill")

Outcome = Literal["Succeeded", "PartiallyFailed", "Failed", "Interrupted", "Refused"]


@dataclass(frozen=True)
class FinalStatus:
    """How `potstill run` ended. `status` is None when it was refused; keys are relative to the store's root."""

    outcome: Outcome
    message: str
    status: Status | None
    manifest_key: str
    report_prefix: str


class _Unconfirmed(Exception):
    """A decision has actions on units that were not listed in its round."""

    def __init__(self, units: list[UnitRef]) -> None:
        super().__init__()
        self.units = units


class Rounds:
    """Observe, decide, act. Holds only what can be read again: caches, the last manifest, the counts seen.

    `seen`: the store as last looked at. `trouble`: what ended the last round before its time. `lost_race`: another
    writer was first in it.
    """

    def __init__(
        self,
        frozen: FrozenExperiment,
        store: Store,
        executor: Executor,
        events: EventLog,
        recorded: Counts | None = None,
        listing: Listing | None = None,
    ) -> None:
        """`listing`: which units are listed when; None: all that are not done, in each round."""
        self._frozen = frozen
        self._store = store
        self._executor = executor
        self._events = events
        self._observer = Observer(store, listing)
        self._folded: Folded | None = None
        self._recorded = recorded or Counts()
        self.seen: StoreSnapshot | None = None
        self.trouble: Trouble | None = None
        self.lost_race = False

    def next(self, intent: Intent, clock: Callable[[], datetime]) -> Decision:
        """The decision, acted upon. A store that does not answer ends the round, and the next one looks again.

        An action that is refused costs the others nothing.
        """
        decision = self._decide(intent, clock())
        self.trouble, self.lost_race = trouble_of_status(decision.status), False
        self._observer.forget(concerned_units(decision.actions, self.seen or StoreSnapshot({})))
        for action in decision.actions:
            try:
                acted = act(action, self._frozen, self._store, self._executor, clock())
            except ActionRefused as error:
                logger.warning("%s", error)
                continue
            except (StoreError, OSError) as error:
                self.trouble = trouble_of_error(type(action).__name__, error)
                break
            self._events.add(action, clock())
            self._folded = acted.folded or self._folded
            if acted.lost_race:
                self.lost_race = True
                break
        return decision

    def _decide(self, intent: Intent, now: datetime) -> Decision:
        """The executor is looked at before the store: a Job that has ended had written its markers before.

        What was not listed in this round may be old. It may delay an action, but an action is decided on units that
        were listed in the same round: where it was not, they are listed, and the decision is made again.
        """
        jobs = self._executor.view()
        known = {} if isinstance(jobs, Unknown) else jobs.jobs
        seen = self._observer.observe(self._frozen, self._folded, known)
        while True:
            try:
                return self._decide_on(jobs, seen, intent, now)
            except _Unconfirmed as error:
                seen = self._observer.confirm(self._frozen, self._folded, error.units)

    def _decide_on(
        self, jobs: JobsSnapshot | Unknown, seen: StoreSnapshot | Unknown, intent: Intent, now: datetime
    ) -> Decision:
        self.seen = seen if isinstance(seen, StoreSnapshot) else self.seen
        if isinstance(seen, StoreSnapshot) and not isinstance(jobs, Unknown):
            try:
                jobs = replace(jobs, gone_owners=self._executor.gone(_others(self._frozen, seen)))
            except StoreError as error:
                seen = Unknown("StoreUnavailable", str(error))
        if isinstance(jobs, Unknown):
            return decide(self._frozen, seen, jobs, now, intent, self._recorded)

        def decided(view: JobsSnapshot) -> Decision:
            """Raises _Unconfirmed, so that nobody notes a decision that is made again."""
            decision = decide(self._frozen, seen, view, now, intent, self._recorded)
            units = self._observer.unconfirmed(concerned_units(decision.actions, self.seen or StoreSnapshot({})))
            if units:
                raise _Unconfirmed(units)
            return decision

        decision = self._executor.admit(jobs, decided)
        if decision.status.evaluations or decision.status.runs:
            self._recorded = decision.status.counts
        return decision


def _others(frozen: FrozenExperiment, seen: StoreSnapshot) -> set[Owner]:
    owner = owner_of(frozen)
    tasks = (attempt.task for view in seen.units.values() for attempt in view.open_attempts)
    return {task.owner for task in tasks if task.owner != owner}


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

    A process that dies takes its programs with it (or finds them again); calling this again goes on where it was.
    Raises StoreError when the store is not usable at all.
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
                before = interrupts.count
                executor.wait(poll_seconds, lambda count=before: interrupts.count != count)  # type: ignore[misc]
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
    """The whole time, but for a signal."""
    end, before = time.monotonic() + seconds, interrupts.count
    while (left := end - time.monotonic()) > 0 and interrupts.count == before:
        executor.wait(min(left, DIRECTORY_POLL_SECONDS))


def _release(store: Store, lease: Lease) -> None:
    """If that fails, the next run finds that our process has ended."""
    try:
        release(store, lease)
    except (StoreError, LeaseLost) as error:
        logger.warning("%s", error)


def accept(frozen: FrozenExperiment, store: Store) -> FrozenExperiment:
    """Writes the experiment as accepted, or as a new revision of what was accepted before.

    An experiment of one uid8 asks one question: what may differ is where its files stand, the limits and the profile,
    and there the file as it is now counts. Raises StoreError, also for records that a later version wrote.
    """
    try:
        manifest = store_keys.manifest_key(frozen.name, frozen.uid8)
        refuse_newer_manifest(manifest, store.get(manifest))
    except NotFound:
        pass
    key = store_keys.experiment_key(frozen.name, frozen.uid8)
    try:
        store.put_new(key, frozen.to_json())
    except AlreadyExists:
        standing, etag = read_experiment(store, key)
        same = frozen.model_copy(update={"accepted": standing.accepted, "revision": standing.revision})
        if same == standing:
            return standing
        frozen = same.model_copy(update={"revision": standing.revision + 1})
        store.put_if(key, frozen.to_json(), etag)
    return frozen


def work_folder(store_url: str) -> Path:
    """Where this machine keeps what belongs to its processes: logs, and records of what was started."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "potstill" / hashlib.sha256(store_url.encode()).hexdigest()[:12]


def _now() -> datetime:
    return datetime.now(UTC)


def _message(status: Status) -> str:
    finished = status.condition("Finished")
    return finished.message if finished else ""


def _how_to_continue(frozen: FrozenExperiment) -> str:
    return f"what is committed stays: run {frozen.name} again to go on"


def _final(frozen: FrozenExperiment, outcome: Outcome, message: str, status: Status | None) -> FinalStatus:
    manifest = store_keys.manifest_key(frozen.name, frozen.uid8)
    return FinalStatus(outcome, message, status, manifest, store_keys.report_prefix(frozen.name, frozen.uid8))
