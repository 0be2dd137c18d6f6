"""Runs `decide` in a World until experiments are finished, and checks its guarantees at every step."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.planner.actions import Action, Counts, Decision, Intent, Status
from controller.planner.planner import decide
from controller.planner.round import Round, owner_of
from controller.snapshot.types import JobsSnapshot, StoreSnapshot, members_of
from tests.controller.experiments import START
from tests.controller.world import World
from workloads.api.experiment import FrozenExperiment
from workloads.api.tasks import GenerateTask


def a_round(
    frozen: FrozenExperiment, store: StoreSnapshot, jobs: JobsSnapshot | None = None, now: datetime = START
) -> Round:
    """Returns a round, to call a planner function alone."""
    return Round(frozen, store, jobs or JobsSnapshot({}), now)


@dataclass
class Controller:
    """One controller of one experiment. It stores only the counts of its last status."""

    frozen: FrozenExperiment
    intent: Intent = "run"
    status: Status | None = None
    actions: Counter[str] = field(default_factory=Counter)

    def look(self, world: World) -> Decision:
        owner = owner_of(self.frozen)
        recorded = self.status.counts if self.status else Counts()
        decision = decide(self.frozen, world.store_view(owner), world.executor_view(), world.now, self.intent, recorded)
        self.status = decision.status
        return decision

    def act(self, world: World, actions: Sequence[Action]) -> Iterator[None]:
        """Performs one action at a time; ends early if another writer was first."""
        for action in actions:
            self.actions[type(action).__name__] += 1
            if not world.act(action, owner_of(self.frozen)):
                return
            yield


def simulate(
    world: World,
    frozen: FrozenExperiment,
    *,
    actions_before_crash: int | None = None,
    seed: int = 0,
    rounds: int = 5000,
) -> Status:
    """`actions_before_crash` n: the controller dies after n actions of every round; None: it never dies.

    After each round the world advances with a probability of one half, so that crashes happen in all states of jobs.
    """
    chance = random.Random(seed)
    controller = Controller(frozen)
    for _ in range(rounds):
        decision = controller.look(world)
        if decision.status.finished is not None:
            assert not decision.actions
            return decision.status
        for _ in controller.act(world, decision.actions[:actions_before_crash]):
            check(world, frozen)
        if not decision.actions or chance.random() < 0.5:
            world.tick()
            check(world, frozen)
    raise AssertionError(f"not finished after {rounds} rounds: {controller.status}")


def simulate_together(world: World, controllers: Sequence[Controller], *, seed: int = 0, rounds: int = 5000) -> None:
    """Several controllers at once: each decides on the state before the others acted, and their actions are
    interleaved.
    """
    chance = random.Random(seed)
    for _ in range(rounds):
        working = []
        for controller in controllers:
            decision = controller.look(world)
            if chance.random() < 0.8:
                working.append(controller.act(world, decision.actions))
        while working:
            one = chance.choice(working)
            if next(one, "over") == "over":
                working.remove(one)
            for controller in controllers:
                check(world, controller.frozen, controllers=len(controllers))
            if chance.random() < 0.1:
                world.tick()
        world.tick()
        if all(controller.status is not None and controller.status.finished for controller in controllers):
            return
    raise AssertionError(f"not finished after {rounds} rounds: {[c.status for c in controllers]}")


def check(world: World, frozen: FrozenExperiment, controllers: int = 1) -> None:
    """Slots (of each controller), one worker per unit, bounded attempts."""
    limits, owner = frozen.limits, owner_of(frozen)
    live = [sim for sim in world.jobs.values() if sim.job.phase != "ended"]
    by_type = Counter(sim.task.type for sim in live if sim.task.owner == owner)
    assert by_type["train"] <= limits.training_slots * controllers
    assert by_type["generate"] <= limits.evaluation_slots * controllers
    assert by_type["grade"] <= limits.grading_slots * controllers
    at_work = Counter(unit for sim in live for unit, _ in sim.queue)
    assert all(count == 1 for count in at_work.values()), f"two jobs at one unit: {at_work}"
    for sim in live:
        assert len(sim.queue) <= limits.group_members or sim.task.owner != owner, f"{sim.job.key} took {sim.queue}"
    for ref, unit in world.units.items():
        moved = {marker.attempt for marker in unit.markers.values()}
        numbers = [n for n, task in unit.tasks.items() if task.owner == owner and n > unit.retried_through]
        ends = [unit.ends[number] for number in numbers if number in unit.ends]
        in_a_row, uncharged = 0, Counter[str]()
        for end in ends:
            if end.number in moved:
                in_a_row, uncharged = 0, Counter[str]()
            in_a_row += end.counts_as_failure
            uncharged[end.outcome] += not end.counts_as_failure
            assert in_a_row <= limits.attempts, f"{ref}: {in_a_row} charged attempts that left nothing"
        for outcome, count in uncharged.items():
            assert count <= limits.preemptions + 1 or outcome in {"suspended", "succeeded"}, f"{ref}: {count} {outcome}"


def generate_tasks(world: World) -> list[GenerateTask]:
    """All generate tasks ever written, in order."""
    tasks = [task for unit in world.units.values() for task in unit.tasks.values() if isinstance(task, GenerateTask)]
    return sorted(tasks, key=lambda task: task.created)


def group_sizes(world: World) -> list[int]:
    return [len(members_of(task)) for task in generate_tasks(world)]
