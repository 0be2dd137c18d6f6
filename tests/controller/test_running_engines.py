"""A running engine takes new evaluations while it has capacity: fewer starts, and a failure counts only for its
cause.

A generate task is a group of evaluations, its members; the first one is the lead. It starts a Job with one engine. A later
task can be offered to this engine instead of a new Job: the engine's own task is then its host (the variable `host` is
the host's Job), and it is a guest. If the engine crashes, all its unfinished evaluations are suspects, because any of them
may be the cause. An engine lingers while it is idle and waits for offers. A suspect is offered only to an idle engine, which
takes nothing else meanwhile. The simulation's `Weather` has the faults, the durations and, in `rows`, the number of evaluations
that an engine has room for. `mine@50` is the checkpoint of the run `mine` at 50 samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.planner.actions import Action, CloseTask, OfferTask, Start, WriteTask
from controller.planner.completion_checks import START_GRACE_SECONDS
from tests.controller.experiments import experiment, external
from tests.controller.simulate import Controller, group_sizes, simulate
from tests.controller.test_decide_pools import pool
from tests.controller.test_linger import engine, until_an_engine_lingers
from tests.controller.world import SimJob, Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.records import ExitCode, Failure, TaskEnd
from workloads.api.tasks import GenerateMember, GenerateTask
from workloads.api.units import UnitRef

CHECKPOINTS = (50, 100, 150)


def published(limits: Limits, benchmarks: tuple[str, ...] = ("sums",)) -> FrozenExperiment:
    """An experiment with one run, whose checkpoints a test publishes.

    For each benchmark the base has a member for each of the parts fast and rest, and a checkpoint has one for fast.
    These tests call each of them an evaluation.
    """
    return experiment((external("mine", CHECKPOINTS, published=True),), benchmarks, limits=limits)


def act(world: World, controller: Controller) -> None:
    """One round: the controller decides and performs all its actions."""
    for _ in controller.act(world, controller.look(world).actions):
        pass


def round_and_tick(world: World, controller: Controller) -> None:
    act(world, controller)
    world.tick()


def at_work(limits: Limits, weather: Weather | None = None) -> tuple[World, Controller, SimJob]:
    """Starts an engine with the base's two evaluations and waits until it has finished one."""
    world, controller = World(weather or Weather(), seed=0), Controller(published(limits))
    while len(world.completed) < 1:
        round_and_tick(world, controller)
    host = engine(world)
    assert len(host.queue) == 1
    return world, controller, host


def publish(world: World, controller: Controller, *samples: int) -> None:
    for count in samples:
        world.publish(train_unit(controller.frozen.runs[0]), count)


def offers_and_starts(world: World, controller: Controller) -> tuple[list[OfferTask], list[Start]]:
    """Returns the offers and the starts of new engines that the controller decides on, without performing them."""
    actions = controller.look(world).actions
    offers = [action for action in actions if isinstance(action, OfferTask)]
    return offers, [action for action in actions if isinstance(action, Start) and action.task.type == "generate"]


def generate_task_writes(actions: Sequence[Action]) -> list[WriteTask]:
    return [action for action in actions if isinstance(action, WriteTask) and action.task.type == "generate"]


def member_counts(actions: Sequence[OfferTask | Start]) -> list[int]:
    return [len(action.task.members) for action in actions if isinstance(action.task, GenerateTask)]


def test_an_engine_with_room_takes_new_evaluations_though_another_one_could_start() -> None:
    world, controller, host = at_work(Limits(evaluation_slots=2))
    publish(world, controller, *CHECKPOINTS)
    offers, starts = offers_and_starts(world, controller)
    assert (member_counts(offers), starts) == ([3], [])
    assert offers[0].host.key == host.task.key
    assert simulate(world, controller.frozen).finished == "Succeeded"
    assert world.engine_starts == 1


def test_a_task_larger_than_the_room_of_the_engine_starts_a_new_engine_if_a_slot_is_free() -> None:
    world, controller, _ = at_work(Limits(evaluation_slots=2), Weather(rows=2))
    publish(world, controller, 50, 100)
    offers, starts = offers_and_starts(world, controller)
    assert (offers, member_counts(starts)) == ([], [2])


def test_without_a_free_slot_it_takes_as_many_as_it_has_room_for_and_the_rest_waits() -> None:
    world, controller, host = at_work(Limits(evaluation_slots=2), Weather(rows=3))
    world.pools = (pool(1),)
    publish(world, controller, *CHECKPOINTS)
    offers, starts = offers_and_starts(world, controller)
    assert (member_counts(offers), starts) == ([2], [])
    assert sum(line.reason == "LimitReached" for line in controller.look(world).status.evaluations) == 1
    round_and_tick(world, controller)
    assert len(host.queue) <= 3
    assert simulate(world, controller.frozen).finished == "Succeeded"
    assert world.engine_starts == 1


