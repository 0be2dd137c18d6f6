"""What kubectl shows of an experiment from beginning to end. With POTSTILL_CAPTURE=FOLDER it is kept, for docs/."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


def test_kubectl_tells_the_story(world: World, controller: Callable[[], Controller], steer: Path) -> None:
    seen: dict[str, str] = {}

    def look(name: str, *words: str) -> str:
        seen[name] = world.plane.kubectl(*words, namespace=world.namespace)
        return seen[name]

    (steer / "generate.hold").touch()
    controller()
    gate = {"candidate": "one@last", "require": [{"benchmark": "own", "maxDrop": 0.2}]}
    world.plane.api.post(world.path, experiment(gate=gate))
    wait_until(lambda: world.get().get("status", {}).get("checkpoints") == "2/2", "the checkpoints", 120)
    assert "Running" in look("get-running", "get", "pexp")
    look("jobs", "get", "jobs", "-L", "potstill.dev/role")
    (steer / "generate.hold").unlink()
    look("wait", "wait", "--for=condition=Finished", "pexp/tiny", "--timeout=300s")
    assert "Succeeded" in look("get-finished", "get", "pexp", "-o", "wide")
    described = look("describe", "describe", "pexp", "tiny")
    for word in ("TrainingComplete", "EvaluationsComplete", "GatePassed", "Events:"):
        assert word in described
    events = look("events", "events", "--for", "experiment/tiny")
    assert "Finished is True" in events
    assert world.condition("GatePassed")["reason"] in {"Pass", "Fail", "NotEnoughEvidence"}
    assert world.get()["status"]["gate"] == world.condition("GatePassed")["reason"]
    if folder := os.environ.get("POTSTILL_CAPTURE"):
        for name, text in seen.items():
            hidden = text.replace(world.namespace, "team").replace(world.server.bucket + "/team", "lab/team")
            (Path(folder) / f"{name}.txt").write_text(hidden)
