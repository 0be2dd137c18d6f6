"""Experiments that need the same evaluation of the base, on a real control plane. Pods run the tiny program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.executors.kubernetes.names import EXPERIMENT_LABEL, ROLE_LABEL
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]
NAMES = ("ash", "birch", "cedar", "elm")


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


def test_one_of_those_applied_together_starts_it_and_the_others_start_their_trainings_at_once(
    world: World, controller: Callable[[], Controller], held: Path
) -> None:
    """An Experiment that loses the race for the evaluation's task has its next timed round five minutes later."""
    world.busy_seconds = 300.0
    for number, name in enumerate(NAMES):
        item = experiment()
        item["metadata"]["name"] = name
        item["spec"]["runs"][0]["seed"] = number
        world.plane.api.post(world.path, item)
    controller()
    wait_until(lambda: sorted(of(world, "train")) == sorted(NAMES), "a training Job of each", 120)
    assert len(of(world, "generate")) == 1
    held.unlink()


def of(world: World, role: str) -> list[str]:
    """The Experiments that the Jobs of this role belong to."""
    jobs: list[dict[str, Any]] = world.plane.api.items(f"/apis/batch/v1/namespaces/{world.namespace}/jobs")
    labels = [job["metadata"]["labels"] for job in jobs]
    return [one[EXPERIMENT_LABEL] for one in labels if one.get(ROLE_LABEL) == role]
