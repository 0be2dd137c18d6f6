"""A simulated world for `decide`: a store of dicts and an executor whose jobs crash, are preempted, start slowly, or
idle.

The world controls the time. Every broken guarantee raises AssertionError at the step that breaks it.
"""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

from controller.planner.actions import (
    Action,
    CloseTask,
    Discard,
    FetchWeights,
    OfferTask,
    Start,
    Stop,
    WriteManifest,
    WritePointers,
    WriteTask,
)
from controller.planner.engine_admission import LINGERING
from controller.snapshot.types import (
    Attempt,
    Folded,
    Job,
    JobsSnapshot,
    Pool,
    StoreSnapshot,
    UnitView,
    Weights,
    members_of,
)
from tests.controller.experiments import START
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.records import (
    CheckpointRecord,
    ExitCode,
    Failure,
    Marker,
    Progress,
    Record,
    ReportRecord,
    StateRecord,
    TaskEnd,
)
from workloads.api.tasks import GenerateTask, GradeTask, MemberPointer, Owner, RunnableTask, TrainTask, pointers
from workloads.api.units import UnitRef
from workloads.stages.registry import final_marker


@dataclass(frozen=True)
class Weather:
    """What happens to the world's Jobs without the controller: probabilities per tick and running Job, durations, and
    the capacity of engines.
    """

    crash: float = 0.0
    preempt: float = 0.0
    vanish: float = 0.0
    store_outage: float = 0.0
    start_ticks: int = 1
    work_ticks: int = 1
    engine_ticks: int = 0
    """From a generating pod's start of progress until its engine has started."""
    tick_seconds: float = 5.0
    poison: frozenset[str] = frozenset()
    """Contents of adapters whose loading kills the engine."""
    corrupt: frozenset[str] = frozenset()
    """Contents of adapters that the program itself refuses."""
    rows: int = 4
    """How many evaluations an engine can have at a time."""


@dataclass
class SimUnit:
    tasks: dict[int, RunnableTask | MemberPointer] = field(default_factory=dict)
    ends: dict[int, TaskEnd] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    offers: dict[int, list[str | None]] = field(default_factory=dict)
    markers: dict[str, Marker] = field(default_factory=dict)
    retried_through: int = 0


@dataclass
class SimJob:
    task: RunnableTask
    job: Job
    ticks: int = 0
    engine_ticks: int = 0
    """Until its engine has started."""
    lingered_seconds: float = 0.0
    offers_taken: int = 0
    queue: list[tuple[UnitRef, int]] = field(default_factory=list)


