"""An executor of the simulation: one machine with its own records of what it has started, whose processes crash, are
preempted, are lost from view while they still run (zombies), and are seen late.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.lease import OwnersWatch
from controller.planner.actions import Decision
from controller.snapshot.types import Job, JobsSnapshot
from tests.simulation.memory_store import Client
from tests.simulation.programs import Program
from tests.simulation.scheduler import Actor, Scheduler
from workloads.api import store_keys
from workloads.api.records import ExitCode
from workloads.api.tasks import Owner, RunnableTask
from workloads.api.units import UnitRef
from workloads.storage.base import StoreError


@dataclass(frozen=True)
class Weather:
    """Probabilities: a process crashes, is preempted, or runs unseen; a view is stale; a notice is lost, or late.

    `notices`: whether programs write some.
    """

    crash: float = 0.0
    preempt: float = 0.0
    zombie: float = 0.0
    stale_jobs: float = 0.0
    work_seconds: float = 20.0
    notices: bool = False
    lost_notices: float = 0.0
    late_notices: float = 0.0


@dataclass
class Machine:
    name: str
    scheduler: Scheduler
    client: Callable[[], Client]
    weather: Weather
    watch: OwnersWatch
    jobs: dict[str, Job] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    zombies: int = 0
    _before: dict[str, Job] = field(default_factory=dict)

    def view(self) -> JobsSnapshot:
        self.scheduler.turn()
        seen = dict(self.jobs)
        if self.scheduler.random.random() < self.weather.stale_jobs:
            seen, self._before = self._before, seen
        else:
            self._before = seen
        return JobsSnapshot(dict(seen))

    def admit(self, view: JobsSnapshot, decide: Callable[[JobsSnapshot], Decision]) -> Decision:
        return decide(view)

    def gone(self, owners: Iterable[Owner]) -> frozenset[Owner]:
        return frozenset(owner for owner in owners if self.watch.is_gone(owner))

    def start(self, task: RunnableTask) -> None:
        """Starts the task, unless it has a record already."""
        self.scheduler.turn()
        if task.key in self.jobs:
            return
        now = self.scheduler.now
        self.started.append(task.key)
        self.jobs[task.key] = Job(task.key, "running", now, started=now)
        nonce = f"{self.name} {len(self.started)}"
        client = self.client()

        def notify(unit: UnitRef, number: int) -> None:
            self._notify(client, unit, number)

        program = Program(client, task, nonce, lambda: self._work(task.key), lambda: self.scheduler.now, notify)

        def body() -> None:
            code = program.run()
            self._end(task.key, code)

        self.actors[task.key] = self.scheduler.spawn(f"{task.type} {nonce}", body, after_seconds=2.0)
        self._misfortune(task.key)

    def stop(self, key: str) -> None:
        self.scheduler.turn()
        job, actor = self.jobs.get(key), self.actors.get(key)
        if job is not None and actor is not None and job.phase == "running":
            self.jobs[key] = replace(job, phase="stopping", stopping=self.scheduler.now)
            actor.killed = True
            self.scheduler.spawn(f"end of {key}", lambda: self._end(key, ExitCode.TERMINATED), after_seconds=1.0)

    def discard(self, key: str) -> None:
        self.scheduler.turn()
        self.jobs.pop(key, None)

    def fetch_weights(self) -> None:
        raise AssertionError("no machine has weights to fetch")

    def kill(self, key: str, *, preempted: bool = False) -> None:
        actor = self.actors.get(key)
        if actor is None or actor.over:
            return
        actor.killed = True
        self._end(key, 143 if preempted else 137, preempted=preempted)

    def lose(self, key: str, pause_seconds: float) -> None:
        """Its Job is deleted; the process pauses, and continues."""
        actor = self.actors.get(key)
        if actor is not None and not actor.over and key in self.jobs:
            del self.jobs[key]
            self.zombies += 1
            self.scheduler.pause(actor, pause_seconds)

    def _end(self, key: str, code: int, *, preempted: bool = False) -> None:
        job = self.jobs.get(key)
        if job is not None and job.phase != "ended":
            now: datetime = self.scheduler.now
            self.jobs[key] = replace(job, phase="ended", ended=now, exit_code=int(code), preempted=preempted)

    def _notify(self, client: Client, unit: UnitRef, number: int) -> None:
        chance, weather = self.scheduler.random, self.weather
        if not weather.notices or chance.random() < weather.lost_notices:
            return

        def write() -> None:
            with suppress(StoreError):
                client.put(store_keys.notice_key(unit, number), str(chance.random()).encode())

        if chance.random() < weather.late_notices:
            self.scheduler.spawn(f"late notice of {unit}", write, after_seconds=chance.choice([10.0, 100.0, 1000.0]))
        else:
            write()

    def _work(self, key: str) -> None:
        self.scheduler.sleep(self.scheduler.random.uniform(0, 2 * self.weather.work_seconds))

    def _misfortune(self, key: str) -> None:
        """Draws the process's faults, and their times, when it starts."""
        chance, weather = self.scheduler.random, self.weather
        drawn = chance.random()
        after = chance.uniform(0, 3 * weather.work_seconds)
        if drawn < weather.crash:
            self.scheduler.spawn(f"crash of {key}", lambda: self.kill(key), after)
        elif drawn < weather.crash + weather.preempt:
            self.scheduler.spawn(f"preemption of {key}", lambda: self.kill(key, preempted=True), after)
        elif drawn < weather.crash + weather.preempt + weather.zombie:
            paused = chance.choice([0.0, 100.0, 400.0, 8000.0])
            self.scheduler.spawn(f"loss of {key}", lambda: self.lose(key, paused), after)
