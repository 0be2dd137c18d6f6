"""16/02's evaluations by decide, simulated: engine starts, GPU-seconds and waits, with and without group commit.

    python -m perf.group_commit perf/results/evaluate-h200/evaluate.jsonl --start rows-512 --groups together

Which evaluations meet in one engine is decided by the code that decides in a cluster; how long it takes is computed
from measured lines of the file: an engine's start, an adapter's loading, and its batch step by step as
perf.evaluate.batches computes it, times what the named groups took by what it computes for them. An evaluation is 100
requests. Assumed: a pod runs 10 s after it was
wanted, a grading takes 30 s, and a checkpoint of a 4K run comes every 1,000 s, of a 2K run every 250 s (15M and 3.75M
tokens at 15K tokens/s). Arrivals: all there at the beginning; four runs that begin at once; the same, each run 7 s
after the one before; or 97 s, so that seldom two checkpoints come together.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from perf.evaluate.costs import Engine, Measured
from tests.controller.experiments import experiment_16_02
from tests.controller.simulate import Controller
from tests.controller.world import SimJob, Weather, World, commit_all_checkpoints
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import Limits
from workloads.api.records import StateRecord
from workloads.api.tasks import GenerateTask, GradeTask, TrainTask
from workloads.api.units import UnitRef

TICK_SECONDS = 5.0
POD_SECONDS = 10.0
GRADE_SECONDS = 30.0
REQUESTS = 100
"""Of an evaluation."""
SLOTS = 2
ROUNDS = 20_000
Arrivals = Literal["backlog", "together", "seconds apart", "apart"]
OFFSET_SECONDS: dict[Arrivals, float] = {"backlog": 0.0, "together": 0.0, "seconds apart": 7.0, "apart": 97.0}
"""From a run's beginning to that of the next."""


def interval_seconds(task: TrainTask) -> float:
    return 1000.0 if len(task.inputs.checkpoints) == 5 else 250.0


class Costed(World):
    """A world in which things take as long as was measured. `offsets`: seconds until each run of a name begins.

    `joins`: whether a running engine says that it has room for more.
    """

    def __init__(self, start_seconds: float, measured: Measured, offsets: dict[UnitRef, float], *, joins: bool) -> None:
        super().__init__(Weather(tick_seconds=TICK_SECONDS), seed=16)
        self.start_seconds = start_seconds
        self.measured = measured
        self.offsets = offsets
        self.joins = joins
        self.engines: dict[str, Engine] = {}
        """By the task's key."""
        self.clocks: dict[str, float] = {}
        """Until when each has worked; seconds."""
        self.committed: dict[UnitRef, float] = {}
        """Of each evaluation whose outputs are there: when its checkpoint was."""
        self.waits: list[float] = []
        """From a checkpoint to the grades of each of its evaluations, seconds."""

    def _begin(self, sim: SimJob) -> None:
        seconds = POD_SECONDS
        if isinstance(sim.task, TrainTask):
            seconds += self.offsets.get(sim.task.unit, 0.0)
        if sim.ticks * TICK_SECONDS < seconds:
            return
        if isinstance(sim.task, GenerateTask):
            self.engines[sim.task.key] = Engine(self.measured, REQUESTS)
            self.clocks[sim.task.key] = self.now.timestamp() + self.start_seconds
        super()._begin(sim)
        if isinstance(sim.task, GenerateTask):
            self._say(sim.task, "starting the engine", sim=sim)
            self._take(sim)

    def _work(self, sim: SimJob) -> None:
        seconds, task = sim.ticks * TICK_SECONDS, sim.task
        if isinstance(task, TrainTask):
            if seconds >= interval_seconds(task):
                sim.ticks = 0
                self._train(sim, task)
        elif isinstance(task, GenerateTask):
            self._generate(sim, task)
        elif isinstance(task, GradeTask):
            if seconds >= GRADE_SECONDS:
                self._graded(sim, task)
        else:
            super()._work(sim)

    def _generate(self, sim: SimJob, task: GenerateTask) -> None:
        """What the engine does until now; then it takes what was offered, and lingers or ends if there is nothing."""
        engine, now = self.engines[task.key], self.now.timestamp()
        if self.clocks[task.key] > now:
            return
        while sim.queue and self.clocks[task.key] < now:
            seconds, finished = engine.advance()
            self.clocks[task.key] += seconds
            for unit in finished:
                self._generated(sim, unit)
        if sim.queue:
            before = len(sim.queue)
            self._join(sim, task)
            self._take(sim, since=before)
            self._say(task, "working", sim=sim)
        else:
            self.clocks[task.key] = now
            self._linger(sim, task)
            self._take(sim)

    def _take(self, sim: SimJob, since: int = 0) -> None:
        for unit, number in sim.queue[since:]:
            self.engines[sim.task.key].take(unit, self._adapter(unit, number))

    def _room(self, sim: SimJob) -> int:
        """As the program says it: from its flags alone before the engine has started."""
        engine = self.engines[sim.task.key]
        if not self.joins:
            return 0
        return engine.room if engine.steps else engine.room_at_start

    def _generated(self, sim: SimJob, unit: UnitRef) -> None:
        contents = {m.content: m.created for u in self.units.values() for m in u.markers.values()}
        number = dict(sim.queue)[unit]
        adapter = self._adapter(unit, number)
        if adapter is not None:
            self.committed[unit] = contents[adapter].timestamp()
        self._commit(unit, number, store_keys.OUTPUTS, StateRecord(step=0, samples=0))
        sim.queue.remove((unit, number))

    def _graded(self, sim: SimJob, task: GradeTask) -> None:
        outputs = {member.unit: member.outputs for member in task.members}
        for unit, number in sim.queue:
            self._commit(unit, number, store_keys.GRADES, StateRecord(step=0, samples=0))
            if outputs[unit] in self.committed:
                self.waits.append(self.now.timestamp() - self.committed[outputs[unit]])
        sim.queue = []
        self._end(sim, 0)


