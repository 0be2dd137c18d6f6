"""A task whose Job the cluster refuses waits without a limit and uses up no attempt."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from controller.planner.actions import CloseTask, Decision, Start, WriteTask
from controller.planner.planner import decide
from controller.planner.round import owner_of
from controller.snapshot.types import Job, Refusal
from tests.controller.experiments import experiment, run
from tests.controller.world import Weather, World
from workloads.api.experiment import FrozenExperiment, Limits

DAY = timedelta(days=1)


def written() -> tuple[FrozenExperiment, World, str]:
    """The task is in the store, and it has no Job."""
    frozen = experiment((run("a", (50, 100)),), (), limits=Limits(pending_seconds=60))
    world = World(Weather(), seed=0)
    decision = decide(frozen, world.store_view(owner_of(frozen)), world.executor_view(), world.now)
    (write,) = [action for action in decision.actions if isinstance(action, WriteTask)]
    world.act(write, owner_of(frozen))
    return frozen, world, write.task.key


def look(frozen: FrozenExperiment, world: World, **view: Any) -> Decision:
    executor = replace(world.executor_view(), **view)
    return decide(frozen, world.store_view(owner_of(frozen)), executor, world.now)


def refused(world: World, key: str, seconds: float) -> dict[str, Refusal]:
    return {key: Refusal("exceeded quota", world.now + timedelta(seconds=seconds))}


def test_it_is_lost_after_a_while_only_if_nothing_refused_it() -> None:
    frozen, world, _ = written()
    world.now += DAY
    assert [type(action) for action in look(frozen, world).actions] == [CloseTask]


def test_refused_it_is_started_again_when_its_pause_is_over_however_old_it_is() -> None:
    frozen, world, key = written()
    world.now += DAY
    assert look(frozen, world, refused=refused(world, key, 5)).actions == ()
    again = look(frozen, world, refused=refused(world, key, -1))
    assert [(type(action), action.task.key) for action in again.actions if isinstance(action, Start)] == [(Start, key)]
    assert len(again.actions) == 1


def test_the_next_controller_starts_a_job_that_was_refused_to_the_one_before() -> None:
    frozen, world, key = written()
    before = world.now
    world.now += DAY
    (start,) = look(frozen, world, refused_before=before).actions
    assert isinstance(start, Start)
    assert [type(a) for a in look(frozen, world, refused_before=before - DAY).actions] == [CloseTask], "it is newer"
    assert start.task.key == key


def test_the_status_says_so_in_the_clusters_words() -> None:
    frozen, world, key = written()
    status = look(frozen, world, refused=refused(world, key, 5)).status
    condition = status.condition("Progressing")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "JobRefused")
    assert "exceeded quota" in condition.message
    assert (status.runs[0].state, status.runs[0].reason) == ("pending", "JobRefused")


def test_a_job_that_does_not_start_is_pending_with_its_reason() -> None:
    frozen, world, key = written()
    job = Job(key, "pending", world.now, reason="ImagePullBackOff", message="401")
    status = look(frozen, world, jobs={key: job}).status
    assert (status.runs[0].state, status.runs[0].message) == (
        "pending",
        "attempt 1 has not started: ImagePullBackOff: 401",
    )
    condition, training = status.condition("Progressing"), status.condition("TrainingComplete")
    assert condition is not None
    assert training is not None
    assert (condition.status, condition.reason) == ("False", "ImagePullBackOff")
    assert "1 pending: attempt 1 has not started" in training.message
    starting = look(frozen, world, jobs={key: replace(job, reason="Starting")}).status.condition("Progressing")
    assert starting is not None
    assert starting.status == "True", "a pod that is on its way holds nothing up"
