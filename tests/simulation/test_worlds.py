"""The real code in simulated worlds: under any faults, committed files stay, and all experiments end."""

import os
import re
from dataclasses import replace

import pytest

from tests.controller.experiments import experiment, run
from tests.simulation.machine import Weather
from tests.simulation.world import Faults, World
from workloads.api.experiment import FrozenExperiment, Limits

EXAMPLES = int(os.environ.get("POTSTILL_EXAMPLES", "5"))
"""Worlds of each test; a nightly run takes more."""
FIRST = int(os.environ.get("POTSTILL_SEED", "0"))
SEEDS = range(FIRST, FIRST + EXAMPLES)
LENIENT = Limits(attempts=100, preemptions=200, evaluation_slots=2, training_slots=2, grading_slots=1)
STORMY = Faults(Weather(crash=0.2, preempt=0.1, zombie=0.2, stale_jobs=0.1), fails=0.02, stale=0.1, crash_turns=150)


def small(limits: Limits = LENIENT, name: str = "distill", uid8: str = "0016feb2") -> FrozenExperiment:
    return experiment((run("a", (50, 100)), run("b", (50,))), ("sums",), name=name, uid8=uid8, limits=limits)


def test_in_fair_weather_everything_is_started_once() -> None:
    world = World(1)
    machine = world.machine("one")
    world.controller("c", small(), machine)
    world.settle([small()])
    assert world.finished["c"].finished == "Succeeded"
    assert len(machine.started) == len(set(machine.started))


@pytest.mark.slow
def test_a_seed_gives_the_same_world_again() -> None:
    def played() -> tuple[int, int, list[str]]:
        world = World(16, STORMY)
        machine = world.machine("one")
        world.controller("c", small(), machine)
        world.settle([small()])
        return world.scheduler.turns, world.objects.version, machine.started

    assert played() == played()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_two_controllers_with_gc_and_retry_beside_them_on_machines_that_fail(seed: int) -> None:
    """Their folders and clocks differ in every second world: each starts tasks whose start it cannot see."""
    frozen, world = small(), World(seed, STORMY)
    one = world.machine("one")
    other = world.machine("two") if seed % 2 else one
    world.controller("c", frozen, one)
    world.controller("d", frozen, other, skew_seconds=[0.0, 60.0, -60.0, 600.0][seed % 4])
    world.garbage_collector()
    world.person(frozen)
    world.settle([frozen])
    assert {status.finished for status in world.finished.values()} == {"Succeeded"}


def with_notices(lost: float, late: float, faults: Faults = STORMY) -> Faults:
    weather = replace(faults.weather, notices=True, lost_notices=lost, late_notices=late)
    return replace(faults, weather=weather)


@pytest.mark.slow
def test_in_fair_weather_notices_save_lists_and_change_nothing_else() -> None:
    lists = {}
    for by_notice in (False, True):
        slow = Faults(Weather(work_seconds=600.0))
        world = World(1, with_notices(0.0, 0.0, slow), by_notice=by_notice)
        machine = world.machine("one")
        world.controller("c", small(), machine)
        world.settle([small()])
        assert world.finished["c"].finished == "Succeeded"
        assert len(machine.started) == len(set(machine.started))
        lists[by_notice] = world.objects.unit_lists
    assert lists[True] < lists[False] / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lost", "late"), [(0.0, 0.0), (0.3, 0.3), (1.0, 0.0)])
def test_lost_late_and_forged_notices_cost_time_only(seed: int, lost: float, late: float) -> None:
    frozen, world = small(), World(seed, with_notices(lost, late), by_notice=True)
    one = world.machine("one")
    world.controller("c", frozen, one)
    world.controller("d", frozen, world.machine("two") if seed % 2 else one)
    world.forger()
    world.garbage_collector()
    world.person(frozen)
    world.settle([frozen])
    assert {status.finished for status in world.finished.values()} == {"Succeeded"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_units_are_taken_over_by_notice_too(seed: int) -> None:
    first, second = small(), small(name="heir", uid8="0000beef")
    world = World(seed, with_notices(0.2, 0.2), by_notice=True)
    world.controller("c", first, world.machine("one"))
    world.controller("d", second, world.machine("two"))
    world.vanishes("c", first, after_seconds=40.0 * (1 + seed % 7))
    world.forger()
    world.settle([second])
    assert world.finished["d"].finished == "Succeeded"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_with_few_attempts_every_evaluation_ends_done_or_explained(seed: int) -> None:
    frozen = small(Limits(attempts=1 + seed % 3, preemptions=seed % 4))
    world = World(seed, STORMY)
    world.controller("c", frozen, world.machine("one"))
    world.settle([frozen])
    status = world.finished["c"]
    assert {line.state for line in status.evaluations} <= {"done", "failed"}
    assert all(line.reason and line.message for line in status.evaluations if line.state == "failed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_two_experiments_share_their_units_and_one_of_them_vanishes(seed: int) -> None:
    """Its controller and machine stop permanently at some moment; the other takes over its open tasks."""
    first, second = small(), small(name="heir", uid8="0000beef")
    world = World(seed, STORMY)
    world.controller("c", first, world.machine("one"))
    world.controller("d", second, world.machine("two"))
    world.vanishes("c", first, after_seconds=40.0 * (1 + seed % 7))
    world.settle([second])
    assert world.finished["d"].finished == "Succeeded"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_progress_that_cannot_be_read_blocks_nothing(seed: int) -> None:
    world = World(seed, STORMY)
    world.controller("c", small(), world.machine("one"))
    damaged = world.vandal(re.compile(r"units/.*/progress\.json"), every_seconds=10.0)
    world.settle([small()])
    assert damaged
    assert world.finished["c"].finished == "Succeeded"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_record_that_cannot_be_read_fails_what_needs_it_by_name_and_the_rest_succeeds(seed: int) -> None:
    """One task, end or marker of a generation that one or two evaluations need."""
    world = World(seed, Faults(Weather()))
    world.controller("c", small(), world.machine("one"))
    damaged = world.vandal(re.compile(r"units/generate/.*/(tasks|markers)/[^/]*\.json"), every_seconds=60.0, most=1)
    world.settle([])
    status = world.finished["c"]
    failed = [line for line in status.evaluations if line.state == "failed"]
    assert {line.state for line in status.evaluations} <= {"done", "failed"}
    assert len(failed) < len(status.evaluations)
    assert all(damaged[0] in line.message for line in failed), failed