@dataclass(frozen=True)
class Way:
    """`joins`: running engines take what comes. `lingers`: for one start time."""

    name: str
    group_members: int = 64
    joins: bool = True
    batch_window_seconds: float = 0.0
    lingers: bool = False


WAYS = (
    Way("an engine per checkpoint", 2, joins=False),
    Way("without joining", joins=False),
    Way("group commit"),
    Way("group commit, gathers 120 s", batch_window_seconds=120.0),
    Way("group commit, lingers", lingers=True),
)


@dataclass(frozen=True)
class Outcome:
    starts: int
    gpu_seconds: float
    """Of pods that generate, from their beginning to their end."""
    waits: Sequence[float]


def simulate(way: Way, arrivals: Arrivals, start_seconds: float, measured: Measured) -> Outcome:
    limits = Limits(
        evaluation_slots=SLOTS,
        group_members=way.group_members,
        batch_window_seconds=way.batch_window_seconds,
        idle_timeout_seconds=start_seconds if way.lingers else 0.0,
    )
    frozen = experiment_16_02(limits)
    units = [train_unit(run) for run in frozen.runs]
    offsets = {unit: number * OFFSET_SECONDS[arrivals] for number, unit in enumerate(units)}
    world = Costed(start_seconds, measured, offsets, joins=way.joins)
    if arrivals == "backlog":
        commit_all_checkpoints(world, frozen)
    controller = Controller(frozen)
    for _ in range(ROUNDS):
        decision = controller.look(world)
        if decision.status.finished == "Succeeded":
            return Outcome(world.engine_starts, world.busy_ticks["generate"] * TICK_SECONDS, world.waits)
        for _ in controller.act(world, decision.actions):
            pass
        world.tick()
    raise RuntimeError(f"not finished: {controller.status}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--start", required=True, help="the line of a start")
    parser.add_argument("--groups", nargs="+", required=True, help="lines of groups")
    parser.add_argument("--limit", type=int, default=2048, help="of an output, tokens")
    parser.add_argument(
        "--completed", type=float, help="share that ends before its limit, computed where another was measured"
    )
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.results.read_text().splitlines()]
    start = next(x for x in lines if x["name"] == options.start and x["measured"] == "start")
    start_seconds = start.get("program_seconds", start["seconds"])
    measured = Measured.read(lines, options.groups, options.limit, options.completed)
    groups = " ".join(options.groups)
    if options.completed is not None:
        groups += f" computed for {options.completed:.0%} completed"
    print(
        f"start {start_seconds:.0f} s ({options.start}), groups {groups}, limit {options.limit}; "
        "waits in seconds, from checkpoint to grades"
    )
    print(f"{'arrivals':13} {'way':27} starts {'GPU-s':>7} of first {'wait mean':>9} {'max':>6}")
    for arrivals in get_args(Arrivals):
        first: float | None = None
        for way in WAYS:
            found = simulate(way, arrivals, start_seconds, measured)
            first = first or found.gpu_seconds
            costs = f"{found.starts:6} {found.gpu_seconds:7,.0f} {found.gpu_seconds / first:8.2f}"
            waits = f"{sum(found.waits) / len(found.waits):9,.0f} {max(found.waits):6,.0f}"
            print(f"{arrivals:13} {way.name:27} {costs} {waits}", flush=True)


if __name__ == "__main__":
    main()
