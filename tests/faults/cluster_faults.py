"""What each kind of fault does to a cluster. A fault that lasts is undone when its block ends."""

import random
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.cluster.harness import ApiRefusedError, ControlPlane
from tests.cluster.harness.api import Object
from tests.faults.cluster_stack import NAME, SETTINGS, ClusterRun, ClusterStack
from tests.faults.faults import of_s3, paused, send
from tests.faults.lab import Program
from tests.faults.schedules import Fault

CONTROL_PLANE = ("API", "etcd")
OF_THE_EXPERIMENT = ("create", "suspend", "retry")


class FaultyRun(ClusterRun):
    def has_target(self, kind: str) -> bool:
        return has_target(self.stack, kind)

    def fault(self, fault: Fault, chance: random.Random) -> AbstractContextManager[None]:
        return cluster_fault(self.stack, fault, chance)


def has_target(stack: ClusterStack, kind: str) -> bool:
    verb, _, what = kind.partition(" ")
    is_up = stack.plane.apiserver.running and stack.plane.etcd.running
    if verb == "S3":
        return what not in ("restart", "killed", "pause") or stack.s3.server.process.running
    if kind == "controller manager killed":
        return stack.plane.controller_manager.running
    if verb in CONTROL_PLANE:
        return is_up
    if verb in OF_THE_EXPERIMENT:
        return is_up and stack.experiment() is not None
    if what == "controller" or kind == "other settings":
        return bool(pids_of(stack.controller))
    if verb == "kill":
        return bool(stack.live(f"workloads.{what}"))
    if verb in ("delete", "evict"):
        return is_up and bool(stack.running_pods(role_of(what)))
    return True


def role_of(program: str) -> str:
    """What the label of a program's pods says."""
    return {"evaluate": "generate"}.get(program, program)


@contextmanager
def cluster_fault(stack: ClusterStack, fault: Fault, chance: random.Random) -> Iterator[None]:
    verb, _, what = fault.kind.partition(" ")
    if verb == "S3":
        with of_s3(stack.s3, what, chance):
            yield
        return
    match fault.kind:
        case "API server restart" | "API server killed":
            stack.plane.apiserver.stop(signal.SIGTERM if what.endswith("restart") else signal.SIGKILL)
            yield
            bring_back(stack.plane)
        case "etcd killed":
            stack.plane.etcd.stop(signal.SIGKILL)
            yield
            bring_back(stack.plane)
        case "controller manager killed":
            stack.plane.controller_manager.stop(signal.SIGKILL)
            yield
            stack.plane.controller_manager.start(lambda: True)
        case "pause controller":
            with paused(pids_of(stack.controller)):
                yield
        case "second controller":
            second = stack.run_controller()
            stack.others.append(second)
            yield
            second.signal(signal.SIGTERM)
        case "other settings":
            with replaced(stack):
                yield
        case "suspend":
            suspend(stack, True)
            yield
            suspend(stack, False)
        case _:
            at_once(stack, fault.kind, chance)
            yield


def at_once(stack: ClusterStack, kind: str, chance: random.Random) -> None:
    verb, _, what = kind.partition(" ")
    match kind:
        case "kill controller":
            send(pids_of(stack.controller), signal.SIGKILL)
        case "stop controller":
            send(pids_of(stack.controller), signal.SIGTERM)
        case "create again":
            stack.answered(lambda: stack.plane.api.delete(f"{stack.path}/{NAME}"))
            stack.apply()
        case "retry beside":
            kubeconfig = str(stack.plane.kubeconfig())
            words = ("retry", NAME, "--cluster", "--namespace", stack.namespace, "--kubeconfig", kubeconfig)
            stack.others.append(stack.potstill(*words))
        case "gc beside":
            stack.others.append(stack.potstill("gc", stack.url, "--older-than", "1h", "--delete"))
        case _ if verb == "kill":
            send(stack.live(f"workloads.{what}"), signal.SIGKILL)
        case _:
            pod = chance.choice(sorted(stack.running_pods(role_of(what))) or [""])
            with suppress(ApiRefusedError):  # it has ended meanwhile
                remove_pod(stack, pod, evict=verb == "evict")


def remove_pod(stack: ClusterStack, name: str, *, evict: bool) -> None:
    """Deletes a pod as `kubectl delete pod` does, or with `evict` as `kubectl drain` does."""
    path = f"/api/v1/namespaces/{stack.namespace}/pods/{name}"
    body: Object = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if evict:
        stack.answered(lambda: stack.plane.api.post(f"{path}/eviction", body))
    else:
        stack.answered(lambda: stack.plane.api.delete(path))


@contextmanager
def replaced(stack: ClusterStack) -> Iterator[None]:
    """Starts a controller with other settings, then ends the previous one with SIGTERM, like `helm upgrade`."""
    before = stack.controller
    assert before is not None
    stack.settings = (stack.settings + 1) % len(SETTINGS)
    stack.controller = stack.run_controller()
    stack.others.append(before)
    yield
    before.signal(signal.SIGTERM)


def suspend(stack: ClusterStack, wanted: bool) -> None:
    def patch() -> Object:
        return stack.plane.api.patch(f"{stack.path}/{NAME}", {"spec": {"suspend": wanted}})

    stack.answered(patch, again=(404,))


def bring_back(plane: ControlPlane) -> None:
    """Both, whichever is down: an API server does not become ready without etcd."""
    if not plane.etcd.running:
        plane.start_etcd()
    if not plane.apiserver.running:
        plane.start_apiserver()
    plane.wait_ready()


def pids_of(program: Program | None) -> list[int]:
    return [program.pid] if program is not None and program.poll() is None else []
