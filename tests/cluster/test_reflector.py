"""The local copy of the API server's objects survives every way in which a watch breaks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.informer import Pace, Reflector
from tests.cluster.harness import ApiProxy, ControlPlane
from tests.tools.processes import wait_until

QUICK = Pace(watch_seconds=60, silent_seconds=2.0, first_seconds=0.05, longest_seconds=0.2)
PATIENT = Pace(watch_seconds=60, silent_seconds=60.0, first_seconds=0.05, longest_seconds=0.2)

WATCH = "configmaps.*watch=true"
"""The requests that watch, and not the LISTs before them."""


class Copy:
    def __init__(self, plane: ControlPlane, proxy: ApiProxy, namespace: str, pace: Pace) -> None:
        self._plane, self.namespace = plane, namespace
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        self.changes: list[str] = []
        self.reflector = Reflector(
            connect(plane.kubeconfig(url=proxy.url)), path, lambda item: self.changes.append(item["metadata"]["name"]),
            selector="test=yes", pace=pace,
        )  # fmt: skip
        self.reflector.start()
        assert self.reflector.wait_synced(30)

    def make(self, name: str, value: str = "1") -> None:
        body: dict[str, Any] = {"metadata": {"name": name, "labels": {"test": "yes"}}, "data": {"value": value}}
        self._plane.api.post(f"/api/v1/namespaces/{self.namespace}/configmaps", body)

    def remove(self, name: str) -> None:
        self._plane.api.delete(f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")

    def sees(self, *names: str) -> None:
        wait_until(lambda: sorted(n for _, n in self.reflector.objects()) == sorted(names), f"the copy holds {names}")


@pytest.fixture
def copy(plane: ControlPlane, proxy: ApiProxy, namespace: str) -> Iterator[Callable[[Pace], Copy]]:
    made: list[Copy] = []

    def start(pace: Pace) -> Copy:
        made.append(Copy(plane, proxy, namespace, pace))
        return made[-1]

    yield start
    for each in made:
        each.reflector.stop()


def test_objects_that_come_and_go_are_seen(copy: Callable[[Pace], Copy]) -> None:
    seen = copy(PATIENT)
    seen.make("a")
    seen.make("b")
    seen.sees("a", "b")
    seen.remove("a")
    seen.sees("b")
    assert set(seen.changes) == {"a", "b"}


def test_a_cut_connection_is_made_again(copy: Callable[[Pace], Copy], proxy: ApiProxy) -> None:
    seen = copy(PATIENT)
    wait_until(lambda: proxy.open_streams(WATCH), "a watch is open")
    proxy.cut(WATCH)
    wait_until(lambda: seen.reflector.breaks, "the break is noticed")
    seen.make("after")
    seen.sees("after")


def test_changes_during_an_outage_of_the_api_server_are_seen_afterwards(
    copy: Callable[[Pace], Copy], proxy: ApiProxy
) -> None:
    seen = copy(PATIENT)
    seen.make("before")
    seen.sees("before")
    proxy.refuse()
    proxy.cut()
    seen.make("during")
    seen.remove("before")
    proxy.heal()
    seen.sees("during")
    assert "before" in seen.changes


def test_a_connection_that_goes_silent_is_given_up(copy: Callable[[Pace], Copy], proxy: ApiProxy) -> None:
    seen = copy(QUICK)
    wait_until(lambda: proxy.open_streams(WATCH), "a watch is open")
    proxy.silence("configmaps")
    seen.make("unheard")
    wait_until(lambda: seen.reflector.breaks >= 1, "the silence was noticed")
    proxy.heal()
    seen.sees("unheard")


def test_a_version_that_the_server_forgot_is_listed_again(copy: Callable[[Pace], Copy], proxy: ApiProxy) -> None:
    seen = copy(PATIENT)
    wait_until(lambda: proxy.open_streams(WATCH), "a watch is open")
    assert proxy.expire_watches("configmaps") == 1
    seen.make("later")
    seen.sees("later")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_errors_are_retried(copy: Callable[[Pace], Copy], proxy: ApiProxy, status: int) -> None:
    seen = copy(PATIENT)
    wait_until(lambda: proxy.open_streams(WATCH), "a watch is open")
    proxy.answer(status, "configmaps", times=3)
    proxy.cut(WATCH)
    seen.make("through")
    seen.sees("through")


def test_a_restart_of_the_api_server_is_survived(copy: Callable[[Pace], Copy], plane: ControlPlane) -> None:
    seen = copy(PATIENT)
    seen.make("old")
    seen.sees("old")
    plane.stop_apiserver()
    plane.start_apiserver()
    seen.make("new")
    seen.sees("new", "old")
