"""What may happen to an experiment on its way: the control plane, the Jobs and the S3 server are real, the work is small.

Pods run tests/controller/tiny_program.py, which keeps the contract and is steered by files: `train.hold` makes trainings
wait, `train.exit` holds an exit code to end with.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.tools.processes import wait_until
from tests.tools.s3 import FaultProxy, fault_proxy
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Start = Callable[[], Controller]


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


def jobs(world: World, role: str = "") -> list[dict[str, Any]]:
    items = world.plane.api.items(f"/apis/batch/v1/namespaces/{world.namespace}/jobs")
    return [item for item in items if role in item["metadata"]["labels"]["potstill.dev/role"]]


def training(world: World) -> str:
    """The name of the pod that trains, once it does."""

    def running() -> list[str]:
        found = world.plane.api.items(
            f"/api/v1/namespaces/{world.namespace}/pods?labelSelector=potstill.dev/role=train"
        )
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    return wait_until(running, "the training runs", 60)[0]


def ends(world: World) -> list[dict[str, Any]]:
    keys = [info.key for info in world.store.list("units/train/") if info.key.endswith(".end.json")]
    return [json.loads(world.store.get(key)) for key in keys]


def tasks(world: World) -> list[str]:
    return [info.key for info in world.store.list("units/") if re.search(r"tasks/\d+\.json$", info.key)]


def apply(world: World, **spec: Any) -> None:
    world.plane.api.post(world.path, experiment(**spec))


def test_a_controller_that_is_replaced_leaves_what_runs_alone(world: World, controller: Start, held: Path) -> None:
    first = controller()
    apply(world)
    training(world)
    first.stop()
    controller()
    held.unlink()
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    assert len(jobs(world, "train")) == 1


def test_at_its_end_every_task_is_closed_and_every_job_goes_by_itself(world: World, controller: Start) -> None:
    controller()
    apply(world)
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    keys = {info.key for info in world.store.list("units/")}
    assert {key.split("/")[1] for key in tasks(world)} == {"train", "generate", "grade", "report"}
    assert [key for key in tasks(world) if key.replace(".json", ".end.json") not in keys] == []
    assert {job["metadata"]["annotations"].get("potstill.dev/closed") for job in jobs(world)} == {"true"}
    assert {job["spec"].get("ttlSecondsAfterFinished") for job in jobs(world)} == {3600}


def test_a_deleted_training_pod_does_not_count_as_a_failure(world: World, controller: Start, held: Path) -> None:
    controller()
    apply(world)
    name = training(world)
    world.plane.api.delete(f"/api/v1/namespaces/{world.namespace}/pods/{name}?gracePeriodSeconds=5")
    wait_until(lambda: len(jobs(world, "train")) == 2, "the next attempt", 60)
    held.unlink()
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    assert [end["charged"] for end in ends(world)] == [False, False]


def test_suspended_nothing_runs_and_resumed_it_ends_well(world: World, controller: Start, held: Path) -> None:
    controller()
    apply(world)
    training(world)
    world.plane.api.patch(f"{world.path}/tiny", {"spec": {"suspend": True}})
    wait_until(lambda: world.get().get("status", {}).get("phase") == "Suspended", "nothing is running", 60)
    assert not jobs(world)
    assert world.condition("Suspended")["status"] == "True"
    held.unlink()
    world.plane.api.patch(f"{world.path}/tiny", {"spec": {"suspend": False}})
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    assert sorted(end["outcome"] for end in ends(world)) == ["succeeded", "suspended"]


def test_a_finished_experiment_with_failures_continues_after_a_retry(
    world: World, controller: Start, steer: Path
) -> None:
    (steer / "train.exit").write_text("11")
    controller()
    apply(world)
    assert world.finished(seconds=120)["reason"] == "PartiallyFailed", "the base was measured"
    (steer / "train.exit").unlink()
    world.plane.api.patch(f"{world.path}/tiny", {"metadata": {"annotations": {"potstill.dev/retry": "now"}}})
    wait_until(lambda: world.condition("Finished").get("reason") == "Succeeded", "it succeeds", 120)
    assert world.get()["status"]["retried"] == "now"


def test_two_controllers_at_once_do_nothing_twice(world: World, controller: Start) -> None:
    controller()
    controller()
    apply(world)
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    assert all(key.endswith("/1.json") for key in tasks(world))


@contextmanager
def breakable_store(world: World, folder: Path) -> Iterator[FaultProxy]:
    """The controller reaches the store through a proxy, and gives a call up after a second."""
    with fault_proxy(world.server.endpoint, folder) as proxy:
        soon = {"POTSTILL_STORE_DEADLINE_SECONDS": "1"}
        world.controller_store = open_store(
            world.store.url, {**os.environ, **world.server.environment(proxy.url), **soon}
        )
        yield proxy


def store_is_missed(world: World) -> bool:
    ready = world.condition("Ready")
    return (ready.get("status"), ready.get("reason")) == ("Unknown", "StoreUnavailable")


def test_while_the_store_is_away_nothing_is_concluded(
    world: World, controller: Start, held: Path, tmp_path: Path
) -> None:
    with breakable_store(world, tmp_path) as proxy:
        controller()
        apply(world)
        training(world)
        before = tasks(world)
        proxy.cut()
        wait_until(lambda: store_is_missed(world), "the store is missed", 120)
        assert world.condition("Finished")["status"] == "False"
        assert tasks(world) == before
        proxy.heal()
        held.unlink()
        assert world.finished(seconds=180)["reason"] == "Succeeded"


def test_applied_while_the_store_is_away_it_says_so_and_starts_when_the_store_is_back(
    world: World, controller: Start, tmp_path: Path
) -> None:
    with breakable_store(world, tmp_path) as proxy:
        proxy.cut()
        controller()
        apply(world)
        wait_until(lambda: store_is_missed(world), "the store is missed", 120)
        assert not world.condition("Accepted")
        proxy.heal()
        assert world.finished(seconds=180)["reason"] == "Succeeded"


def test_deleted_its_jobs_go_and_its_results_stay(world: World, controller: Start, held: Path) -> None:
    controller()
    apply(world)
    training(world)
    world.plane.api.delete(f"{world.path}/tiny")
    wait_until(lambda: not jobs(world), "the Jobs to go", 60)
    assert list(world.store.list("experiments/tiny/"))


def test_deletion_policy_delete_takes_the_experiments_folder(world: World, controller: Start, held: Path) -> None:
    controller()
    apply(world, deletionPolicy="Delete")
    training(world)
    assert list(world.store.list("experiments/tiny/"))
    world.plane.api.delete(f"{world.path}/tiny")
    wait_until(lambda: not list(world.store.list("experiments/tiny/")), "its folder to go", 60)


def test_a_run_added_to_a_finished_experiment_is_all_that_is_paid_for(world: World, controller: Start) -> None:
    controller()
    apply(world)
    world.finished(seconds=120)
    before = tasks(world)
    runs = experiment()["spec"]["runs"]
    world.plane.api.patch(f"{world.path}/tiny", {"spec": {"runs": [*runs, {**runs[0], "name": "two", "seed": 1}]}})
    wait_until(lambda: world.get()["status"]["training"] == "2/2", "the added run", 120)
    assert world.finished(seconds=120)["reason"] == "Succeeded"
    assert len([key for key in tasks(world) if "/train/" in key]) == 2
    assert set(before) <= set(tasks(world))
    assert world.get()["status"]["revision"] == 2


def test_the_evaluation_lag_and_the_gpu_seconds_are_measured(world: World, controller: Start) -> None:
    started = controller()
    apply(world)
    world.finished(seconds=120)
    labels = {"namespace": world.namespace, "experiment": "tiny"}
    assert started.metrics.registry.get_sample_value("potstill_evaluation_lag_seconds_count", labels) == 2
    assert started.metrics.registry.get_sample_value("potstill_run_gpu_seconds", {**labels, "run": "one"}) == 0