def test_offers_that_an_engine_has_not_taken_yet_use_its_room() -> None:
    world, controller, _ = at_work(Limits(evaluation_slots=2), Weather(rows=3))
    publish(world, controller, 50)
    act(world, controller)
    publish(world, controller, 100)
    offers, starts = offers_and_starts(world, controller)
    assert (member_counts(offers), [offer.sequence for offer in offers], starts) == ([1], [2], [])
    act(world, controller)
    publish(world, controller, 150)
    offers, starts = offers_and_starts(world, controller)
    assert (offers, len(starts)) == ([], 1)
    assert simulate(world, controller.frozen).finished == "Succeeded"
    assert world.engine_starts == 2


def test_an_engine_that_is_starting_takes_new_evaluations_too() -> None:
    world, controller = World(Weather(rows=4, engine_ticks=4), seed=0), Controller(published(Limits()))
    while not any(sim.job.phase == "running" for sim in world.jobs.values()):
        round_and_tick(world, controller)
    publish(world, controller, 50, 100)
    assert member_counts(offers_and_starts(world, controller)[0]) == [2]
    publish(world, controller, 150)
    assert simulate(world, controller.frozen).finished == "Succeeded"


@pytest.mark.parametrize(("group_members", "taken"), [(2, [1]), (3, [2])])
def test_an_engine_has_no_more_evaluations_at_a_time_than_a_group_may(group_members: int, taken: list[int]) -> None:
    world, controller, _ = at_work(Limits(evaluation_slots=1, group_members=group_members), Weather(rows=8))
    publish(world, controller, *CHECKPOINTS)
    assert member_counts(offers_and_starts(world, controller)[0]) == taken


def test_an_engine_takes_nothing_more_while_another_experiment_waits_for_its_slot() -> None:
    world, controller, _ = at_work(Limits(evaluation_slots=2))
    world.pools = (pool(1, reserved_for_others=1),)
    publish(world, controller, 50)
    assert offers_and_starts(world, controller) == ([], [])


def test_when_an_engine_crashes_no_task_uses_up_an_attempt_and_the_suspects_run_in_smaller_groups() -> None:
    world, controller, host = at_work(Limits(attempts=1), Weather(rows=8))
    publish(world, controller, *CHECKPOINTS)
    act(world, controller)
    world._end(host, 137)
    assert simulate(world, controller.frozen).finished == "Succeeded"
    ends = [end for unit in world.units.values() for end in unit.ends.values() if end.outcome == "failed"]
    assert {(end.suspects, end.counts_as_failure) for end in ends} == {(4, False)}
    assert sorted(group_sizes(world)) == [2, 2, 2, 3]


def test_only_the_adapter_that_kills_its_engines_fails_and_no_suspect_joins_an_engine_that_has_work() -> None:
    world, controller, _ = at_work(Limits(attempts=2), Weather(rows=8))
    publish(world, controller, 50)
    poison = next(m.content for unit in world.units.values() for name, m in unit.markers.items() if "50" in name)
    world.weather = replace(world.weather, poison=frozenset({poison}))
    round_and_tick(world, controller)
    publish(world, controller, 100, 150)
    status = simulate(world, controller.frozen)
    assert status.finished == "PartiallyFailed"
    assert [line.model for line in status.evaluations if line.state == "failed"] == ["mine@50"]
    charged = [end for unit in world.units.values() for end in unit.ends.values() if end.counts_as_failure]
    assert [end.suspects for end in charged] == [1, 1]
    tasks = [task for unit in world.units.values() for task in unit.tasks.values() if task.type == "generate"]
    again = [task for task in tasks if task.number > 1 and task.members[0].inputs.model.adapter == poison]
    assert all(task.host is None and not task.takes_offers for task in again)
    assert len(again) == 2


def task_ends(world: World) -> list[TaskEnd]:
    return [end for unit in world.units.values() for end in unit.ends.values()]


def test_evaluations_of_one_model_are_offered_together_up_to_the_size_of_a_group() -> None:
    """The engine has two evaluations of the base left and room for one more; the checkpoint has three evaluations. The
    second and third are offered too, because they are of the same model; the engine then has at most `group_members`.
    """
    for group_members, offered in ((8, 3), (4, 2), (3, 1)):
        limits = Limits(evaluation_slots=1, group_members=group_members)
        world, controller = World(Weather(rows=3), seed=0), Controller(published(limits, ("sums", "codes", "words")))
        while not world.completed or len(engine(world).queue) != 2:
            round_and_tick(world, controller)
        publish(world, controller, 50)
        offers, _ = offers_and_starts(world, controller)
        assert member_counts(offers) == [offered]


