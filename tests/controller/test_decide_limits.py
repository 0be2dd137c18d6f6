"""The limits of `decide`, and the states in which it does nothing, one situation each."""

from dataclasses import replace
from datetime import timedelta

from controller.planner.actions import CloseTask, Counts, Decision, Start, Stop, WritePointers, WriteTask
from controller.planner.planner import decide
from controller.planner.round import owner_of
from controller.snapshot.types import Unknown
from tests.controller.experiments import experiment, run
from tests.controller.simulate import Controller, simulate
from tests.controller.world import Weather, World
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.records import Progress, TaskEnd


def trainings(limits: Limits) -> FrozenExperiment:
    return experiment((run("a", (50, 100)),), (), limits=limits)


def begun(frozen: FrozenExperiment, ticks: int, start_ticks: int = 1) -> tuple[World, Controller]:
    """The world after `ticks`, with tasks that never end."""
    world = World(Weather(start_ticks=start_ticks, work_ticks=10**9), seed=0)
    controller = Controller(frozen)
    for _ in range(ticks):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()
    return world, controller


def closed(decision: Decision) -> list[TaskEnd]:
    return [action.end for action in decision.actions if isinstance(action, CloseTask)]


def test_nothing_is_done_while_something_cannot_be_seen() -> None:
    frozen = trainings(Limits())
    world = World(Weather(), seed=0)
    view, jobs = world.store_view(owner_of(frozen)), world.executor_view()
    forbidden = Unknown("Forbidden", "jobs.batch is forbidden")
    for decision in (decide(frozen, forbidden, jobs, world.now), decide(frozen, view, forbidden, world.now)):
        assert decision.actions == ()
        assert [(c.status, c.reason, c.message) for c in decision.status.conditions] == [
            ("Unknown", "Forbidden", "jobs.batch is forbidden")
        ]


def test_a_store_that_lost_objects_is_reported_and_left_unchanged() -> None:
    frozen = trainings(Limits())
    world = World(Weather(), seed=0)
    decision = decide(
        frozen, world.store_view(owner_of(frozen)), world.executor_view(), world.now, recorded=Counts(checkpoints=1)
    )
    assert decision.actions == ()
    assert [condition.reason for condition in decision.status.conditions] == ["StoreRegressed"]


def test_a_job_that_does_not_start_in_time_is_closed_before_it_is_stopped_and_not_tried_again() -> None:
    frozen = trainings(Limits(pending_seconds=60))
    world, controller = begun(frozen, ticks=3, start_ticks=10**9)
    world.now += timedelta(seconds=60)
    decision = controller.look(world)
    assert [type(action) for action in decision.actions] == [CloseTask, Stop]
    assert [(end.reason, end.retry) for end in closed(decision)] == [("PendingTooLong", False)]
    status = simulate(world, frozen)
    assert status.finished == "Failed"
    assert "did not start within limits.pendingSeconds 60" in status.runs[0].message


def test_a_job_without_progress_is_ended_and_tried_again() -> None:
    frozen = trainings(Limits(no_progress_seconds=100))
    world, controller = begun(frozen, ticks=3)
    unit = world.units[train_unit(frozen.runs[0])]
    unit.progress[1] = Progress(attempt=1, updated=world.now, phase="training", done=3, total=9, counted="steps")
    world.now += timedelta(seconds=99)
    assert closed(controller.look(world)) == []
    world.now += timedelta(seconds=1)
    ends = closed(controller.look(world))
    assert [(end.reason, end.counts_as_failure, end.retry) for end in ends] == [("NoProgress", True, True)]
    assert "in phase training, 3 of 9" in ends[0].message


def test_gpu_seconds_end_the_experiment_when_they_are_used_up() -> None:
    frozen = experiment((run("a", (50, 100)),), ("sums",), limits=Limits(gpu_seconds=100, training_slots=1))
    world, controller = begun(frozen, ticks=3)
    for sim in world.jobs.values():
        sim.job = replace(sim.job, gpus=2)
    world.now += timedelta(seconds=60)
    decision = controller.look(world)
    assert decision.status.gpu_seconds > 100
    assert {end.reason for end in closed(decision)} == {"GpuSecondsExceeded"}
    assert not any(isinstance(action, WriteTask | Start) for action in decision.actions)
    status = simulate(world, frozen)
    assert status.finished == "Failed"
    assert {line.reason for line in status.evaluations} == {"GpuSecondsExceeded"}
    of_run = {line.message for line in status.evaluations if line.stage == "train"}
    assert of_run == {"blocked by run a (failed)"}


def test_a_pod_that_never_stops_does_not_hold_back_the_next_attempt_for_ever() -> None:
    frozen = trainings(Limits(no_progress_seconds=100))
    world, controller = begun(frozen, ticks=3)
    world.now += timedelta(seconds=200)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    assert [sim.job.phase for sim in world.jobs.values()] == ["stopping"]
    world.now += timedelta(seconds=500)
    assert controller.look(world).actions == ()
    world.now += timedelta(seconds=100)
    assert [type(action) for action in controller.look(world).actions] == [WriteTask, Start]


def test_a_group_that_a_crash_left_half_written_is_finished_and_not_regrouped() -> None:
    frozen = experiment((), ("sums",))
    world = World(Weather(), seed=0)
    controller = Controller(frozen)
    first = controller.look(world).actions
    assert [type(action) for action in first] == [WriteTask, WritePointers, Start]
    for _ in controller.act(world, first[:1]):
        pass
    again = controller.look(world).actions
    assert [type(action) for action in again] == [WritePointers, Start]
    assert isinstance(first[0], WriteTask)
    assert [action.task for action in again if isinstance(action, WritePointers | Start)] == [first[0].task] * 2


def test_a_task_that_was_written_long_ago_and_never_started_is_lost_uncharged() -> None:
    frozen = trainings(Limits())
    world = World(Weather(), seed=0)
    controller = Controller(frozen)
    for _ in controller.act(world, controller.look(world).actions[:1]):
        pass
    world.now += timedelta(seconds=121)
    assert [(end.outcome, end.counts_as_failure) for end in closed(controller.look(world))] == [("lost", False)]


def test_deleted_its_tasks_are_closed_and_its_jobs_stopped() -> None:
    frozen = trainings(Limits())
    world, controller = begun(frozen, ticks=3)
    controller.intent = "delete"
    decision = controller.look(world)
    assert [type(action) for action in decision.actions] == [CloseTask, Stop]
    assert [(end.outcome, end.counts_as_failure) for end in closed(decision)] == [("deleted", False)]


def test_retry_gives_a_unit_that_was_given_up_new_attempts() -> None:
    frozen = trainings(Limits(attempts=2))
    world = World(Weather(crash=1.0), seed=0)
    assert simulate(world, frozen).finished == "Failed"
    unit = world.units[train_unit(frozen.runs[0])]
    assert sorted(unit.tasks) == [1, 2]
    unit.retried_through = 2
    world.weather = Weather()
    assert simulate(world, frozen).finished == "Succeeded"
    assert sorted(unit.tasks) == [1, 2, 3]


def test_failures_in_a_row_wait_longer_and_longer() -> None:
    frozen = trainings(Limits(attempts=4))
    world = World(Weather(crash=1.0, tick_seconds=0.5), seed=0)
    simulate(world, frozen)
    unit = world.units[train_unit(frozen.runs[0])]
    waits = [(unit.tasks[number + 1].created - unit.ends[number].ended).total_seconds() for number in (1, 2, 3)]
    assert waits == [2.0, 4.0, 8.0]
