"""A second node of the cluster, which runs no pods: a Node object with status Ready and no kubelet.

The node lifecycle controller evicts no pods while all nodes of a cluster are lost: it assumes that the fault is its
own. With one node it depends on a race whether it does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from tests.cluster.harness.api import Api, Object

OTHER = "node-2"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@contextmanager
def other_node(api: Api) -> Iterator[Callable[[], None]]:
    """Yields a function that renews the node's lease, to be called more often than the monitor's grace period
    (SOON_LOST).
    """
    api.post("/api/v1/nodes", {"metadata": {"name": OTHER}, "spec": {"unschedulable": True}})
    try:
        ready = {"type": "Ready", "status": "True", "reason": "Said", "message": "", "lastHeartbeatTime": _now()}
        api.patch(f"/api/v1/nodes/{OTHER}/status", {"status": {"conditions": [ready]}})
        api.post(LEASES, {"metadata": {"name": OTHER}, "spec": _held()})
        yield lambda: _renew(api)
    finally:
        api.delete(f"/api/v1/nodes/{OTHER}")
        if api.exists(f"{LEASES}/{OTHER}"):
            api.delete(f"{LEASES}/{OTHER}")


def _renew(api: Api) -> None:
    api.patch(f"{LEASES}/{OTHER}", {"spec": _held()})


def _held() -> Object:
    return {"holderIdentity": OTHER, "leaseDurationSeconds": 8, "renewTime": _now("microseconds")}


def _now(exactly: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=exactly).replace("+00:00", "Z")
