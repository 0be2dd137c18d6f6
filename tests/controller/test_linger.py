"""An idle engine gets new evaluations as stored tasks: none is lost between offer and exit."""

from controller.planner.actions import OfferTask, Start, WriteTask
from controller.planner.engine_admission import LINGERING
from controller.snapshot.types import Attempt
from tests.controller.experiments import experiment, external
from tests.controller.simulate import Controller, simulate
from tests.controller.world import SimJob, Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.tasks import GenerateTask


def until_an_engine_lingers(world: World, controller: Controller) -> None:
    while not any(progress.phase == LINGERING for unit in world.units.values() for progress in unit.progress.values()):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()


def lingering_engine() -> tuple[World, Controller, FrozenExperiment]:
    """The base is done, its engine is idle, and two checkpoints are published at that moment."""
    frozen = experiment(
        (external("mine", (50, 100), published=True),),
        ("sums",),
        limits=Limits(idle_timeout_seconds=1000, evaluation_slots=1),
    )
    world = World(Weather(), seed=0)
    controller = Controller(frozen)
    until_an_engine_lingers(world, controller)
    world.publish(train_unit(frozen.runs[0]), 50)
    world.publish(train_unit(frozen.runs[0]), 100)
    return world, controller, frozen


def engine(world: World) -> SimJob:
    return next(sim for sim in world.jobs.values() if sim.task.type == "generate" and sim.job.phase == "running")


def test_it_takes_what_became_ready_and_no_engine_is_started() -> None:
    world, controller, frozen = lingering_engine()
    offers = [action for action in controller.look(world).actions if isinstance(action, OfferTask)]
    assert [len(offer.task.members) for offer in offers] == [2]
    assert [offer.host.key for offer in offers] == [engine(world).task.key]
    assert simulate(world, frozen).finished == "Succeeded"
    assert world.engine_starts == 1


def test_a_crash_between_task_and_offer_is_made_good() -> None:
    world, controller, frozen = lingering_engine()
    host = engine(world).task.key
    write = next(a for a in controller.look(world).actions if isinstance(a, WriteTask) and a.task.type == "generate")
    for _ in controller.act(world, [write]):
        pass
    again = [a for a in controller.look(world).actions if isinstance(a, OfferTask)]
    assert [(offer.task, offer.host.key) for offer in again] == [(write.task, host)]
    assert simulate(world, frozen).finished == "Succeeded"


def test_an_engine_that_closed_its_log_first_leaves_the_task_to_a_separate_one() -> None:
    world, controller, frozen = lingering_engine()
    actions = [a for a in controller.look(world).actions if not isinstance(a, OfferTask)]
    offer = next(a for a in controller.look(world).actions if isinstance(a, OfferTask))
    for _ in controller.act(world, actions):
        pass
    sim = engine(world)
    world.units[sim.task.unit].offers[sim.task.number] = [None]
    assert not world.act(offer, offer.task.owner)
    assert not [a for a in controller.look(world).actions if isinstance(a, Start)]
    world._end(sim, 0)
    starts = [a for a in controller.look(world).actions if isinstance(a, Start)]
    assert [start.task for start in starts] == [offer.task]
    assert simulate(world, frozen).finished == "Succeeded"
    assert world.engine_starts == 2


def test_an_engine_that_dies_with_an_offer_gives_it_back_uncharged() -> None:
    world, controller, frozen = lingering_engine()
    for _ in controller.act(world, controller.look(world).actions):
        pass
    sim = engine(world)
    world._end(sim, 143, preempted=True)
    assert simulate(world, frozen).finished == "Succeeded"
    offered = [
        Attempt(task, unit.ends.get(number))
        for unit in world.units.values()
        for number, task in unit.tasks.items()
        if isinstance(task, GenerateTask) and task.host is not None
    ]
    ends = [attempt.end for attempt in offered if attempt.number == 1]
    assert [(end.outcome, end.counts_as_failure) for end in ends if end] == [("preempted", False)]
    assert set(world.completed.values()) == {1}
