"""A whole Kubernetes of one node on this machine: the control plane, containerd, a kubelet, kube-proxy, CoreDNS, a bridge network.

It needs root, and Debian for its packages. Its processes end with it; images and layers stay in the cache.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster.harness import ControlPlane, control_plane
from tests.cluster.harness.audit import JOB_CREATIONS
from tests.node.containerd import SOCKET, Containerd
from tests.node.images import REGISTRY, Image, make_room, pause_image, push
from tests.node.machine import (
    NODE_ADDRESS,
    POD_NETWORK,
    RUN,
    call,
    install_packages,
    make_bridge,
    remove_bridge,
    unmount_below,
)
from tests.tools.processes import Server, free_port, listening, wait_until
from tests.tools.programs import cache_folder, program

NAME = "node-1"
PODS = RUN / "kubelet"
REGISTRY_BYTES = 20 << 30
"""The registry is emptied when it is larger than this."""
COREFILE = """.:53 {{
    bind {address}
    errors
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
    }}
    forward . /etc/resolv.conf
}}
"""


class Node:
    """`plane`: the cluster's API and kubeconfigs. `publish(images)`: what its pods may run."""

    def __init__(self, plane: ControlPlane, containerd: Containerd) -> None:
        folder = plane.folder
        self.plane = plane
        self.containerd = containerd
        kubernetes = str(program("kubernetes"))
        kubelet_config = folder / "kubelet.json"
        kubelet_config.write_text(json.dumps(_kubelet_config(folder)))
        self.kubelet = Server(
            [
                kubernetes,
                "kubelet",
                f"--config={kubelet_config}",
                f"--kubeconfig={plane.kubeconfig(f'system:node:{NAME}')}",
                f"--root-dir={PODS}",
                f"--cert-dir={folder}/kubelet-certificates",
                f"--hostname-override={NAME}",
                f"--node-ip={NODE_ADDRESS}",
            ],
            folder / "kubelet.log",
        )
        self._proxy_health_port = free_port()
        self.proxy = Server(
            [
                kubernetes,
                "kube-proxy",
                f"--kubeconfig={plane.kubeconfig('system:kube-proxy')}",
                "--proxy-mode=iptables",
                "--conntrack-max-per-core=0",
                f"--hostname-override={NAME}",
                f"--cluster-cidr={POD_NETWORK}",
                f"--healthz-bind-address=127.0.0.1:{self._proxy_health_port}",
                f"--metrics-bind-address=127.0.0.1:{free_port()}",
            ],
            folder / "kube-proxy.log",
        )

        corefile = folder / "Corefile"
        corefile.write_text(COREFILE.format(address=NODE_ADDRESS, kubeconfig=plane.kubeconfig()))
        self.names = Server([str(program("coredns")), "-conf", str(corefile)], folder / "coredns.log")

    def start(self) -> None:
        self.names.start(lambda: listening(53, NODE_ADDRESS))
        self.kubelet.start(self.ready, deadline_seconds=60)
        self.proxy.start(lambda: listening(self._proxy_health_port))

    def ready(self) -> bool:
        """Returns whether the node accepts pods."""
        found = [node for node in self.plane.api.items("/api/v1/nodes") if node["metadata"]["name"] == NAME]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in found
            for condition in node["status"].get("conditions", [])
        ) and not any("taints" in node["spec"] for node in found)

    def publish(self, images: list[Image]) -> list[str]:
        """Publishes these images and removes the previous ones. Returns the references by digest for pods."""
        references = [push(image) for image in images]
        self.containerd.forget_others(references)
        return references

    def wait_for_job(self, namespace: str, name: str, deadline_seconds: float = 300) -> None:
        """Waits until it has completed.

        Raises:
            AssertionError: it failed; the message holds its pods and their logs.
            NotInTimeError: it did neither.
        """
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"

        def ends() -> list[str]:
            conditions = self.plane.api.get(path).get("status", {}).get("conditions", [])
            return [condition["type"] for condition in conditions if condition["type"] in {"Complete", "Failed"}]

        if wait_until(ends, f"the end of Job {name}", deadline_seconds) != ["Complete"]:
            said = self.plane.kubectl("describe", "pods", "-l", f"job-name={name}", namespace=namespace)
            printed = self.plane.kubectl("logs", f"job/{name}", "--all-containers", namespace=namespace)
            raise AssertionError(f"Job {name} failed:\n{said}\n{printed}")

    def stop(self) -> None:
        self.kubelet.stop()
        self.proxy.stop()
        self.names.stop()


def _registry(folder: Path) -> Server:
    """A container registry for this machine, with the layers of previous runs."""
    layers = cache_folder() / "node" / "registry"
    if layers.exists() and sum(file.stat().st_size for file in layers.rglob("*")) > REGISTRY_BYTES:
        shutil.rmtree(layers)
    layers.mkdir(parents=True, exist_ok=True)
    return Server([str(program("registry")), REGISTRY, str(layers)], folder / "registry.log")


def _kubelet_config(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": NODE_ADDRESS,
        "port": free_port(),
        "readOnlyPort": 0,
        "healthzPort": 0,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": f"{folder}/pods",
        "registerWithTaints": [],
        "syncFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,
        "nodeStatusUpdateFrequency": "4s",
    }


@contextmanager
def one_node() -> Iterator[Node]:
    """A running cluster of one node. Its logs are in the control plane's folder, and are kept or removed with it.

    Raises:
        PermissionError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("a node needs root: containerd, a kubelet and network rules")
    install_packages()
    RUN.mkdir(exist_ok=True)
    with _alone(), ExitStack() as stack:
        make_room()
        remove_bridge()
        stack.callback(remove_bridge)
        make_bridge()
        audited = control_plane(NODE_ADDRESS, advertised=NODE_ADDRESS, node=NAME, audit=JOB_CREATIONS)
        plane = stack.enter_context(audited)
        registry = _registry(plane.folder)
        stack.callback(registry.stop)
        registry.start(lambda: listening(int(REGISTRY.rpartition(":")[2])))
        containerd = Containerd(plane.folder, push(pause_image()))
        stack.callback(containerd.stop)
        containerd.start()
        unmount_below([PODS])
        shutil.rmtree(PODS, ignore_errors=True)
        stack.callback(unmount_below, [PODS])
        node = Node(plane, containerd)
        stack.callback(call, program("kubernetes"), "kube-proxy", "--cleanup")
        stack.callback(node.stop)
        node.start()
        yield node


@contextmanager
def _alone() -> Iterator[None]:
    """Only one node can run at a time on a machine: a second caller waits."""
    with (RUN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
