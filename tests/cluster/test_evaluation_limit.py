"""The limit on evaluation pods of a namespace holds at every moment, is shared in turn, and is shown in the status.

The control plane is real.

Pods run tests/controller/tiny_program.py; `generate.hold` makes evaluations wait.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.executors.kubernetes.api import connect
from controller.executors.kubernetes.informer import Reflector
from controller.executors.kubernetes.namespace_controller import Controller
from tests.cluster.harness import ApiProxy, ControlPlane
from tests.cluster.world import PACE, World, experiment
from tests.tools.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long]
Start = Callable[[], Controller]
NAMES = ("ash", "birch", "cedar")


@pytest.fixture
def program(tiny: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    return tiny


class Seen:
    """The Experiments whose evaluations ran, after each change of a Job or a pod.

    It watches the API server itself, so it does not depend on the controller.
    """

    def __init__(self, world: World) -> None:
        api = connect(world.plane.kubeconfig())
        paths = (f"/apis/batch/v1/namespaces/{world.namespace}/jobs", f"/api/v1/namespaces/{world.namespace}/pods")
        selector = "potstill.dev/role=generate"
        self._copies = [Reflector(api, path, self._look, selector, PACE) for path in paths]
        self.moments: list[list[list[str]]] = []

    def start(self) -> None:
        for copy in self._copies:
            copy.start()
            assert copy.wait_synced(30)

    def stop(self) -> None:
        for copy in self._copies:
            copy.stop()

    def _look(self, _: Any) -> None:
        live = [[_experiment(i) for i in copy.objects().values() if not _ended(i)] for copy in self._copies]
        self.moments.append(live)

    def at_work(self) -> list[str]:
        """By the Jobs, now."""
        return sorted(_experiment(i) for i in self._copies[0].objects().values() if not _ended(i))

    def most(self) -> int:
        return max(len(live) for moment in self.moments for live in moment)

    def turns(self) -> list[str]:
        """Whose Job ran, in the order of their turns, with a limit of one."""
        one_by_one = [jobs[0] for jobs, _ in self.moments if jobs]
        return [name for before, name in zip(["", *one_by_one], one_by_one, strict=False) if name != before]


def _experiment(item: dict[str, Any]) -> str:
    return str(item["metadata"]["labels"]["potstill.dev/experiment"])


def _ended(item: dict[str, Any]) -> bool:
    status = item.get("status", {})
    ends = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    return bool(ends & {"Complete", "Failed"}) or status.get("phase") in {"Succeeded", "Failed"}


@pytest.fixture
def seen(world: World) -> Iterator[Seen]:
    seen = Seen(world)
    seen.start()
    yield seen
    seen.stop()


@pytest.fixture
def held(steer: Path) -> Path:
    """Evaluations wait until this file is gone."""
    (steer / "generate.hold").touch()
    return steer / "generate.hold"


def apply(world: World, name: str) -> None:
    """Experiments that share no unit: of different seeds and budgets."""
    number = NAMES.index(name)
    spec = experiment()["spec"]
    training = {**spec["training"], "seed": number}
    evaluation = {**spec["evaluation"], "budgets": [8, 16 + number]}
    world.plane.api.post(
        world.path, experiment(training=training, evaluation=evaluation) | {"metadata": {"name": name}}
    )


def says(world: World, name: str) -> str:
    """What holds its evaluations back; "" if nothing does."""
    told = world.condition("EvaluationsComplete", name)
    return str(told["message"]) if told.get("reason") == "LimitReached" else ""


def told(world: World, reason: str) -> set[str]:
    """Returns the names of the Experiments that have an Event with this reason."""
    events = world.plane.api.items(f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events")
    return {event["regarding"]["name"] for event in events if event["reason"] == reason}


def waits(world: World, name: str) -> None:
    wait_until(lambda: says(world, name), f"{name} says what it waits for", 60)


def works(seen: Seen, *names: str) -> None:
    wait_until(lambda: seen.at_work() == sorted(names), f"evaluations of {names} are running", 60)


def test_three_experiments_share_one_evaluation_pod_in_turn_and_those_that_wait_say_so(
    world: World, controller: Start, seen: Seen, held: Path
) -> None:
    """Each is called when its turn comes: there is no other look at it within minutes."""
    world.evaluation_pods, world.busy_seconds = 1, 300.0
    first = controller()
    apply(world, "ash")
    works(seen, "ash")
    for name in ("birch", "cedar"):
        apply(world, name)
        waits(world, name)
    limit = "the namespace's limit of evaluation pods is 1, used by ash (1)"
    assert says(world, "birch") == f"0 of 3 evaluations done, 0 failed; 1 ready: {limit}"
    assert says(world, "cedar").endswith(f"{limit}; 1 waited longer")
    wait_until(lambda: told(world, "LimitReached") >= {"birch", "cedar"}, "events tell it too", 30)
    held.unlink()
    wait_until(lambda: len(seen.turns()) >= 3, "each had its turn", 60)
    assert seen.turns()[:3] == list(NAMES)
    first.stop()
    world.busy_seconds = 1.0
    controller()
    for name in NAMES:
        assert world.finished(name, seconds=150)["reason"] == "Succeeded"
    assert seen.most() == 1


def test_applied_at_once_they_have_as_many_pods_as_the_limit_and_never_more(
    world: World, controller: Start, seen: Seen, held: Path
) -> None:
    world.evaluation_pods = 2
    for name in NAMES:
        apply(world, name)
    controller()
    wait_until(lambda: sum(bool(says(world, name)) for name in NAMES) == 1, "one of them waits", 60)
    held.unlink()
    for name in NAMES:
        assert world.finished(name, seconds=150)["reason"] == "Succeeded"
    assert seen.most() == 2


def test_a_pod_counts_before_its_job_is_seen_and_through_outages(
    world: World, controller: Start, seen: Seen, held: Path, plane: ControlPlane, proxy: ApiProxy
) -> None:
    """The watch of Jobs sends nothing, so no controller sees the Jobs of another."""
    world.kubeconfig = plane.kubeconfig(url=proxy.url)
    world.evaluation_pods = 1
    started = controller()
    wait_until(lambda: not started.unready(), "the controller is ready", 60)
    proxy.silence("jobs.*watch=true")
    apply(world, "ash")
    works(seen, "ash")
    for name in ("birch", "cedar"):
        apply(world, name)
        waits(world, name)
    proxy.heal()
    proxy.answer(500, pattern="POST .*jobs", times=3)
    held.unlink()
    wait_until(lambda: len(seen.turns()) >= 2, "another has its turn", 60)
    proxy.expire_watches()
    proxy.cut()
    for name in NAMES:
        assert world.finished(name, seconds=150)["reason"] == "Succeeded"
    assert seen.most() == 1


def test_a_lowered_limit_ends_nothing_and_what_is_deleted_or_suspended_makes_room(
    world: World, controller: Start, seen: Seen, held: Path
) -> None:
    world.evaluation_pods = 2
    first = controller()
    for name in ("ash", "birch"):
        apply(world, name)
    works(seen, "ash", "birch")
    first.stop()
    world.evaluation_pods = 1
    controller()
    apply(world, "cedar")
    waits(world, "cedar")
    assert seen.at_work() == ["ash", "birch"]
    world.plane.api.delete(f"{world.path}/ash")
    works(seen, "birch")
    wait_until(lambda: "used by birch (1)" in says(world, "cedar"), "cedar waits for birch alone", 60)
    world.plane.api.patch(f"{world.path}/birch", {"spec": {"suspend": True}})
    works(seen, "cedar")
    world.plane.api.patch(f"{world.path}/birch", {"spec": {"suspend": False}})
    waits(world, "birch")
    held.unlink()
    for name in ("birch", "cedar"):
        assert world.finished(name, seconds=150)["reason"] == "Succeeded"
