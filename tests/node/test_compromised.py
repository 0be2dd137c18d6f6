"""The power of a compromised pod: the controller's pods, unchanged, with a hostile program in each container.

SECURITY.md describes it. tests/storage/test_s3_policy.py tests the power of a namespace's keys on the server.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.executors.kubernetes.jobs import build_job
from controller.experiment.profile import Profile
from tests.kubernetes.tasks import FROZEN, REFERENCE, generate_task, grade_task, report_task, train_task
from tests.node.node import Node
from tests.node.s3 import ClusterS3
from tests.node.test_node import RESTRICTED
from workloads.api.tasks import RunnableTask

PROBE = r"""
import ctypes, glob, json, os, socket, ssl, urllib.error, urllib.request

def attempt(call):
    try:
        return call() or "done"
    except BaseException as error:
        return type(error).__name__

def api_server():
    address = "https://%s:%s/api/v1/secrets" % (os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"])
    try:
        return urllib.request.urlopen(address, timeout=5, context=ssl._create_unverified_context()).status
    except urllib.error.HTTPError as error:
        return error.code

def environments():
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found.append(open(path, "rb").read().decode())
        except OSError:
            pass
    return "".join(found)

def read(path):
    return open(path).read()

libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
print(json.dumps({
    "user": os.getuid(),
    "capabilities": int(status["CapEff"], 16),
    "no new privileges": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "writable": [path for path in ("/", "/etc", "/usr", "/opt/potstill", "/root", "/var/run", "/etc/potstill") if os.access(path, os.W_OK)],
    "host files": [path for path in ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/host", "/var/lib/kubelet") if os.path.exists(path)],
    "service account token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    "secrets of the API server": attempt(api_server),
    "key files": sorted(os.path.basename(path) for path in glob.glob("/etc/potstill/*/AWS_*")),
    "key in an environment": "AWS_SECRET_ACCESS_KEY" in environments() or "planted" in environments(),
    "change the keys": attempt(lambda: open("/etc/potstill/store-keys/AWS_ACCESS_KEY_ID", "w")),
    "become root": attempt(lambda: os.setuid(0)),
    "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "processes": len(glob.glob("/proc/[0-9]*")),
    "disk devices": [path for path in glob.glob("/dev/*") if os.path.basename(path).startswith(("sd", "vd", "nvme", "kmsg", "mem"))],
}))
"""
TASKS: dict[str, Callable[[], RunnableTask]] = {
    "train": train_task,
    "generate": generate_task,
    "report": report_task,
    "grade": grade_task,
}
TRUSTED = [("train", "train"), ("generate", "evaluate"), ("report", "report"), ("grade", "fetch"), ("grade", "compare")]
UNTRUSTED = [("grade", "execute")]


@pytest.fixture(scope="module")
def told(node: Node, s3: ClusterS3, image: Callable[[str], str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The output of the program in each container, by the Job's role and the container's name."""
    namespace = node.plane.namespace(labels=RESTRICTED)
    path = f"/api/v1/namespaces/{namespace}"
    node.plane.api.post(f"{path}/serviceaccounts", {"metadata": {"name": "potstill-workloads"}})
    keys = {name: value for name, value in s3.environment().items() if name.endswith(("KEY_ID", "ACCESS_KEY"))}
    node.plane.api.post(f"{path}/secrets", {"metadata": {"name": "store"}, "stringData": keys})
    node.plane.api.post(f"{path}/secrets", {"metadata": {"name": "hub"}, "stringData": {"token": "planted-token"}})
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    pod = {"image": image("controller"), "extraEnv": [token], "terminationGraceSeconds": 5}
    store = {"url": f"s3://lab/{namespace}", "endpoint": s3.endpoint, "region": "us-east-1", "secret": "store"}
    stated = {"engine": {"version": "5"}, "store": store, "serviceAccountName": "potstill-workloads"}
    profile = Profile.model_validate(stated | dict.fromkeys(("train", "evaluate", "grade", "report"), pod))
    found = {}
    for role, task in TASKS.items():
        job = build_job(FROZEN, task(), profile, REFERENCE, namespace)
        del job["metadata"]["ownerReferences"]
        spec = job["spec"]["template"]["spec"]
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        for one in containers:
            one["command"] = ["python", "-c", PROBE]
        node.plane.api.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
        name = job["metadata"]["name"]
        node.wait_for_job(namespace, name)
        for one in containers:
            said = node.plane.kubectl("logs", f"job/{name}", "-c", one["name"], namespace=namespace)
            found[role, one["name"]] = json.loads(said)
    return found


@pytest.mark.parametrize("where", TRUSTED + UNTRUSTED, ids=lambda where: where[1])
def test_no_pod_reaches_the_node_the_api_servers_objects_or_its_own_image(
    told: dict[tuple[str, str], dict[str, Any]], where: tuple[str, str]
) -> None:
    said = told[where]
    assert (said["user"], said["capabilities"], said["no new privileges"], said["seccomp"]) == (65532, 0, "1", "2")
    assert (said["writable"], said["host files"], said["disk devices"]) == ([], [], [])
    assert said["service account token"] is False
    assert said["secrets of the API server"] in (401, 403)
    assert said["become root"] == "PermissionError"
    assert said["mount"] == -1
    assert said["processes"] == 1, "it sees no process of another container"


@pytest.mark.parametrize("where", TRUSTED, ids=lambda where: where[1])
def test_pods_that_use_the_store_read_its_keys_and_cannot_change_them(
    told: dict[tuple[str, str], dict[str, Any]], where: tuple[str, str]
) -> None:
    assert told[where]["key files"] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert told[where]["key in an environment"] is True
    assert told[where]["change the keys"] in ("OSError", "PermissionError")


@pytest.mark.parametrize("where", UNTRUSTED, ids=lambda where: where[1])
def test_the_container_that_executes_candidates_code_finds_no_key(
    told: dict[tuple[str, str], dict[str, Any]], where: tuple[str, str]
) -> None:
    assert told[where]["key files"] == []
    assert told[where]["key in an environment"] is False
    assert told[where]["change the keys"] == "FileNotFoundError"
