"""16/02's evaluations by decide, simulated: engine starts, GPU-seconds and waits, with and without group commit.

    python -m perf.group_commit [seconds of an engine start, 145]

Costs are parts measured on one H200 (vLLM 0.26, Qwen3-30B-A3B shapes, attention LoRA rank 32): an engine start 145 s;
100 requests of 2,048 tokens with one adapter 52 s, with five adapters in one batch 116 s for 500, so 36 + 16 k seconds
for k evaluations, twice that at 4,096 tokens. Assumed: a checkpoint of a 4K run every 1,000 s and of a 2K run every
250 s (15M and 3.75M tokens at 15K tokens/s, four runs at once), grading 30 s. What this prints is computed from these,
not measured; which evaluations meet in one engine is decided by the code that decides in a cluster.
"""

import sys
from dataclasses import dataclass
from itertools import product

from controller.decide.starts import LINGERING
from tests.controller.experiments import experiment_16_02
from tests.controller.simulate import Controller
from tests.controller.world import SimJob, Weather, World
from workloads.contract import layout
from workloads.contract.experiment import FrozenExperiment, Limits
from workloads.contract.records import CheckpointRecord, StateRecord
from workloads.contract.tasks import GenerateTask, GradeTask, TrainTask
from workloads.contract.wanted import train_unit

TICK_SECONDS = 5.0
START_SECONDS = 145.0
GRADE_SECONDS = 30.0
ROUNDS = 20_000


def batch_seconds(evaluations: int) -> float:
    """At 4,096 tokens, to which all of 16/02's outputs are generated."""
    return 2 * (36.0 + 16.0 * evaluations)


def interval_seconds(task: TrainTask) -> float:
    return 1000.0 if len(task.inputs.checkpoints) == 5 else 250.0


class Costed(World):
    """A world in which things take as long as was measured."""

    def __init__(self, start_seconds: float) -> None:
        super().__init__(Weather(tick_seconds=TICK_SECONDS), seed=16)
        self.start_seconds = start_seconds
        self.waits: list[float] = []

    def _begin(self, sim: SimJob) -> None:
        start_seconds = self.start_seconds if isinstance(sim.task, GenerateTask) else 0.0
        if sim.ticks * TICK_SECONDS >= start_seconds:
            super()._begin(sim)

    def _work(self, sim: SimJob) -> None:
        seconds, task = sim.ticks * TICK_SECONDS, sim.task
        if isinstance(task, TrainTask):
            if seconds >= interval_seconds(task):
                sim.ticks = 0
                self._train(sim, task)
        elif isinstance(task, GenerateTask) and sim.queue:
            if seconds >= batch_seconds(len(sim.queue)):
                sim.ticks = 0
                self._generated(sim)
        elif isinstance(task, GradeTask):
            if seconds >= GRADE_SECONDS:
                for unit, number in sim.queue:
                    self._commit(unit, number, layout.GRADES, StateRecord(step=0, samples=0))
                sim.queue = []
                self._end(sim, 0)
        else:
            super()._work(sim)

    def _generated(self, sim: SimJob) -> None:
        contents = {m.content: m.created for u in self.units.values() for m in u.markers.values()}
        for unit, number in sim.queue:
            adapter = self._adapter(unit, number)
            if adapter is not None:
                self.waits.append((self.now - contents[adapter]).total_seconds())
            self._commit(unit, number, layout.OUTPUTS, StateRecord(step=0, samples=0))
        sim.queue = []
        if isinstance(sim.task, GenerateTask) and sim.task.linger_seconds:
            self._say(sim.task, LINGERING)


@dataclass(frozen=True)
class Way:
    """`lingers`: for one start time."""

    name: str
    group_members: int
    lingers: bool = False


WAYS = (
    Way("an engine per checkpoint", 2),
    Way("group commit", 64),
    Way("group commit, lingers", 64, lingers=True),
)


def simulate(way: Way, slots: int, start_seconds: float, *, backlog: bool) -> tuple[int, float, list[float]]:
    """Engine starts, GPU-seconds of generate tasks, and the wait of each checkpoint's evaluation for its outputs."""
    linger_seconds = start_seconds if way.lingers else 0.0
    limits = Limits(evaluation_slots=slots, group_members=way.group_members, linger_seconds=linger_seconds)
    frozen = experiment_16_02(limits)
    world = Costed(start_seconds)
    if backlog:
        commit_all_checkpoints(world, frozen)
    controller = Controller(frozen)
    for _ in range(ROUNDS):
        decision = controller.look(world)
        if decision.status.finished == "Succeeded":
            return world.engine_starts, world.busy_ticks["generate"] * TICK_SECONDS, world.waits
        for _ in controller.act(world, decision.actions):
            pass
        world.tick()
    raise RuntimeError(f"not finished: {controller.status}")


def commit_all_checkpoints(world: World, frozen: FrozenExperiment) -> None:
    for run in frozen.runs:
        for samples in run.checkpoints:
            record = CheckpointRecord(samples=samples, step=samples // 50)
            world._commit(train_unit(run), 1, layout.checkpoint_marker(samples), record)
        world._commit(train_unit(run), 1, layout.DONE, StateRecord(step=0, samples=0))


def main(start_seconds: float) -> None:
    print(f"an engine starts in {start_seconds:.0f} s; waits in seconds, from checkpoint to outputs")
    print(f"{'arrivals':9} slots  {'way':26} starts {'GPU-s':>7} of first {'wait mean':>9} {'max':>6}")
    for backlog, slots in product((True, False), (1, 2)):
        first: float | None = None
        for way in WAYS:
            starts, gpu_seconds, waits = simulate(way, slots, start_seconds, backlog=backlog)
            first = first or gpu_seconds
            print(
                f"{'backlog' if backlog else 'live':9} {slots:5}  {way.name:26} {starts:6} {gpu_seconds:7,.0f} "
                f"{gpu_seconds / first:8.2f} {sum(waits) / len(waits):9,.0f} {max(waits):6,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else START_SECONDS)
