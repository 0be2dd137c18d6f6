"""A controller makes few requests to the API server and the store while nothing happens, and reacts at once to changes.

Requests are counted on a real control plane and a real S3 server. Pods run the tiny program, which waits and writes no
notices, like an older program; the tests write them.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.world import World, experiment
from tests.controller.tiny_program import commit
from tests.storage.http_proxy import HttpProxy, http_proxy
from tests.tools.processes import wait_until
from workloads.api import store_keys
from workloads.api.records import CheckpointRecord
from workloads.api.units import UnitRef
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Start = Callable[[], Controller]
CALM = 12
"""The cluster is quiet when this many looks in a row see the same."""


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


@pytest.fixture
def requests(world: World, steer: Path) -> Iterator[HttpProxy]:
    """The controller's requests to the S3 server. Nothing that is started ends."""
    for kind in ("train", "generate"):
        (steer / f"{kind}.hold").touch()
    with http_proxy(world.server.endpoint) as proxy:
        world.controller_store = open_store(world.store.url, {**os.environ, **world.server.environment(proxy.url)})
        yield proxy


def lists(proxy: HttpProxy, prefix: str) -> int:
    with proxy.lock:
        paths = [unquote(seen.path) for seen in proxy.seen if "list-type=2" in seen.path]
    return sum(f"/{prefix}" in path.partition("prefix=")[2].partition("&")[0] for path in paths)


def rounds(controller: Controller) -> int:
    values = (
        controller.metrics.registry.get_sample_value(
            "controller_runtime_reconcile_total", {"controller": "experiment", "result": result}
        )
        for result in ("success", "error")
    )
    return int(sum(value or 0 for value in values))


def calm(read: Callable[[], int], what: str) -> int:
    seen: list[int] = []

    def same() -> bool:
        seen.append(read())
        return len(seen) >= CALM and len(set(seen[-CALM:])) == 1

    wait_until(same, what, 120)
    return seen[-1]


def running(world: World) -> list[dict[str, Any]]:
    pods = world.plane.api.items(f"/api/v1/namespaces/{world.namespace}/pods")
    return [pod for pod in pods if pod["status"].get("phase") == "Running"]


def tasks(world: World) -> list[tuple[UnitRef, int]]:
    found = (re.fullmatch(r"units/(\w+)/(\w+)/tasks/(\d+)\.json", info.key) for info in world.store.list("units/"))
    return [(UnitRef(kind=m[1], digest=m[2]), int(m[3])) for m in found if m]


def notify(world: World, unit: UnitRef, number: int, about: str) -> None:
    world.store.put(store_keys.notice_key(unit, number), about.encode())


def test_a_status_that_is_written_starts_no_round_and_an_edit_starts_one(
    world: World, controller: Start, requests: HttpProxy
) -> None:
    world.busy_seconds = 3600.0
    started = controller()
    world.plane.api.post(world.path, experiment())
    wait_until(lambda: len(running(world)) == 2, "the training and the base's evaluation run", 120)
    before = calm(lambda: rounds(started), "no round is made any more")
    for phase in ("Odd", "Odder"):
        world.plane.api.patch(f"{world.path}/tiny/status", {"status": {"phase": phase}})
    world.plane.api.patch(f"{world.path}/tiny", {"spec": {"limits": {"attempts": 7}}})
    wait_until(lambda: world.get()["status"]["observedGeneration"] == 2, "the edit is seen", 60)
    assert calm(lambda: rounds(started), "no round is made any more") == before + 1


def test_with_notices_a_quiet_experiment_costs_no_list_and_a_commit_is_seen(
    world: World, controller: Start, requests: HttpProxy
) -> None:
    world.busy_seconds = 0.3
    controller()
    world.plane.api.post(world.path, experiment())
    wait_until(lambda: len(running(world)) == 2, "the training and the base's evaluation run", 120)
    for unit, number in tasks(world):
        notify(world, unit, number, "started")
    calm(lambda: lists(requests, "units/"), "no unit is listed any more")
    units, notices = lists(requests, "units/"), lists(requests, "notices/")
    wait_until(lambda: lists(requests, "notices/") >= notices + 5, "notices are listed", 60)
    assert lists(requests, "units/") == units
    (train,) = (unit for unit, _ in tasks(world) if unit.kind == "train")
    files = {"adapter_model.safetensors": "", "adapter_config.json": "{}"}
    record = CheckpointRecord(samples=12, step=3)
    commit(world.store, train, 1, store_keys.checkpoint_marker(12), files, record)
    notify(world, train, 1, "checkpoint")
    wait_until(lambda: len([unit for unit, _ in tasks(world) if unit.kind == "generate"]) == 2, "its evaluation", 60)


def test_without_notices_units_at_work_are_listed_again_and_again(
    world: World, controller: Start, requests: HttpProxy
) -> None:
    world.busy_seconds = 0.3
    controller()
    world.plane.api.post(world.path, experiment())
    wait_until(lambda: len(running(world)) == 2, "the training and the base's evaluation run", 120)
    before = lists(requests, "units/train/")
    wait_until(lambda: lists(requests, "units/train/") >= before + 5, "the training's unit is listed", 60)
    (train,) = (unit for unit, _ in tasks(world) if unit.kind == "train")
    files = {"adapter_model.safetensors": "", "adapter_config.json": "{}"}
    commit(world.store, train, 1, store_keys.checkpoint_marker(12), files, CheckpointRecord(samples=12, step=3))
    wait_until(lambda: len([unit for unit, _ in tasks(world) if unit.kind == "generate"]) == 2, "its evaluation", 60)


def gets_of_experiments(world: World) -> int:
    lines = world.plane.api.text("/metrics").splitlines()
    wanted = (line for line in lines if line.startswith("apiserver_request_total{"))
    return sum(
        int(float(line.split()[-1])) for line in wanted if 'resource="experiments"' in line and 'verb="GET"' in line
    )


def test_who_shares_a_unit_is_looked_up_in_the_copy(world: World, controller: Start, requests: HttpProxy) -> None:
    """The base's evaluation is one for both: who comes second waits, and asks in each round whether the first is there."""
    world.busy_seconds = 0.3
    started = controller()
    for name, seed in (("tiny", 0), ("other", 1)):
        body = experiment()
        body["metadata"]["name"], body["spec"]["runs"][0]["seed"] = name, seed
        world.plane.api.post(world.path, body)
    wait_until(lambda: len(running(world)) == 3, "two trainings and one evaluation run", 120)
    gets, before = gets_of_experiments(world), rounds(started)
    wait_until(lambda: rounds(started) >= before + 40, "rounds are made", 60)
    assert gets_of_experiments(world) - gets < 10, "all that are made are of Kubernetes' own garbage collector"
