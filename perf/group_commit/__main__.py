"""16/02's evaluations by decide, simulated: engine starts, GPU-seconds and waits, with and without group commit.

    python -m perf.group_commit perf/results/evaluate-h200/evaluate.jsonl --start rows-512 --groups together

Which evaluations meet in one engine is decided by the code that decides in a cluster; how long it takes is computed
from measured lines of the file: an engine's start, and groups of adapters, an evaluation being 100 requests (a larger
group than was measured takes as much longer as perf.evaluate.batches computes). Assumed: a pod runs 10 s after it was
wanted, a grading takes 30 s, and a checkpoint of a 4K run comes every 1,000 s, of a 2K run every 250 s (15M and 3.75M
tokens at 15K tokens/s). Arrivals: all there at the beginning; four runs that begin at once; the same, each run 97 s
after the one before, so that seldom two checkpoints come together.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from controller.decide.starts import LINGERING
from perf.evaluate.costs import Measured
from tests.controller.experiments import experiment_16_02
from tests.controller.simulate import Controller
from tests.controller.world import SimJob, Weather, World, commit_all_checkpoints
from workloads.contract import layout
from workloads.contract.experiment import Limits
from workloads.contract.records import StateRecord
from workloads.contract.tasks import GenerateTask, GradeTask, TrainTask
from workloads.contract.units import UnitRef
from workloads.contract.wanted import train_unit

TICK_SECONDS = 5.0
POD_SECONDS = 10.0
GRADE_SECONDS = 30.0
OFFSET_SECONDS = 97.0
REQUESTS = 100
"""Of an evaluation."""
SLOTS = 2
ROUNDS = 20_000
Arrivals = Literal["backlog", "together", "apart"]


def interval_seconds(task: TrainTask) -> float:
    return 1000.0 if len(task.inputs.checkpoints) == 5 else 250.0


class Costed(World):
    """A world in which things take as long as was measured. `offsets`: seconds until each run of a name begins."""

    def __init__(self, start_seconds: float, measured: Measured, offsets: dict[UnitRef, float]) -> None:
        super().__init__(Weather(tick_seconds=TICK_SECONDS), seed=16)
        self.start_seconds = start_seconds
        self.measured = measured
        self.offsets = offsets
        self.committed: dict[UnitRef, float] = {}
        """Of each evaluation whose outputs are there: when its checkpoint was."""
        self.waits: list[float] = []
        """From a checkpoint to the grades of each of its evaluations, seconds."""

    def _begin(self, sim: SimJob) -> None:
        seconds = POD_SECONDS + (self.start_seconds if isinstance(sim.task, GenerateTask) else 0.0)
        if isinstance(sim.task, TrainTask):
            seconds += self.offsets.get(sim.task.unit, 0.0)
        if sim.ticks * TICK_SECONDS >= seconds:
            super()._begin(sim)

    def _work(self, sim: SimJob) -> None:
        seconds, task = sim.ticks * TICK_SECONDS, sim.task
        if isinstance(task, TrainTask):
            if seconds >= interval_seconds(task):
                sim.ticks = 0
                self._train(sim, task)
        elif isinstance(task, GenerateTask) and sim.queue:
            adapters = {self._adapter(unit, number) for unit, number in sim.queue} - {None}
            if seconds >= self.measured.of_group(REQUESTS * len(sim.queue), len(adapters)):
                sim.ticks = 0
                self._generated(sim)
            else:
                self._say(task, "working")
        elif isinstance(task, GradeTask):
            if seconds >= GRADE_SECONDS:
                self._graded(sim, task)
        else:
            super()._work(sim)

    def _generated(self, sim: SimJob) -> None:
        contents = {m.content: m.created for u in self.units.values() for m in u.markers.values()}
        for unit, number in sim.queue:
            adapter = self._adapter(unit, number)
            if adapter is not None:
                self.committed[unit] = contents[adapter].timestamp()
            self._commit(unit, number, layout.OUTPUTS, StateRecord(step=0, samples=0))
        sim.queue = []
        if isinstance(sim.task, GenerateTask) and sim.task.linger_seconds:
            self._say(sim.task, LINGERING)

    def _graded(self, sim: SimJob, task: GradeTask) -> None:
        outputs = {member.unit: member.outputs for member in task.members}
        for unit, number in sim.queue:
            self._commit(unit, number, layout.GRADES, StateRecord(step=0, samples=0))
            if outputs[unit] in self.committed:
                self.waits.append(self.now.timestamp() - self.committed[outputs[unit]])
        sim.queue = []
        self._end(sim, 0)


@dataclass(frozen=True)
class Way:
    """`lingers`: for one start time."""

    name: str
    group_members: int = 64
    gather_seconds: float = 0.0
    lingers: bool = False


WAYS = (
    Way("an engine per checkpoint", 2),
    Way("group commit"),
    Way("group commit, gathers 60 s", gather_seconds=60.0),
    Way("group commit, gathers 120 s", gather_seconds=120.0),
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
        gather_seconds=way.gather_seconds,
        linger_seconds=start_seconds if way.lingers else 0.0,
    )
    frozen = experiment_16_02(limits)
    units = [train_unit(run) for run in frozen.runs]
    apart = {unit: number * OFFSET_SECONDS for number, unit in enumerate(units)}
    world = Costed(start_seconds, measured, apart if arrivals == "apart" else {})
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
    print(f"{'arrivals':9} {'way':27} starts {'GPU-s':>7} of first {'wait mean':>9} {'max':>6}")
    for arrivals in get_args(Arrivals):
        first: float | None = None
        for way in WAYS:
            found = simulate(way, arrivals, start_seconds, measured)
            first = first or found.gpu_seconds
            costs = f"{found.starts:6} {found.gpu_seconds:7,.0f} {found.gpu_seconds / first:8.2f}"
            waits = f"{sum(found.waits) / len(found.waits):9,.0f} {max(found.waits):6,.0f}"
            print(f"{arrivals:9} {way.name:27} {costs} {waits}", flush=True)


if __name__ == "__main__":
    main()
