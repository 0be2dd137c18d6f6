"""All states that two controllers of a small experiment reach: promises hold in each, and each leads to an end."""

import importlib
import os

import pytest

from tests.controller.experiments import experiment, run
from tests.simulation.exhaustive import Explorer
from workloads.api.experiment import FrozenExperiment, Limits

LIMITS = Limits(attempts=2, preemptions=1)
MORE = int(os.environ.get("POTSTILL_EXAMPLES", "8")) > 8


def one_training() -> FrozenExperiment:
    """One checkpoint, without evaluations."""
    return experiment((run("a", (50,)),), (), limits=LIMITS)


def a_group_of_two() -> FrozenExperiment:
    """Two evaluations of the base, which one engine generates."""
    return experiment((), ("sums", "codes"), limits=LIMITS, base_full=False)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [0, 1, pytest.param(2, marks=pytest.mark.long)])
def test_a_training_ends_from_every_state_that_two_controllers_reach(faults: int) -> None:
    explored = Explorer(one_training(), faults).explore()
    assert explored.stranded == 0, explored.example
    assert explored.states > 100 * 10**faults, "less was explored than there is"


@pytest.mark.parametrize("faults", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_group_ends_from_every_state_that_two_controllers_reach(faults: int) -> None:
    explored = Explorer(a_group_of_two(), faults, only="generate").explore()
    assert explored.stranded == 0, explored.example
    assert explored.states > 50 * 30**faults, "less was explored than there is"


@pytest.mark.slow
@pytest.mark.skipif(not MORE, reason="minutes: for a night, with POTSTILL_EXAMPLES above 8")
@pytest.mark.timeout(3600)
def test_a_group_ends_from_every_state_with_two_faults() -> None:
    explored = Explorer(a_group_of_two(), 2, only="generate").explore(10_000_000)
    assert explored.stranded == 0, explored.example


@pytest.mark.slow
def test_a_planner_that_forgets_a_lost_task_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests the search itself: without the check that closes a task whose Job is deleted, a lost Job leaves its unit
    stuck.
    """
    closings = importlib.import_module("controller.planner.completion_checks")
    checks = tuple(check for check in closings.CHECKS if check.__name__ != "_without_job")
    monkeypatch.setattr(closings, "CHECKS", checks)
    explored = Explorer(one_training(), 1).explore()
    assert explored.stranded > 0
    assert any("is lost" in step or "unseen" in step or "crashes" in step for step in explored.example)
