"""A base in a bucket and a profile with a weights volume: one Job brings it there, and everything else waits for it."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until
from workloads.storage.base import open_store
from workloads.storage.content_digest import directory_content, weights_name

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long]
Start = Callable[[], Controller]


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]], steer: Path) -> Callable[[list[str]], list[str]]:
    """Fetching waits while the file prefetch.hold is there."""

    def held(command: list[str]) -> list[str]:
        if "workloads.prefetch" not in command:
            return tiny(command)
        waiting = f"while [ -e {steer}/prefetch.hold ]; do sleep 0.05; done"
        return ["sh", "-c", f'{waiting}; exec {sys.executable} "$@"', *command]

    return held


@pytest.fixture
def bucket(world: World) -> str:
    """The base, in a bucket; the profile names a volume for it."""
    world.profile = world.profile.model_copy(update={"weights_claim": "weights"})
    place = f"s3://{world.server.bucket}/bases/{world.namespace}"
    for path in (world.folder / "files" / "base").iterdir():
        open_store(place).put(path.name, path.read_bytes())
    return place


def of_bucket(world: World, bucket: str, name: str = "tiny", **spec: Any) -> dict[str, Any]:
    content = directory_content(world.folder / "files" / "base")
    item = experiment(base={"model": bucket, "content": content}, **spec)
    return item | {"metadata": {"name": name}}


def prefetches(world: World) -> list[str]:
    path = f"/apis/batch/v1/namespaces/{world.namespace}/jobs?labelSelector=potstill.dev/role=prefetch"
    return [item["metadata"]["uid"] for item in world.plane.api.items(path)]


def test_it_is_fetched_once_for_two_experiments_and_nothing_is_trained_before(
    world: World, controller: Start, bucket: str, steer: Path
) -> None:
    (steer / "prefetch.hold").touch()
    controller()
    world.plane.api.post(world.path, of_bucket(world, bucket))
    training = {**experiment()["spec"]["training"], "seed": 3}
    world.plane.api.post(world.path, of_bucket(world, bucket, "other", training=training))

    def says_why(name: str) -> bool:
        said = "waits for the base's weights: Job pexp-prefetch-"
        return said in str(world.get(name).get("status", {}).get("runs"))

    for name in ("tiny", "other"):
        wait_until(partial(says_why, name), "it says why", 60)
    assert len(prefetches(world)) == 1
    assert all("prefetch" in name for name in world.runner.started)
    (steer / "prefetch.hold").unlink()
    for name in ("tiny", "other"):
        assert world.finished(name, seconds=180)["reason"] == "Succeeded"
    assert len(prefetches(world)) == 1
    content = directory_content(world.folder / "files" / "base")
    assert [path.name for path in world.runner.volume.iterdir()] == [weights_name(content)]


def test_a_retry_before_the_round_after_the_end_fetches_them_again(
    world: World, controller: Start, bucket: str
) -> None:
    world.busy_seconds = 30.0  # after the end, no round comes by itself before the retry
    right = (world.folder / "files" / "base" / "config.json").read_bytes()
    open_store(bucket).put("config.json", b"{}")
    controller()
    world.plane.api.post(world.path, of_bucket(world, bucket))
    assert world.finished(seconds=120)["reason"] == "Failed"
    [failed] = prefetches(world)
    open_store(bucket).put("config.json", right)
    world.plane.api.patch(f"{world.path}/tiny", {"metadata": {"annotations": {"potstill.dev/retry": "now"}}})
    wait_until(lambda: failed not in (found := prefetches(world)) and len(found) == 1, "another Job fetches them", 120)


def test_wrong_weights_end_the_experiment_and_it_continues_after_their_correction(
    world: World, controller: Start, bucket: str
) -> None:
    right = (world.folder / "files" / "base" / "config.json").read_bytes()
    open_store(bucket).put("config.json", b"{}")
    controller()
    world.plane.api.post(world.path, of_bucket(world, bucket))
    assert world.finished(seconds=120)["reason"] == "Failed"
    assert "which the experiment states" in world.condition("TrainingComplete")["message"]
    [failed] = prefetches(world)
    open_store(bucket).put("config.json", right)
    world.plane.api.patch(f"{world.path}/tiny", {"metadata": {"annotations": {"potstill.dev/retry": "now"}}})
    wait_until(lambda: world.condition("Finished").get("reason") == "Succeeded", "it succeeds", 180)
    assert prefetches(world) != [failed]
