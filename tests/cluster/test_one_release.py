"""A namespace has one release with one store: a second one waits, says for whom, and takes over when the first ends."""

import re
from dataclasses import replace

import pytest

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.namespace_lease import NAME, LeasePace, NamespaceLease
from tests.cluster.harness import ApiProxy, ControlPlane
from tests.cluster.unhappy import SECONDS, Place
from tests.tools.processes import wait_until
from workloads.storage.base import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]
PACE = LeasePace(duration_seconds=3, renew_seconds=0.5, look_seconds=0.2)


def lease(plane: ControlPlane, namespace: str, holder: str) -> NamespaceLease:
    return NamespaceLease(connect(plane.kubeconfig()), namespace, holder, PACE)


def test_a_second_release_does_nothing_and_says_why(where: Place, proxy: ApiProxy) -> None:
    where.start()
    where.apply()
    where.job()
    wait_until(lambda: where.status().get("store"), "a status", SECONDS)
    world = where.world
    other = Place(
        replace(
            world,
            release="other",
            controller_store=open_store(f"{world.store.url}-other"),
            kubeconfig=world.plane.kubeconfig(url=proxy.url),
        )
    )
    try:
        other.start()
        says = f"served by release potstill with {world.store.url}"
        wait_until(lambda: says in other.controllers[0].unready(), "it says who serves the namespace", SECONDS)
        before = world.get()["metadata"]["resourceVersion"]
        world.plane.api.patch(f"{world.path}/tiny", {"metadata": {"annotations": {"look": "again"}}})
        wait_until(lambda: len(other.controllers[0]._watched.experiments.objects()) == 1, "it sees the Experiment")
        assert [r.line for r in proxy.requests if re.match(r"(PATCH|POST) (?!.*leases)", r.line)] == []
        assert world.get()["metadata"]["resourceVersion"] != before
        where.stop()
        wait_until(lambda: not other.controllers[0].unready(), "it takes over", SECONDS)
        wait_until(
            lambda: world.condition("Ready").get("reason") == "StoreChanged", "it leaves the work alone", SECONDS
        )
    finally:
        other.stop()


def test_two_controllers_of_one_release_hold_the_lease_together(plane: ControlPlane, namespace: str) -> None:
    first, second, other = (lease(plane, namespace, holder) for holder in ("a", "a", "b"))
    for one in (first, second, first, second, other):
        one.renew()
    assert [one.is_held for one in (first, second, other)] == [True, True, False]
    assert "served by a, and this is b" in other.problem


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_holder_stops_before(
    plane: ControlPlane, namespace: str
) -> None:
    first, second = lease(plane, namespace, "a"), lease(plane, namespace, "b")
    first.renew()

    def taken() -> bool:
        second.renew()
        assert not (first.is_held and second.is_held)
        return second.is_held

    wait_until(taken, "the second has it")
    spec = plane.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    first.renew()
    assert not first.is_held


def test_without_the_right_to_use_leases_it_works_as_before(plane: ControlPlane, namespace: str) -> None:
    one = NamespaceLease(connect(plane.kubeconfig("researcher")), namespace, "a", PACE)
    one.renew()
    assert (one.is_held, one.problem) == (True, "")
