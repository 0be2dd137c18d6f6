"""An API server that goes away, answers with errors or falls silent costs an experiment time and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.harness import ApiProxy, ControlPlane
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long]


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


def at_work(world: World, role: str) -> int:
    path = f"/api/v1/namespaces/{world.namespace}/pods?labelSelector=potstill.dev/role={role}"
    return sum(pod["status"].get("phase") == "Running" for pod in world.plane.api.items(path))


def test_through_outages_every_task_is_done_once(
    world: World, controller: Callable[[], Controller], proxy: ApiProxy, plane: ControlPlane, steer: Path
) -> None:
    for kind in ("train", "generate"):
        (steer / f"{kind}.hold").touch()
    world.kubeconfig = plane.kubeconfig(url=proxy.url)
    controller()
    plane.api.post(world.path, experiment())
    wait_until(lambda: at_work(world, "train") == 1, "the training runs", 120)
    proxy.refuse()
    (steer / "train.hold").unlink()
    wait_until(lambda: at_work(world, "train") == 0, "the training ends, unseen", 120)
    proxy.heal()
    proxy.answer(503, times=5)
    wait_until(lambda: at_work(world, "generate") == 2, "checkpoints are evaluated beside the base", 120)
    proxy.expire_watches()
    proxy.answer(500, pattern="POST", times=2)
    plane.stop_apiserver()
    plane.start_apiserver()
    (steer / "generate.hold").unlink()
    assert world.finished(seconds=180)["reason"] == "Succeeded"
    tasks = [info.key for info in world.store.list("units/") if re.search(r"tasks/\d+\.json$", info.key)]
    assert [key for key in tasks if not key.endswith("/1.json")] == []
    assert {key.split("/")[1] for key in tasks} == {"train", "generate", "grade", "report"}
