"""The cause of a task's end, by exit code, failure and the other members of its group."""

import pytest

from controller.planner.outcomes import ended_by_itself, outcome_of_leader, outcome_of_member
from controller.snapshot.types import Attempt, Job, StoreSnapshot, UnitView
from tests.controller.experiments import START, experiment, run
from tests.controller.simulate import Controller, a_round
from tests.controller.world import Weather, World
from workloads.api.records import ExitCode, Failure, Marker, Progress, StateRecord, TaskEnd, content_of
from workloads.api.tasks import GenerateTask, pointers

ANY = experiment((run("a", (50,)),), ("sums",))


def group() -> tuple[Attempt, StoreSnapshot]:
    """The base's two parts in one task."""
    world = World(Weather(), seed=0)
    controller = Controller(ANY)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    task = next(sim.task for sim in world.jobs.values() if isinstance(sim.task, GenerateTask))
    units = {task.unit: UnitView(task.unit, (Attempt(task),))}
    for pointer in pointers(task):
        units[pointer.unit] = UnitView(pointer.unit, (Attempt(pointer),))
    return Attempt(task), StoreSnapshot(units)


def ends(
    code: int | None,
    *,
    preempted: bool = False,
    failure: Failure | None = None,
    loading: int | None = None,
    reason: str = "",
) -> tuple[TaskEnd, TaskEnd]:
    """The ends of the leader and of the other member."""
    attempt, store = group()
    assert isinstance(attempt.task, GenerateTask)
    progress = None
    if loading is not None:
        member = attempt.task.members[loading].unit.digest
        progress = Progress(
            attempt=1, updated=START, phase="loading", done=0, total=1, counted="outputs", loading=member
        )
    attempt = Attempt(attempt.task, None, progress, failure)
    job = Job(attempt.task.key, "ended", START, exit_code=code, preempted=preempted, reason=reason, message=reason)
    lead = outcome_of_leader(ended_by_itself(attempt, job), attempt, a_round(ANY, store))
    assert isinstance(attempt.task, GenerateTask)
    other = store.unit(attempt.task.members[1].unit)
    return lead, outcome_of_member(lead, other.attempts[0], other, START)


@pytest.mark.parametrize("code", [1, 137, -9, 139])
def test_a_crash_of_a_group_without_a_culprit_uses_up_no_attempt(code: int) -> None:
    assert [(end.outcome, end.counts_as_failure, end.suspects) for end in ends(code)] == [("failed", False, 2)] * 2


def test_a_crash_while_loading_suspects_the_loaded_one_and_uses_up_no_attempt() -> None:
    lead, other = ends(137, loading=1)
    assert lead.member == other.member != None  # noqa: E711
    assert (lead.counts_as_failure, other.counts_as_failure) == (False, False)


@pytest.mark.parametrize("code", [ExitCode.TERMINATED, ExitCode.STORE_UNAVAILABLE, ExitCode.SUPERSEDED, None])
def test_failures_from_outside_do_not_count_and_are_retried(code: int | None) -> None:
    assert [(end.counts_as_failure, end.retry) for end in ends(code)] == [(False, True)] * 2


def test_preemption_is_not_failure() -> None:
    assert [(end.outcome, end.counts_as_failure) for end in ends(143, preempted=True)] == [("preempted", False)] * 2


def test_bad_configuration_is_everybodys_and_final() -> None:
    failure = Failure(exit_code=10, reason="BadModel", message="no such model")
    shares = [(end.reason, end.message, end.retry) for end in ends(10, failure=failure)]
    assert shares == [("BadModel", "no such model", False)] * 2


def test_a_program_that_ends_well_without_a_result_is_charged() -> None:
    assert [(end.outcome, end.reason, end.counts_as_failure) for end in ends(0)] == [("failed", "NoResult", True)] * 2


def test_the_failure_of_one_member_does_not_count_for_the_other() -> None:
    attempt, store = group()
    assert isinstance(attempt.task, GenerateTask)
    lead = outcome_of_leader(
        ended_by_itself(attempt, Job(attempt.task.key, "ended", START, exit_code=15)), attempt, a_round(ANY, store)
    )
    failure = Failure(exit_code=11, reason="CorruptFiles", message="checkpoint-50 is corrupt", member="b" * 64)
    other = store.unit(attempt.task.members[1].unit)
    end = outcome_of_member(lead, Attempt(other.attempts[0].task, failure=failure), other, START)
    assert (end.reason, end.counts_as_failure, end.retry) == ("CorruptFiles", True, False)
    assert (lead.counts_as_failure, lead.retry) == (False, True)


def test_without_a_job_the_programs_own_word_counts() -> None:
    attempt, _ = group()
    failure = Failure(exit_code=1, reason="Crashed", message="boom")
    ended = ended_by_itself(Attempt(attempt.task, None, None, failure), None)
    assert (ended.outcome, ended.exit_code, ended.message) == ("failed", 1, "boom")
    assert ended_by_itself(attempt, None).outcome == "lost"


@pytest.mark.parametrize("code", [None, 0, 15, 137])
def test_a_group_that_was_evicted_for_its_own_disk_continues_in_smaller_groups(code: int | None) -> None:
    found = [(end.outcome, end.reason, end.counts_as_failure, end.suspects) for end in ends(code, reason="Evicted")]
    assert found == [("failed", "Evicted", False, 2)] * 2


def alone(
    job_reason: str, *, code: int | None = None, left_a_state: bool = False, failure: Failure | None = None
) -> TaskEnd:
    """Returns how the attempt of one training ends."""
    frozen = experiment((run("a", (50,)),), ())
    world = World(Weather(work_ticks=10**9), seed=0)
    controller = Controller(frozen)
    for _ in controller.act(world, controller.look(world).actions):
        pass
    (sim,) = world.jobs.values()
    unit = sim.task.unit
    record = StateRecord(step=1, samples=4)
    marker = Marker(
        unit=unit, name="state-4", attempt=1, content=content_of(()), files=(), created=START, record=record
    )
    view = UnitView(unit, (Attempt(sim.task),), {marker.name: marker} if left_a_state else {})
    attempt = Attempt(sim.task, failure=failure)
    job = Job(sim.task.key, "ended", START, exit_code=code, reason=job_reason, message=job_reason)
    return outcome_of_leader(ended_by_itself(attempt, job), attempt, a_round(ANY, StoreSnapshot({unit: view})))


def test_an_eviction_for_its_own_disk_is_final_unless_the_attempt_moved_the_work_forward() -> None:
    for code in (None, 0, 15, 137):
        end = alone("Evicted", code=code)
        assert (end.outcome, end.reason, end.counts_as_failure, end.retry) == ("failed", "Evicted", True, False)
        assert alone("Evicted", code=code, left_a_state=True).retry


def test_the_kubelets_word_for_a_killed_program_counts_more_than_what_it_wrote_before() -> None:
    failure = Failure(exit_code=1, reason="RankFailed", message="rank 1 is gone")
    assert alone("OOMKilled", code=137, failure=failure).reason == "OOMKilled"
    assert alone("Error", code=1, failure=failure).reason == "RankFailed"


def test_a_deadline_of_the_cluster_is_a_failure_and_no_loss() -> None:
    end = alone("DeadlineExceeded")
    assert (end.outcome, end.reason, end.counts_as_failure) == ("failed", "DeadlineExceeded", True)


def test_a_failures_message_is_bounded_everywhere() -> None:
    failure = Failure(exit_code=1, reason="Crashed", message="x" * 10**6)
    assert len(alone("Error", code=1, failure=failure).message) < 3000
