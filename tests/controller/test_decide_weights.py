"""A base that must be downloaded to a volume: when it is downloaded, which units wait, and which fail without it."""

from controller.planner.actions import FetchWeights, Start
from controller.snapshot.types import Weights
from tests.controller.experiments import experiment, run
from tests.controller.simulate import Controller, simulate
from tests.controller.world import Weather, World

FROZEN = experiment((run("a", (50, 100)),), ("math-500",))


def world_with(weights: Weights) -> World:
    world = World(Weather(), seed=0)
    world.weights = weights
    return world


def one_round(world: World, controller: Controller) -> list[str]:
    actions = controller.look(world).actions
    for _ in controller.act(world, actions):
        pass
    return [type(action).__name__ for action in actions]


def test_the_weights_are_asked_for_once_and_nothing_starts_before_they_are_there() -> None:
    world, controller = world_with(Weights("absent")), Controller(FROZEN)
    assert one_round(world, controller) == [FetchWeights.__name__]
    assert one_round(world, controller) == []
    assert controller.status is not None
    assert [line.message for line in controller.status.runs] == ["waits for the base's weights: Job fetch"]
    assert {line.reason for line in controller.status.evaluations if line.model == "base"} == {"WeightsArriving"}
    world.weights = Weights("ready")
    assert Start.__name__ in one_round(world, controller)


def test_weights_that_cannot_be_had_end_what_needs_them() -> None:
    status = simulate(world_with(Weights("failed", "Job fetch failed: s3://lab/base holds other weights")), FROZEN)
    assert status.finished == "Failed"
    assert [line.message for line in status.runs] == [
        "the base's weights: Job fetch failed: s3://lab/base holds other weights"
    ]
    assert {line.state for line in status.evaluations} == {"failed"}


def test_running_tasks_continue_when_the_weights_are_no_longer_available() -> None:
    world, controller = world_with(Weights("ready")), Controller(FROZEN)
    one_round(world, controller)
    world.weights = Weights("failed", "the volume is full")
    one_round(world, controller)
    assert controller.status is not None
    assert [line.state for line in controller.status.runs] == ["running"]


def test_for_results_that_are_all_there_nothing_is_fetched() -> None:
    world = World(Weather(), seed=0)
    simulate(world, FROZEN)
    world.weights = Weights("absent")
    again = Controller(FROZEN)
    assert one_round(world, again) == []
    assert again.status is not None
    assert again.status.finished == "Succeeded"


def test_a_suspended_experiment_fetches_nothing() -> None:
    assert one_round(world_with(Weights("absent")), Controller(FROZEN, intent="suspend")) == []
