"""With batch_window_seconds evaluations wait for others before an engine starts for them, but no longer than that."""

from collections.abc import Sequence
from datetime import timedelta

from controller.planner.actions import Action, OfferTask, Start, Status
from tests.controller.experiments import START, experiment, external
from tests.controller.simulate import Controller, group_sizes, simulate
from tests.controller.test_linger import until_an_engine_lingers
from tests.controller.world import Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits

GATHER = Limits(batch_window_seconds=120)


def published(limits: Limits = GATHER, *, base_full: bool = False) -> FrozenExperiment:
    """The base, and two checkpoints that another trainer publishes at any time: three evaluations."""
    return experiment((external("mine", (50, 100), published=True),), ("sums",), limits=limits, base_full=base_full)


def engines(actions: Sequence[Action]) -> list[int]:
    """The number of members of each engine that is started."""
    return [len(a.task.members) for a in actions if isinstance(a, Start) and a.task.type == "generate"]


def wait(world: World, controller: Controller, seconds: float) -> Status:
    """Runs rounds until `seconds` after the beginning; returns the last status.

    No engine may start before the end.
    """
    while True:
        decision = controller.look(world)
        late = world.now >= START + timedelta(seconds=seconds)
        assert late or not engines(decision.actions)
        if late:
            return decision.status
        for _ in controller.act(world, decision.actions):
            pass
        world.tick()


def reasons(status: Status) -> set[tuple[str, str]]:
    return {(line.reason, line.message) for line in status.evaluations if line.state == "waiting"}


def test_they_start_together_when_the_first_has_waited_so_long() -> None:
    frozen, world = published(), World(Weather(tick_seconds=10), seed=0)
    controller = Controller(frozen)
    assert ("Gathering", "waits up to 80 s for others to share its engine") in reasons(wait(world, controller, 40))
    world.publish(train_unit(frozen.runs[0]), 50)
    assert {reason for reason, _ in reasons(wait(world, controller, 110))} == {"Gathering", "NotPublished"}
    wait(world, controller, 120)
    assert engines(controller.look(world).actions) == [2]
    world.publish(train_unit(frozen.runs[0]), 100)
    assert simulate(world, frozen).finished == "Succeeded"
    assert sum(group_sizes(world)) == 3


def test_nothing_waits_where_no_checkpoint_is_to_come() -> None:
    frozen, world = published(), World(Weather(tick_seconds=10), seed=0)
    controller = Controller(frozen)
    wait(world, controller, 40)
    for samples in (50, 100):
        world.publish(train_unit(frozen.runs[0]), samples)
    assert engines(controller.look(world).actions) == [3]


def test_an_engine_that_lingers_is_offered_them_at_once() -> None:
    frozen, world = published(GATHER.model_copy(update={"idle_timeout_seconds": 1000})), World(Weather(), seed=0)
    controller = Controller(frozen)
    until_an_engine_lingers(world, controller)
    world.publish(train_unit(frozen.runs[0]), 50)
    offers = [action for action in controller.look(world).actions if isinstance(action, OfferTask)]
    assert [len(offer.task.members) for offer in offers] == [1]


def test_a_full_group_starts_at_once() -> None:
    frozen, world = published(GATHER.model_copy(update={"group_members": 1})), World(Weather(), seed=0)
    assert engines(Controller(frozen).look(world).actions) == [1]


def test_without_it_nothing_waits() -> None:
    assert engines(Controller(published(Limits())).look(World(Weather(), seed=0)).actions) == [1]
