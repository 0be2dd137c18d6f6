"""Simulates `decide` to convergence: with any crash, everything is committed once or has a reason."""

import os
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from controller.planner.actions import Status
from controller.planner.round import owner_of
from tests.controller.experiments import experiment, experiment_16_02, external, run
from tests.controller.simulate import Controller, generate_tasks, group_sizes, simulate, simulate_together
from tests.controller.world import Weather, World, commit_all_checkpoints
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.experiment import FrozenExperiment, Limits
from workloads.api.model import sha256_of

EXAMPLES = int(os.environ.get("POTSTILL_EXAMPLES", "8"))
"""Number of examples of each property; use more at night."""
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""All phases except shrinking, which takes minutes and does not make a world simpler."""
LENIENT = Limits(attempts=100, preemptions=200, evaluation_slots=2, training_slots=2, grading_slots=1)


def small(limits: Limits = LENIENT, benchmarks: tuple[str, ...] = ("sums",)) -> FrozenExperiment:
    return experiment((run("a", (50, 100)), run("b", (50,))), benchmarks, limits=limits)


def weathers(worst: float = 0.2) -> st.SearchStrategy[Weather]:
    chance = st.floats(0, worst)
    return st.builds(
        Weather,
        crash=chance,
        preempt=chance,
        vanish=st.floats(0, worst / 2),
        store_outage=st.floats(0, worst / 2),
        start_ticks=st.integers(1, 4),
        work_ticks=st.integers(1, 2),
        engine_ticks=st.integers(0, 3),
        rows=st.integers(1, 5),
    )


def checkpoint_content(frozen: FrozenExperiment, run_name: str, samples: int) -> str:
    """The content as the simulated world makes it."""
    unit = train_unit(next(run for run in frozen.runs if run.name == run_name))
    return sha256_of(f"{unit.digest} {store_keys.checkpoint_marker(samples)}".encode())


def states(status: Status) -> dict[str, str]:
    return {line.id: line.state for line in status.evaluations}


def test_16_02_in_fair_weather() -> None:
    world = World(Weather(), seed=1)
    status = simulate(world, experiment_16_02())
    assert status.finished == "Succeeded"
    assert status.counts.checkpoints == 18
    assert len({(line.model, line.benchmark) for line in status.evaluations if line.state == "done"}) == 38
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=2 * EXAMPLES, deadline=None, phases=PHASES)
@given(
    seed=st.integers(0, 10**6),
    weather=weathers(),
    actions=st.sampled_from([1, 2, 3, None]),
    linger=st.sampled_from([0.0, 60.0]),
    gather=st.sampled_from([0.0, 90.0]),
    group=st.sampled_from([1, 2, 3, 64]),
    benchmarks=st.sampled_from([("sums",), ("sums", "codes", "words")]),
)
def test_everything_is_committed_whatever_crashes(
    seed: int,
    weather: Weather,
    actions: int | None,
    linger: float,
    gather: float,
    group: int,
    benchmarks: tuple[str, ...],
) -> None:
    world = World(weather, seed)
    limits = LENIENT.model_copy(
        update={"idle_timeout_seconds": linger, "batch_window_seconds": gather, "group_members": group}
    )
    frozen = small(limits, benchmarks)
    status = simulate(world, frozen, actions_before_crash=actions, seed=seed)
    assert status.finished == "Succeeded", status
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=10, deadline=None, phases=PHASES)
@given(
    seed=st.integers(0, 10**6),
    weather=weathers(0.1),
    linger=st.sampled_from([0.0, 60.0]),
    gather=st.sampled_from([0.0, 90.0]),
)
@pytest.mark.long
def test_16_02_with_a_crash_of_the_controller_after_every_action(
    seed: int, weather: Weather, linger: float, gather: float
) -> None:
    world = World(weather, seed)
    frozen = experiment_16_02(
        LENIENT.model_copy(update={"idle_timeout_seconds": linger, "batch_window_seconds": gather})
    )
    status = simulate(world, frozen, actions_before_crash=1, seed=seed, rounds=20000)
    assert status.finished == "Succeeded", status
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.4), attempts=st.integers(1, 3), preemptions=st.integers(0, 3))
def test_with_few_attempts_every_evaluation_ends_done_or_explained(
    seed: int, weather: Weather, attempts: int, preemptions: int
) -> None:
    world = World(weather, seed)
    frozen = small(Limits(attempts=attempts, preemptions=preemptions))
    status = simulate(world, frozen, actions_before_crash=1, seed=seed)
    states = [line.state for line in status.runs] + [line.state for line in status.evaluations]
    done = [state == "done" for state in states]
    assert all(line.reason and line.message for line in status.evaluations if line.state == "failed")
    assert {line.state for line in status.evaluations} <= {"done", "failed"}
    if status.finished == "Succeeded":
        assert all(done)
    else:
        assert not all(done) or "no report" in (status.condition("Finished") or status.conditions[0]).message


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.1), actions=st.sampled_from([1, None]))
def test_a_bad_checkpoint_fails_alone_and_the_others_succeed(seed: int, weather: Weather, actions: int | None) -> None:
    frozen = small(LENIENT.model_copy(update={"attempts": 3}))
    poison = checkpoint_content(frozen, "a", 50)
    world = World(replace(weather, crash=0.0, poison=frozenset({poison})), seed)
    status = simulate(world, frozen, actions_before_crash=actions, seed=seed)
    assert status.finished == "PartiallyFailed"
    assert {name for name, state in states(status).items() if state == "failed"} == {"a@50 sums/fast"}
    for task in generate_tasks(world):
        end = world.units[task.unit].ends[task.number]
        blamed = [member for member in task.members if member.inputs.model.adapter == poison]
        if end.counts_as_failure and end.member is not None and blamed:
            assert end.suspects == 1, "a suspect was charged in company"


@pytest.mark.slow
@settings(max_examples=EXAMPLES // 2, deadline=None, phases=PHASES)
@given(
    seed=st.integers(0, 10**6),
    preempt=st.floats(0, 0.1),
    waiting=st.booleans(),
    gather=st.sampled_from([0.0, 90.0]),
)
def test_16_02_with_a_poison_checkpoint_and_preemptions(
    seed: int, preempt: float, waiting: bool, gather: float
) -> None:
    """All 18 checkpoints at once, or one after another: only the evaluations of the poisoned checkpoint fail."""
    frozen = experiment_16_02(LENIENT.model_copy(update={"attempts": 3, "batch_window_seconds": gather}))
    poison = checkpoint_content(frozen, "code_default", 10000)
    world = World(Weather(preempt=preempt, poison=frozenset({poison})), seed)
    if waiting:
        commit_all_checkpoints(world, frozen)
    status = simulate(world, frozen, seed=seed, rounds=20000)
    assert status.finished == "PartiallyFailed"
    failed = {name for name, state in states(status).items() if state == "failed"}
    assert failed == {f"code_default@10000 {name}/fast" for name in ("math-500", "mbpp-plus")}
    assert list(states(status).values()).count("done") == len(states(status)) - 2
    assert set(world.completed.values()) == {1}


def test_a_crash_without_a_culprit_halves_the_group() -> None:
    """Ten checkpoints in an engine that always dies: in the end each is tried alone, with few starts."""
    frozen = experiment(
        (run("a", tuple(range(50, 501, 50))),),
        ("sums",),
        limits=Limits(attempts=1, evaluation_slots=1),
        base_full=False,
    )
    world = World(Weather(), seed=0)
    trained = simulate(world, frozen.model_copy(update={"benchmarks": ()}))
    assert trained.finished == "Succeeded"
    world.weather = Weather(crash=1.0)
    status = simulate(world, frozen)
    assert status.finished == "Failed"
    assert group_sizes(world)[0] == 11
    assert sorted(group_sizes(world))[:11] == [1] * 11
    assert len(group_sizes(world)) <= 1 + 3 + 4 + 6 + 11


def test_a_corrupt_checkpoint_is_named_and_not_tried_again() -> None:
    frozen = small()
    world = World(Weather(corrupt=frozenset({checkpoint_content(frozen, "a", 50)})), seed=0)
    status = simulate(world, frozen)
    failed = [line for line in status.evaluations if line.state == "failed"]
    assert [(line.model, line.reason) for line in failed] == [("a@50", "CorruptFiles")]
    assert status.finished == "PartiallyFailed"


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.1))
def test_two_controllers_of_one_experiment_do_no_harm(seed: int, weather: Weather) -> None:
    world = World(weather, seed)
    frozen = small()
    both = [Controller(frozen), Controller(frozen)]
    simulate_together(world, both, seed=seed)
    assert {controller.status.finished for controller in both if controller.status} == {"Succeeded"}
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.1), linger=st.sampled_from([0.0, 60.0]))
def test_two_experiments_share_their_units(seed: int, weather: Weather, linger: float) -> None:
    """Both need the base and run b: each is done once."""
    limits = LENIENT.model_copy(update={"idle_timeout_seconds": linger})
    first = small(limits)
    second = experiment((run("b", (50,)), run("c", (50,))), ("sums",), name="other", uid8="0000beef", limits=limits)
    world = World(weather, seed)
    both = [Controller(first), Controller(second)]
    simulate_together(world, both, seed=seed)
    assert {controller.status.finished for controller in both if controller.status} == {"Succeeded"}
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.05), stop_after=st.integers(1, 60))
def test_a_unit_is_taken_over_when_its_owner_ends(seed: int, weather: Weather, stop_after: int) -> None:
    world = World(weather, seed)
    first, second = Controller(small()), Controller(small().model_copy(update={"name": "again", "uid8": "0000beef"}))
    for _ in range(stop_after):
        for _ in first.act(world, first.look(world).actions[:1]):
            pass
        world.tick()
    world.delete(owner_of(first.frozen))
    status = simulate(world, second.frozen, seed=seed)
    assert status.finished == "Succeeded"
    assert set(world.completed.values()) == {1}


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10**6), weather=weathers(0.05), when=st.integers(0, 40))
def test_suspended_at_any_moment_it_stops_and_later_continues_without_a_used_attempt(
    seed: int, weather: Weather, when: int
) -> None:
    world = World(weather, seed)
    controller = Controller(small())
    for _ in range(when):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()
    controller.intent = "suspend"
    for _ in range(30):
        for _ in controller.act(world, controller.look(world).actions[:1]):
            pass
        world.tick()
    assert controller.status is not None
    assert controller.status.idle or controller.status.finished
    assert not [sim for sim in world.jobs.values() if sim.job.phase != "ended"]
    assert simulate(world, controller.frozen, seed=seed).finished == "Succeeded"
    ends = [end for unit in world.units.values() for end in unit.ends.values() if end.outcome == "suspended"]
    assert not any(end.counts_as_failure for end in ends)


def test_published_checkpoints_are_evaluated_as_they_come() -> None:
    frozen = experiment((external("mine", (50,), published=True),), ("sums",))
    world = World(Weather(), seed=0)
    controller = Controller(frozen)
    for _ in range(60):
        for _ in controller.act(world, controller.look(world).actions):
            pass
        world.tick()
    assert controller.status is not None
    assert controller.status.finished is None
    assert states(controller.status) == {
        "base sums/fast": "done",
        "base sums/rest": "done",
        "mine@50 sums/fast": "waiting",
    }
    world.publish(train_unit(frozen.runs[0]), 50)
    assert simulate(world, frozen).finished == "Succeeded"
