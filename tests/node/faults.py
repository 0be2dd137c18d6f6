"""An experiment in real pods under faults of its node, for `tests.faults.drive`."""

import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.harness import ApiRefusedError
from tests.cluster.harness.api import Object
from tests.cluster.harness.audit import created_jobs
from tests.faults.cluster_faults import bring_back
from tests.faults.schedules import Fault
from tests.node.lab import CHART, Lab
from tests.node.machine import CommandFailedError
from tests.node.node import NAME, Node
from tests.node.other_node import other_node
from tests.tools.processes import wait_until

LOOK_SECONDS = 1.0
"""Seconds between two looks at the API server and the store."""
LOST_SECONDS = 180.0
"""The longest time until pods of a lost node are evicted."""
CONTROLLERS = ("-l", "app.kubernetes.io/component=controller")
NO_ANSWER = (ApiRefusedError, urllib3.exceptions.HTTPError, BotoCoreError, ClientError)
"""Errors of the API server, or of the store, whose pod is on the node too."""
DRAIN = (
    "--ignore-daemonsets",
    "--delete-emptydir-data",
    "--force",
    "--pod-selector=app.kubernetes.io/part-of=potstill",
)


class NodeRun:
    """The Experiment `item` in an installed lab."""

    def __init__(self, lab: Lab, item: Object) -> None:
        self._lab = lab
        self._item = item
        self._looked = 0.0
        self._markers = 0
        self._jobs = 0
        self._pods: dict[str, list[str]] = {}

    def begin(self) -> None:
        self._lab.kubectl("apply", "-f", "-", stdin=json.dumps(self._item))

    def is_over(self) -> bool:
        self._look()
        try:
            status: dict[str, Any] = self._lab.experiment().get("status", {})
        except NO_ANSWER:
            return False
        ended = [one for one in status.get("conditions", []) if (one["type"], one["status"]) == ("Finished", "True")]
        assert all(one["reason"] == "Succeeded" for one in ended), f"it failed: {status}"
        return bool(ended)

    def has_target(self, kind: str) -> bool:
        _, _, what = kind.partition(" ")
        if what in ("train", "evaluate"):
            return bool(self._pods.get(what))
        plane = self._lab.node.plane
        return self._lab.node.kubelet.running and plane.apiserver.running and plane.etcd.running

    def fault(self, fault: Fault, chance: random.Random) -> AbstractContextManager[None]:
        return node_fault(self._lab, fault.kind, self._pods)

    def work(self) -> int:
        """Returns the number of created Jobs and committed markers."""
        self._look()
        return self._jobs + self._markers

    def markers(self) -> int:
        self._look()
        return self._markers

    def settle(self) -> None:
        """Does nothing: no fault starts anything outside the run."""

    def last_words(self) -> str:
        return self._lab.controller_log()[-3000:]

    def _look(self) -> None:
        """Notes the progress. A server that does not answer counts as unchanged."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        with suppress(*NO_ANSWER):
            self._pods = {name: self._lab.pods(name) for name in ("train", "evaluate")}
            self._jobs = len(created_jobs(self._lab.node.plane, self._lab.namespace))
            self._markers = sum("/markers/" in key for key in self._lab.keys("units/"))


@contextmanager
def node_fault(lab: Lab, kind: str, pods: dict[str, list[str]]) -> Iterator[None]:
    """`kind`: one of the cases below; "delete" or "kill" with train or evaluate is for the pods of that program.

    Faults may overlap, and one thread ends them in turn. If the end of one needs the API server, it starts the server.
    """
    node, plane = lab.node, lab.node.plane
    verb, _, what = kind.partition(" ")
    match kind:
        case "kubelet restart":
            node.kubelet.stop(signal.SIGKILL)
            yield
            start_kubelet(node)
        case "containerd killed":
            node.containerd.kill()
            yield
            node.containerd.start_again()
            bring_back(plane)
            wait_until(node.ready, "the node takes pods", 120)
        case "node lost":
            node.kubelet.stop(signal.SIGKILL)
            with other_node(plane.api) as renew:

                def evicted() -> bool:
                    renew()
                    return no_pod_stays(lab)

                wait_until(evicted, "the lost node's pods to be evicted", LOST_SECONDS)
            yield
            start_kubelet(node)
        case "node drain":
            lab.kubectl("drain", NAME, *DRAIN)
            yield
            lab.kubectl("uncordon", NAME)
        case "helm upgrade":
            lab.upgrade(CHART, "--set=controller.logLevel=debug", "--set=controller.evaluationPods=1")
            yield
        case "API server killed":
            plane.apiserver.stop(signal.SIGKILL)
            yield
            bring_back(plane)
        case "etcd killed":
            plane.etcd.stop(signal.SIGKILL)
            yield
            bring_back(plane)
        case "kill controller":
            lab.kubectl("delete", "pod", *CONTROLLERS, "--grace-period=0", "--force")
            yield
        case _ if verb == "delete":
            lab.kubectl("delete", "pod", *pods[what], "--wait=false", "--ignore-not-found")
            yield
        case _:
            kill_containers(lab, pods[what])
            yield


def start_kubelet(node: Node) -> None:
    """Starts it and waits until the node accepts pods. This needs the API server, so a stopped one is started first."""
    bring_back(node.plane)
    node.kubelet.start(node.ready, 120)


def no_pod_stays(lab: Lab) -> bool:
    """Returns whether all of the lab's pods that have not ended are to be deleted."""
    pods = lab.node.plane.api.items(f"/api/v1/namespaces/{lab.namespace}/pods")
    left = [pod for pod in pods if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]
    return not left


def kill_containers(lab: Lab, pods: list[str]) -> None:
    """Kills them with SIGKILL, like the kernel when memory is short."""
    for name in pods:
        with suppress(*NO_ANSWER, CommandFailedError):  # it has ended meanwhile
            pod = lab.node.plane.api.get(f"/api/v1/namespaces/{lab.namespace}/pods/{name}")
            for status in pod["status"]["containerStatuses"]:
                container = status["containerID"].removeprefix("containerd://")
                lab.node.containerd.ctr("tasks", "kill", "--signal", "SIGKILL", container)
