"""Slots of a shared pool: free slots are used, slots reserved for others stay free, and waiting tasks state the
reason.
"""

from datetime import timedelta

from controller.planner.actions import CloseTask, Decision, OfferTask, Start, WriteTask
from controller.planner.unit_state import STUCK_SECONDS
from controller.snapshot.types import Pool
from tests.controller.experiments import experiment, external, run
from tests.controller.simulate import Controller, simulate
from tests.controller.test_linger import engine, lingering_engine
from tests.controller.world import Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import Limits

FULL = "the namespace's limit of evaluation pods is 2"
SEPARATE = Limits(group_members=1, evaluation_slots=8)


def pool(slots: int, reserved_for_others: int = 0) -> Pool:
    return Pool(frozenset({"generate"}), slots, reserved_for_others, FULL)


def started(decision: Decision) -> list[str]:
    return [action.task.type for action in decision.actions if isinstance(action, Start)]


def told(decision: Decision) -> tuple[str, str]:
    condition = decision.status.condition("EvaluationsComplete")
    assert condition is not None
    return condition.reason, condition.message


def test_a_full_pool_holds_back_evaluations_alone_and_they_say_why() -> None:
    frozen = experiment((run("a", (50, 100)),), ("sums",))
    decision = Controller(frozen).look(World(Weather(), seed=0, pools=(pool(0),)))
    assert started(decision) == ["train"]
    assert decision.limited
    assert told(decision) == ("LimitReached", f"0 of 3 evaluations done, 0 failed; 1 ready: {FULL}")
    assert {line.message for line in decision.status.evaluations if line.model == "base"} == {FULL}


def test_slots_that_are_reserved_for_others_are_not_used() -> None:
    frozen = experiment((), ("sums", "more"), limits=SEPARATE)
    for slots, reserved_for_others, expected in ((3, 0, 3), (3, 1, 2), (3, 3, 0), (-1, 0, 0)):
        decision = Controller(frozen).look(World(Weather(), seed=0, pools=(pool(slots, reserved_for_others),)))
        assert started(decision) == ["generate"] * expected
        assert len(decision.generating or ()) == expected
        assert decision.limited


def test_while_some_are_running_the_reason_stays_and_the_message_names_the_others() -> None:
    frozen = experiment((), ("sums",), limits=SEPARATE)
    world, controller = World(Weather(), seed=0, pools=(pool(1),)), Controller(frozen)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    assert told(controller.look(world)) == ("InProgress", f"0 of 1 evaluation done, 0 failed; 1 ready: {FULL}")


def test_an_experiment_that_waits_for_its_own_limit_waits_for_no_other() -> None:
    frozen = experiment((), ("sums",), limits=Limits(group_members=1, evaluation_slots=1))
    world, controller = World(Weather(), seed=0, pools=(pool(1),)), Controller(frozen)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    decision = controller.look(world)
    assert not decision.limited
    assert told(decision) == ("InProgress", "0 of 1 evaluation done, 0 failed")


def test_checkpoints_that_wait_together_are_generated_together() -> None:
    frozen = experiment((external("mine", (50, 100), published=True),), ("sums",))
    world = World(Weather(), seed=0, pools=(pool(0),))
    controller = Controller(frozen)
    controller.look(world)
    world.publish(train_unit(frozen.runs[0]), 50)
    world.publish(train_unit(frozen.runs[0]), 100)
    assert started(controller.look(world)) == []
    world.pools = (pool(1),)
    [write] = [a for a in controller.look(world).actions if isinstance(a, WriteTask) and a.task.type == "generate"]
    assert write.task.type == "generate"
    assert len(write.task.members) == 4


def test_an_engine_is_offered_nothing_more_while_others_wait() -> None:
    world, controller, frozen = lingering_engine()
    world.pools = (pool(1, reserved_for_others=1),)
    decision = controller.look(world)
    assert not [action for action in decision.actions if isinstance(action, OfferTask | WriteTask)]
    assert decision.generating == frozenset({engine(world).task.key})
    world.pools = (pool(1),)
    assert [action for action in controller.look(world).actions if isinstance(action, OfferTask)]
    assert simulate(world, frozen).finished == "Succeeded"


def test_a_task_that_a_crash_left_unstarted_does_not_start_where_others_took_its_slot() -> None:
    frozen = experiment((), ("sums",))
    world, controller = World(Weather(), seed=0, pools=(pool(1),)), Controller(frozen)
    written = controller.look(world)
    for _ in controller.act(world, written.actions[:1]):
        pass
    world.pools = (pool(0),)
    decision = controller.look(world)
    assert started(decision) == []
    assert decision.generating == written.generating, "it may start yet"
    world.pools = (pool(1, reserved_for_others=1),)
    assert started(controller.look(world)) == ["generate"], "it has its slot, whatever else waits"
    world.pools = (pool(0),)
    for _ in range(30):
        world.tick()
    decision = controller.look(world)
    ends = [action.end for action in decision.actions if isinstance(action, CloseTask)]
    assert [(end.outcome, end.counts_as_failure) for end in ends] == [("lost", False)]
    assert decision.generating == frozenset()


def test_a_slot_is_held_until_the_job_has_stopped() -> None:
    frozen = experiment((), ("sums",))
    world, controller = World(Weather(work_ticks=10**9), seed=0, pools=(pool(1),)), Controller(frozen)
    for _ in range(3):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()
    controller.intent = "suspend"
    held = controller.look(world)
    for _ in controller.act(world, held.actions):
        pass
    assert controller.look(world).generating == held.generating != frozenset()
    world.tick()
    assert controller.look(world).generating == frozenset()
    assert not controller.look(world).limited


def test_a_pod_that_never_stops_gives_its_slot_back_after_a_while() -> None:
    frozen = experiment((), ("sums",), limits=Limits(evaluation_slots=1, no_progress_seconds=100))
    world, controller = World(Weather(work_ticks=10**9), seed=0), Controller(frozen)
    for _ in range(3):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()
    world.now += timedelta(seconds=200)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    assert [sim.job.phase for sim in world.jobs.values()] == ["stopping"]
    world.now += timedelta(seconds=STUCK_SECONDS - 1)
    assert started(controller.look(world)) == []
    world.now += timedelta(seconds=1)
    assert started(controller.look(world)) == ["generate"]
