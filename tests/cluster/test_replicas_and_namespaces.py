"""One release with several pods, of which one works, and one release for several namespaces."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.namespace_controller import Controller
from controller.executors.kubernetes.namespace_lease import LeaderLease
from tests.cluster.harness import ApiProxy, ControlPlane
from tests.cluster.unhappy import SECONDS, Place
from tests.cluster.world import LEASE, PACE, World, experiment
from tests.tools.processes import free_port, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def controller(world: World, leader: LeaderLease | None = None, metrics: Metrics | None = None) -> Controller:
    return Controller(
        connect(world.kubeconfig or world.plane.kubeconfig()),
        world.store,
        {"default": world.profile},
        world.namespace,
        pace=PACE,
        busy_seconds=1.0,
        lease_pace=LEASE,
        leader=leader,
        metrics=metrics,
    )


@contextmanager
def replica(world: World, pod: str) -> Iterator[tuple[Controller, LeaderLease]]:
    """A started controller of the release's pod `pod`."""
    leader = LeaderLease(connect(world.kubeconfig or world.plane.kubeconfig()), world.namespace, pod, "potstill", LEASE)
    made = controller(world, leader)
    thread = threading.Thread(target=leader.run)
    thread.start()
    made.start()
    try:
        yield made, leader
    finally:
        made.stop()
        leader.stop()
        thread.join()


def post(world: World, name: str, batch_size: int = 4) -> None:
    """Experiments of one `batch_size` share their training."""
    training = {"lora": {"rank": 4, "alpha": 8, "target": ["attention"]}, "batchSize": batch_size}
    world.plane.api.post(world.path, experiment(training=training) | {"metadata": {"name": name}})


def jobs_of(world: World, name: str) -> list[str]:
    items = world.plane.api.items(f"/apis/batch/v1/namespaces/{world.namespace}/jobs")
    return [job["metadata"]["name"] for job in items if job["metadata"]["labels"]["potstill.dev/experiment"] == name]


def holder(world: World, lease: str = "potstill-leader-potstill") -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/{lease}"
    return str(world.plane.api.get(path)["spec"].get("holderIdentity", ""))


def test_one_of_two_pods_works_and_the_other_takes_over(where: Place, proxy: ApiProxy) -> None:
    world = where.world
    through = replace(world, kubeconfig=world.plane.kubeconfig(url=proxy.url))
    with replica(world, "first") as (first, leads):
        post(world, "one")
        wait_until(lambda: jobs_of(world, "one"), "the first works", SECONDS)
        with replica(through, "second") as (second, follows):
            wait_until(lambda: not second.unready(), "the second is ready to take over", SECONDS)
            assert (leads.is_held, follows.is_held) == (True, False)
            assert "pod first is the leader" in follows.problem
            assert [r.line for r in proxy.requests if re.match(r"(PATCH|POST) (?!.*leases)", r.line)] == []
            first.stop()
            leads.stop()
            leads.give_up()
            post(world, "two", batch_size=2)
            wait_until(lambda: jobs_of(world, "two"), "the second works", SECONDS)
            assert holder(world) == "second"


def test_a_pod_that_is_lost_is_replaced_when_its_lease_has_run_out(plane: ControlPlane, namespace: str) -> None:
    first, second = (LeaderLease(connect(plane.kubeconfig()), namespace, pod, "potstill", LEASE) for pod in ("a", "b"))
    first.renew()

    def taken() -> bool:
        second.renew()
        assert not (first.is_held and second.is_held)
        return second.is_held

    wait_until(taken, "the second has it", SECONDS)


def test_one_release_serves_several_namespaces(where: Place) -> None:
    worlds = [where.world, replace(where.world, namespace=where.world.plane.namespace())]
    metrics = Metrics()
    controllers = [controller(world, metrics=metrics) for world in worlds]
    try:
        for made in controllers:
            made.start()
        for number, world in enumerate(worlds, 1):
            post(world, "tiny", batch_size=number)
        for world in worlds:
            wait_until(partial(jobs_of, world, "tiny"), "its Job", SECONDS)
    finally:
        for made in controllers:
            made.stop()
    text = generate_latest(metrics.registry).decode()
    assert text.count("# TYPE potstill_watch_age_seconds") == 1
    for world in worlds:
        assert re.search(rf'potstill_watch_age_seconds{{namespace="{world.namespace}",resource="jobs"}}', text)


def test_the_program_serves_the_namespaces_that_are_named_and_gives_up_its_lease(where: Place, tmp_path: Path) -> None:
    world = where.world
    other = replace(world, namespace=world.plane.namespace())
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    stated = world.profile.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"})
    (profiles / "default.yaml").write_text(json.dumps(stated))
    environment = {
        **os.environ,
        "KUBECONFIG": str(world.plane.kubeconfig()),
        "POTSTILL_STORE": world.store.url,
        "POTSTILL_PROFILES": str(profiles),
        "POTSTILL_NAMESPACE": world.namespace,
        "POTSTILL_NAMESPACES": f"{world.namespace} {other.namespace}",
        "POTSTILL_POD": "pod-0",
        "POTSTILL_HEALTH_PORT": str(free_port()),
    }
    program = subprocess.Popen([sys.executable, "-m", "controller.executors.kubernetes.serve"], env=environment)
    try:
        for number, served in enumerate((world, other), 1):
            post(served, "tiny", batch_size=number)
        for served in (world, other):
            wait_until(partial(jobs_of, served, "tiny"), "its Job", SECONDS)
        assert holder(world) == "pod-0"
        program.send_signal(signal.SIGTERM)
        assert program.wait(SECONDS) == 0
        assert holder(world) == ""
    finally:
        program.kill()
        program.wait()