class World:
    def __init__(self, weather: Weather, seed: int, pools: tuple[Pool, ...] = ()) -> None:
        self.weather = weather
        self.random = random.Random(seed)
        self.now = START
        self.units: dict[UnitRef, SimUnit] = {}
        self.jobs: dict[str, SimJob] = {}
        self.pools = pools
        self.gone: set[Owner] = set()
        self.folded: dict[Owner, Folded] = {}
        self.started: Counter[str] = Counter()
        self.completed: Counter[UnitRef] = Counter()
        self.engine_starts = 0
        self.busy_ticks: Counter[str] = Counter()
        self.manifests = 0
        self.weights: Weights | None = None

    # What the controller sees.

    def store_view(self, owner: Owner) -> StoreSnapshot:
        units = {ref: self._unit_view(ref, unit) for ref, unit in self.units.items()}
        return StoreSnapshot(units, self.folded.get(owner))

    def _unit_view(self, ref: UnitRef, unit: SimUnit) -> UnitView:
        attempts = tuple(
            Attempt(
                task,
                unit.ends.get(number),
                unit.progress.get(number),
                unit.failures.get(number) if number not in unit.ends else None,
                tuple(unit.offers.get(number, ())),
            )
            for number, task in sorted(unit.tasks.items())
        )
        return UnitView(ref, attempts, dict(unit.markers), unit.retried_through)

    def executor_view(self) -> JobsSnapshot:
        return JobsSnapshot(
            {key: sim.job for key, sim in self.jobs.items()}, frozenset(self.gone), self.pools, self.weights
        )

    # What the controller does.

    def act(self, action: Action, owner: Owner) -> bool:
        """Returns False if another writer was first; the rest of the round is then skipped."""
        match action:
            case WriteTask(task=task):
                return self._put_task(task)
            case WritePointers(task=task):
                for pointer in pointers(task):
                    self._put_task(pointer)
            case OfferTask(host=host, sequence=sequence, task=task):
                log = self._unit(host.unit).offers.setdefault(host.number, [])
                if sequence != len(log) + 1:
                    return sequence <= len(log) and log[sequence - 1] == task.key
                log.append(task.key)
            case CloseTask(unit=unit, end=end):
                ends = self._unit(unit).ends
                if end.number in ends:
                    return ends[end.number] == end
                ends[end.number] = end
            case FetchWeights():
                self.weights = Weights("arriving", "Job fetch")
            case Start(task=task):
                if task.number in self._unit(task.unit).ends:
                    return False
                self._start(task)
            case Stop(key=key):
                sim = self.jobs.get(key)
                if sim is not None and sim.job.phase in {"pending", "running"}:
                    sim.job = replace(sim.job, phase="stopping", stopping=self.now)
            case Discard(key=key):
                self.jobs.pop(key, None)
            case WriteManifest(of=of, grades=grades):
                self.manifests += 1
                self.folded[owner] = Folded(of, sha256_of(of.encode()), grades, self.now)
        return True

    def _unit(self, ref: UnitRef) -> SimUnit:
        return self.units.setdefault(ref, SimUnit())

    def _put_task(self, task: RunnableTask | MemberPointer) -> bool:
        tasks = self._unit(task.unit).tasks
        if task.number in tasks:
            return tasks[task.number] == task
        ends = self._unit(task.unit).ends
        assert all(number in ends for number in tasks), f"{task.unit}: two attempts at one time"
        assert final_marker(task.unit.kind) not in self._unit(task.unit).markers or isinstance(task, MemberPointer), (
            f"{task.unit}: attempted although it is done"
        )
        tasks[task.number] = task
        return True

    def _start(self, task: RunnableTask) -> None:
        """A task's key has one Job: a second POST finds the first."""
        if task.key in self.jobs:
            return
        assert self._unit(task.unit).tasks.get(task.number) == task, "started without being durable"
        self.started[task.key] += 1
        left = [
            marker
            for unit, number in members_of(task)
            if self._is_member(task, unit, number)
            for marker in self._unit(unit).markers.values()
            if marker.attempt == number
        ]
        assert not left, f"{task.key} started again after it had committed"
        self.jobs[task.key] = SimJob(task, Job(task.key, "pending", self.now))

    # What happens by itself.

    def tick(self) -> None:
        self.now += timedelta(seconds=self.weather.tick_seconds)
        for sim in list(self.jobs.values()):
            if sim.job.phase == "ended":
                continue
            self.busy_ticks[sim.task.type] += 1
            sim.ticks += 1
            if sim.job.phase == "stopping":
                self._end(sim, ExitCode.TERMINATED)
            elif sim.job.phase == "pending":
                self._begin(sim)
            elif not self._misfortune(sim):
                self._work(sim)

    def delete(self, owner: Owner) -> None:
        """Deletes the experiment and its jobs; its tasks stay unchanged."""
        self.gone.add(owner)
        for key in [key for key, sim in self.jobs.items() if sim.task.owner == owner]:
            del self.jobs[key]

    def publish(self, unit: UnitRef, samples: int) -> None:
        """Acts like `potstill publish`: commits a checkpoint that no task made."""
        self._commit(unit, 1, store_keys.checkpoint_marker(samples), CheckpointRecord(samples=samples, step=0))

    def _begin(self, sim: SimJob) -> None:
        if sim.ticks < self.weather.start_ticks:
            return
        sim.ticks = 0
        sim.job = replace(sim.job, phase="running", started=self.now)
        sim.queue = self._claimed(sim.task)
        if isinstance(sim.task, GenerateTask):
            self.engine_starts += 1
            sim.engine_ticks = self.weather.engine_ticks
            if sim.engine_ticks:
                self._say(sim.task, "starting the engine", sim=sim)

    def _claimed(self, task: RunnableTask) -> list[tuple[UnitRef, int]]:
        """Claims like the programs: members whose number names this task and that are not done."""
        own = []
        for unit, number in members_of(task):
            is_open = number not in self._unit(unit).ends and not self._done(unit)
            if is_open and self._is_member(task, unit, number):
                own.append((unit, number))
        return own

    def _is_member(self, task: RunnableTask, unit: UnitRef, number: int) -> bool:
        seen = self._unit(unit).tasks.get(number)
        if isinstance(seen, MemberPointer):
            return store_keys.task_key(seen.lead, seen.lead_number) == task.key
        return seen == task

    def _done(self, unit: UnitRef) -> bool:
        return final_marker(unit.kind) in self._unit(unit).markers

    def _misfortune(self, sim: SimJob) -> bool:
        chance = self.random.random()
        weather = self.weather
        if chance < weather.crash:
            self._end(sim, 137)
        elif chance < weather.crash + weather.preempt:
            self._end(sim, 143, preempted=True)
        elif chance < weather.crash + weather.preempt + weather.vanish:
            del self.jobs[sim.job.key]
        elif chance < weather.crash + weather.preempt + weather.vanish + weather.store_outage:
            self._end(sim, ExitCode.STORE_UNAVAILABLE)
        else:
            return False
        return True

    def _end(self, sim: SimJob, code: int, *, preempted: bool = False) -> None:
        sim.job = replace(sim.job, phase="ended", ended=self.now, exit_code=int(code), preempted=preempted)

    def _work(self, sim: SimJob) -> None:
        if sim.engine_ticks:
            sim.ticks = 0
            sim.engine_ticks -= 1
            return
        if sim.ticks < self.weather.work_ticks:
            return
        sim.ticks = 0
        task = sim.task
        if isinstance(task, TrainTask):
            self._train(sim, task)
        elif isinstance(task, GenerateTask | GradeTask):
            self._next_member(sim, task)
        else:
            self._commit(
                task.unit, task.number, store_keys.REPORT, ReportRecord(manifest_sha256="0" * 64, report_version="1")
            )
            self._end(sim, 0)

    def _train(self, sim: SimJob, task: TrainTask) -> None:
        markers = self._unit(task.unit).markers
        for samples in task.inputs.checkpoints:
            name = store_keys.checkpoint_marker(samples)
            if name not in markers:
                self._commit(task.unit, task.number, name, CheckpointRecord(samples=samples, step=samples // 50))
                return
        self._commit(task.unit, task.number, store_keys.DONE, StateRecord(samples=0, step=0))
        self._end(sim, 0)

    def _next_member(self, sim: SimJob, task: GenerateTask | GradeTask) -> None:
        if isinstance(task, GenerateTask) and task.takes_offers and sim.queue:
            self._join(sim, task)
        if not sim.queue:
            if isinstance(task, GenerateTask) and (task.idle_timeout_seconds or task.takes_offers):
                self._linger(sim, task)
            else:
                self._end(sim, 0)
            return
        unit, number = sim.queue[0]
        adapter = self._adapter(unit, number)
        if adapter in self.weather.poison:
            self._say(task, "loading", loading=unit.digest)
            self._end(sim, 137)
            return
        sim.queue.pop(0)
        if adapter in self.weather.corrupt:
            self._unit(unit).failures[number] = Failure(
                exit_code=ExitCode.BAD_DATA,
                reason="CorruptFiles",
                message="the checkpoint is corrupt",
                member=unit.digest,
            )
        else:
            self._commit(unit, number, final_marker(unit.kind), StateRecord(samples=0, step=0))
        self._say(task, "working", sim=sim)

    def _adapter(self, unit: UnitRef, number: int) -> str | None:
        task = self._unit(unit).tasks[number]
        if isinstance(task, MemberPointer):
            lead = self._unit(task.lead).tasks[task.lead_number]
            assert not isinstance(lead, MemberPointer)
            task = lead
        if not isinstance(task, GenerateTask):
            return None
        return next(member.inputs.model.adapter for member in task.members if member.unit == unit)

    def _say(self, task: RunnableTask, phase: str, loading: str | None = None, sim: SimJob | None = None) -> None:
        """`sim`: the Job of a running engine, which has its content and its remaining capacity."""
        queue = sim.queue if sim is not None else []
        takes = isinstance(task, GenerateTask) and task.takes_offers and bool(queue)
        self._unit(task.unit).progress[task.number] = Progress(
            attempt=task.number,
            updated=self.now,
            phase=phase,
            done=0,
            total=1,
            counted="outputs",
            loading=loading,
            members={unit.digest: 0 for unit, _ in queue},
            room=self._room(sim) if sim is not None and takes else 0,
        )

    def _room(self, sim: SimJob) -> int:
        return max(0, self.weather.rows - len(sim.queue))

    def _join(self, sim: SimJob, task: GenerateTask) -> None:
        """Evaluations offered to a running engine join its batch."""
        offered = self._offered(sim, task)
        if offered is not None:
            sim.queue += self._claimed(offered)

    def _offered(self, sim: SimJob, task: GenerateTask) -> GenerateTask | None:
        log = self._unit(task.unit).offers.setdefault(task.number, [])
        if len(log) == sim.offers_taken:
            return None
        key = log[sim.offers_taken]
        sim.offers_taken += 1
        assert key is not None
        offered = next(t for u in self.units.values() for t in u.tasks.values() if t.key == key)
        assert isinstance(offered, GenerateTask)
        return offered

    def _linger(self, sim: SimJob, task: GenerateTask) -> None:
        offered = self._offered(sim, task)
        if offered is not None:
            sim.lingered_seconds = 0.0
            sim.queue = self._claimed(offered)
            self._say(task, "working", sim=sim)
        elif sim.lingered_seconds >= task.idle_timeout_seconds:
            self._unit(task.unit).offers[task.number].append(None)
            self._end(sim, 0)
        else:
            sim.lingered_seconds += self.weather.tick_seconds * self.weather.work_ticks
            self._say(task, LINGERING)

    def _commit(self, unit: UnitRef, attempt: int, name: str, record: Record) -> None:
        markers = self._unit(unit).markers
        if name == final_marker(unit.kind):
            self.completed[unit] += 1
        assert name not in markers, f"{unit}: {name} was done twice"
        content = sha256_of(f"{unit.digest} {name}".encode())
        markers[name] = Marker(
            unit=unit, name=name, attempt=attempt, content=content, files=(), created=self.now, record=record
        )


def commit_all_checkpoints(world: World, frozen: FrozenExperiment) -> None:
    """Commits all checkpoints, as if all trainings had ended well before."""
    for run in frozen.runs:
        for samples in run.checkpoints:
            record = CheckpointRecord(samples=samples, step=samples // 50)
            world._commit(train_unit(run), 1, store_keys.checkpoint_marker(samples), record)
        world._commit(train_unit(run), 1, store_keys.DONE, StateRecord(step=0, samples=0))