def test_a_task_that_was_written_but_not_offered_is_offered_before_another_one() -> None:
    world, controller, _ = at_work(Limits(evaluation_slots=2), Weather(rows=3))
    publish(world, controller, 50)
    [written] = generate_task_writes(controller.look(world).actions)
    world.act(written, written.task.owner)  # the controller is killed before it offers the task
    publish(world, controller, 100)
    offers, starts = offers_and_starts(world, controller)
    assert ([offer.task.key for offer in offers], starts) == ([written.task.key], [])


def test_an_engine_that_is_closed_in_this_round_is_offered_nothing() -> None:
    world, controller, host = at_work(Limits(evaluation_slots=2))
    world.now += timedelta(seconds=controller.frozen.limits.no_progress_seconds + 10)
    publish(world, controller, 50)
    actions = controller.look(world).actions
    assert [action.unit for action in actions if isinstance(action, CloseTask)] == [host.task.unit]
    assert offers_and_starts(world, controller)[0] == []


def test_a_guest_that_comes_after_the_end_of_the_engine_was_decided_is_not_charged_for_it() -> None:
    """The controller decides on an offer, and later decides to close the engine's task with one suspect. The offer is
    performed before the close, so a guest joins that the decision to close did not count.
    """
    world, controller, host = at_work(Limits(attempts=1))
    publish(world, controller, 50)
    offering = controller.look(world).actions
    world.now += timedelta(seconds=controller.frozen.limits.no_progress_seconds + 10)
    [close] = [action for action in controller.look(world).actions if isinstance(action, CloseTask)]
    assert close.end.suspects == 1
    for action in (*offering, close):
        world.act(action, host.task.owner)
    del world.jobs[host.task.key]
    publish(world, controller, 100, 150)
    assert [line.model for line in simulate(world, controller.frozen).evaluations if line.state == "failed"] == ["base"]
    assert sum(end.counts_as_failure for end in task_ends(world)) == 1


@pytest.mark.parametrize("how", ["vanished", "preempted", "preempted, exit code unknown", "crashed"])
def test_a_failure_of_the_lead_is_not_charged_to_the_others_when_the_engine_ends(how: str) -> None:
    world, controller = World(Weather(rows=8, engine_ticks=1), seed=0), Controller(published(Limits(attempts=1)))
    while not any(sim.task.type == "generate" and sim.job.phase == "running" for sim in world.jobs.values()):
        round_and_tick(world, controller)
    publish(world, controller, *CHECKPOINTS)
    act(world, controller)
    host = engine(world)
    lead = host.task.unit
    own = Failure(exit_code=ExitCode.BAD_CONFIGURATION, reason="BadBenchmark", message="its own", member=lead.digest)
    world.units[lead].failures[1] = own
    if how == "vanished":
        del world.jobs[host.task.key]
        world.now += timedelta(seconds=START_GRACE_SECONDS + 10)
    elif how == "crashed":
        world._end(host, 137)
    else:
        host.job = replace(host.job, phase="ended", ended=world.now, preempted=True)
        host.job = replace(host.job, exit_code=143 if how == "preempted" else None)
    assert simulate(world, controller.frozen).finished == "PartiallyFailed"
    charged = [(end.reason, end.retry) for end in task_ends(world) if end.counts_as_failure]
    assert charged == [("BadBenchmark", False)]
    others = {end.outcome for end in task_ends(world) if not end.counts_as_failure and end.outcome != "succeeded"}
    expected = {"vanished": "lost", "crashed": "failed"}.get(how, "preempted")
    assert others == {expected}


def test_a_crash_names_the_evaluation_whose_adapter_was_being_loaded_though_the_lead_had_failed_before() -> None:
    world, controller, host = at_work(Limits())
    publish(world, controller, 50)
    act(world, controller)
    lead = host.task.unit
    [guest] = [task.unit for task in guests(world)]
    world.units[lead].markers.clear()
    world.units[lead].failures[1] = Failure(exit_code=11, reason="BadAdapter", message="its own", member=lead.digest)
    progress = world.units[lead].progress[1]
    world.units[lead].progress[1] = progress.model_copy(update={"loading": guest.digest})
    world._end(host, 137)
    again = Controller(controller.frozen)  # a new one, which knows only the state of the world
    [close] = [a for a in again.look(world).actions if isinstance(a, CloseTask) and a.unit == lead]
    assert close.end.member == guest.digest


def guests(world: World) -> list[GenerateTask]:
    tasks = [task for unit in world.units.values() for task in unit.tasks.values() if isinstance(task, GenerateTask)]
    return [task for task in tasks if task.host is not None]


def with_a_guest(limits: Limits, benchmarks: tuple[str, ...] = ("sums",)) -> tuple[World, Controller, SimJob]:
    """Starts an engine with the base's evaluations and lets it take those of the checkpoint mine@1, on which it then
    works for a long time. The run expects many more checkpoints.
    """
    frozen = experiment((external("mine", tuple(range(1, 200)), published=True),), benchmarks, limits=limits)
    world, controller = World(Weather(rows=8, work_ticks=4), seed=0), Controller(frozen)
    while len(world.completed) < 1:
        round_and_tick(world, controller)
    host = engine(world)
    publish(world, controller, 1)
    round_and_tick(world, controller)
    [task] = guests(world)
    for _ in range(9):
        if (task.unit, task.number) not in host.queue:
            round_and_tick(world, controller)
    world.weather = replace(world.weather, work_ticks=1000)
    assert {member.unit for member in task.members} <= {unit for unit, _ in host.queue}
    return world, controller, host


def fail_in_the_engine(world: World, host: SimJob, member: GenerateMember) -> None:
    """The engine records that the evaluation failed, and continues with the others."""
    host.queue.remove((member.unit, member.number))
    failure = Failure(exit_code=1, reason="RequestFailed", message="x", member=member.unit.digest)
    world.units[member.unit].failures[member.number] = failure


@pytest.mark.parametrize(("failed", "retried"), [([0], []), ([1], [1]), ([0, 1], [0, 1])])
def test_an_evaluation_that_failed_is_retried_while_its_engine_still_runs(
    failed: list[int], retried: list[int]
) -> None:
    """The first member of a task is not retried while other members of the task run, because the task stays open for them."""
    world, controller, host = with_a_guest(Limits(evaluation_slots=3), ("sums", "codes"))
    [task] = guests(world)
    for place in failed:
        fail_in_the_engine(world, host, task.members[place])
    for _ in range(4):
        round_and_tick(world, controller)
    assert host.job.phase == "running"
    assert host.queue
    units = [world.units[member.unit] for member in task.members]
    assert [place for place, unit in enumerate(units) if 1 in unit.ends] == retried
    for place in retried:
        assert (units[place].ends[1].reason, units[place].ends[1].counts_as_failure) == ("RequestFailed", True)
        alone = units[place].tasks[2]
        assert isinstance(alone, GenerateTask)
        assert (len(alone.members), alone.host) == (1, None)


def test_an_engine_whose_own_first_evaluation_failed_takes_no_more() -> None:
    world, controller, host = with_a_guest(Limits(evaluation_slots=3))
    publish(world, controller, 2)
    assert [len(found) for found in offers_and_starts(world, controller)] == [1, 0]
    controller = Controller(controller.frozen)  # a new one, which knows only the state of the world
    lead = host.task.unit
    world.units[lead].markers.clear()
    world.units[lead].failures[1] = Failure(exit_code=1, reason="RequestFailed", message="x", member=lead.digest)
    assert [len(found) for found in offers_and_starts(world, controller)] == [0, 1]


def publish_a_suspect(world: World, controller: Controller, samples: int) -> UnitRef:
    """Publishes a checkpoint and records that its evaluation was in a crashed engine together with another one. Returns
    the evaluation's unit.
    """
    publish(world, controller, samples)
    [write] = generate_task_writes(controller.look(world).actions)
    suspect = world._unit(write.task.unit)
    suspect.tasks[1] = write.task.model_copy(update={"host": None})
    crash = {"outcome": "failed", "reason": "Crashed", "message": "x", "charged": False, "retry": True, "suspects": 2}
    suspect.ends[1] = TaskEnd(number=1, ended=world.now, **crash)
    return write.task.unit


def test_a_task_that_no_running_engine_can_take_gets_the_slot_before_later_ones() -> None:
    world, controller, _ = with_a_guest(Limits(evaluation_slots=1))
    world.weather = replace(world.weather, work_ticks=2)
    suspect = publish_a_suspect(world, controller, 2)
    publish(world, controller, 3)
    assert offers_and_starts(world, controller) == ([], [])
    for number in range(60):
        publish(world, controller, 4 + number)
        round_and_tick(world, controller)
        if 2 in world.units[suspect].tasks:
            break
    assert world.units[suspect].tasks[2].type == "generate"
    started = [sim.task.unit for sim in world.jobs.values() if sim.task.type == "generate"]
    assert started[-1] == suspect, "something newer had the slot first"


def test_nothing_joins_a_suspect_that_a_lingering_engine_took() -> None:
    world, controller, host = at_work(
        Limits(idle_timeout_seconds=1000, evaluation_slots=2), Weather(rows=8, work_ticks=9)
    )
    until_an_engine_lingers(world, controller)
    suspect = publish_a_suspect(world, controller, 50)
    for _ in range(20):
        if not host.queue:
            round_and_tick(world, controller)
    assert host.queue == [(suspect, 2)]
    publish(world, controller, 100)
    offers, starts = offers_and_starts(world, controller)
    assert (offers, len(starts)) == ([], 1)
