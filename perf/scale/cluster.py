"""A real control plane, kwok's nodes, an S3 server, and a controller in its own process, all on this machine.

What the controller asks of the API server is counted in the API server's audit log, and what it asks of the S3 server
in that one's access log: the same for any version of the controller.
"""

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from controller.crd import experiment_crd
from tests.cluster.harness.api import ApiRefusedError
from tests.cluster.harness.control_plane import ControlPlane, control_plane
from tests.cluster.world import profile_of, write_files
from tests.tools.processes import Server, free_port, wait_until
from tests.tools.programs import program
from tests.tools.s3 import S3Server, s3_server

STAGES = Path(__file__).with_name("stages.yaml")
NAMESPACE, ACCOUNT = "scale", "potstill-controller"
AUDITED: list[dict[str, Any]] = [
    {"level": "Metadata", "users": [f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"]},
    {"level": "None"},
]
TICKS = os.sysconf("SC_CLK_TCK")
MALLOC = re.compile(r"\b(MALLOC_\w+)=(\d+)")
"""Settings of malloc in an image's Dockerfile."""
Json = dict[str, Any]


@dataclass
class LogCounter:
    """Counts the lines that a log gets from now on, by what `read` makes of each; None is not counted."""

    path: Path
    read: Any
    offset: int = 0

    def reset(self) -> None:
        self.offset = self.path.stat().st_size if self.path.exists() else 0

    def take(self) -> Counter[str]:
        """Since the last `reset` or `take`, whole lines only."""
        if not self.path.exists():
            return Counter()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        kinds = (self.read(line.decode(errors="replace")) for line in whole.splitlines())
        return Counter(kind for kind in kinds if kind is not None)


@dataclass
class Cluster:
    plane: ControlPlane
    namespace: str
    s3: S3Server
    controllers_s3: S3Server
    url: str
    folder: Path
    code: Path
    api_requests: LogCounter
    s3_requests: LogCounter
    controller: Server | None = field(default=None)
    port: int = 0

    @property
    def path(self) -> str:
        return f"/apis/potstill.dev/v1alpha1/namespaces/{self.namespace}/experiments"

    def start_controller(self) -> None:
        self.port = free_port()
        token = self.plane.service_account_token(self.namespace, ACCOUNT)
        environment = self.controllers_s3.environment() | {
            "KUBECONFIG": str(self.plane.kubeconfig(token=token)),
            "POTSTILL_STORE": self.url,
            "POTSTILL_PROFILES": str(self.folder / "profiles"),
            "POTSTILL_NAMESPACE": self.namespace,
            "POTSTILL_HEALTH_PORT": str(self.port),
            "PYTHONPATH": str(self.code),
            **dict(MALLOC.findall((self.code / "images/controller.Dockerfile").read_text())),
        }
        command = [sys.executable, "-P", "-m", "controller.executors.kubernetes.serve"]
        self.controller = Server(command, self.folder / "controller.log", environment)
        self.controller.start(lambda: True)

    def stop_controller(self) -> None:
        if self.controller is not None:
            self.controller.stop(deadline_seconds=60)

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def rounds(self) -> int:
        """Rounds that this controller has ended, failed ones too.

        Only this metric is read: with all of them, reading them often would take a fifth of the controller's time.
        """
        name = "controller_runtime_reconcile_total"
        with urlopen(f"http://127.0.0.1:{self.port}/metrics?name[]={name}", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{")))

    def cpu_seconds(self) -> float:
        assert self.controller is not None
        fields = Path(f"/proc/{self.controller.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> tuple[float, float]:
        """Now and at most."""
        assert self.controller is not None
        lines = Path(f"/proc/{self.controller.pid}/status").read_text().splitlines()
        sizes = {
            line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))
        }
        return sizes["VmRSS"], sizes["VmHWM"]


@dataclass
class Window:
    """What the controller used between `open` and `close`."""

    cluster: Cluster
    began: float = 0.0
    cpu: float = 0.0

    def open(self) -> "Window":
        self.cluster.api_requests.reset()
        self.cluster.s3_requests.reset()
        self.began, self.cpu = time.monotonic(), self.cluster.cpu_seconds()
        return self

    def close(self) -> Json:
        seconds = time.monotonic() - self.began
        used = self.cluster.cpu_seconds() - self.cpu
        now, most = self.cluster.memory_mib()
        return {
            "seconds": round(seconds, 1),
            "cpuSeconds": round(used, 2),
            "cores": round(used / seconds, 3),
            "memoryMiB": round(now),
            "mostMemoryMiB": round(most),
            "apiRequests": dict(self.cluster.api_requests.take()),
            "s3Requests": dict(self.cluster.s3_requests.take()),
        }


def _api_kind(line: str) -> str | None:
    """Verb and resource of one audit event; a watch counts when it begins."""
    event = json.loads(line)
    if (event["verb"] == "watch") != (event["stage"] == "ResponseStarted"):
        return None
    reference = event.get("objectRef", {})
    parts = [reference.get("resource", ""), reference.get("subresource", "")]
    return f"{event['verb']} {'/'.join(part for part in parts if part)}".strip()


def _s3_kind(access_key: str) -> Any:
    def read(line: str) -> str | None:
        if access_key not in line:
            return None
        words = line.split(" ")
        return next((word for word in words if word.startswith(("REST.", "s3:"))), words[7])

    return read


@contextmanager
def cluster(folder: Path, code: Path) -> Iterator[Cluster]:
    """`code`: the folder with the controller's packages that is measured."""
    with ExitStack() as closing:
        access_log = folder / "s3-access.log"
        os.environ["VGW_ACCESS_LOG"] = str(access_log)
        s3 = closing.enter_context(s3_server(folder))
        plane = closing.enter_context(control_plane(audit=AUDITED))
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        plane.api.post(definitions, experiment_crd())
        wait_until(lambda: _is_served(plane), "experiments are served", 60)
        namespace = NAMESPACE
        plane.api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        wait_until(lambda: plane.api.exists(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"), "an account")
        _make_account(plane, namespace)
        bucket = f"arn:aws:s3:::{s3.bucket}"
        allowed = [{"Effect": "Allow", "Action": "s3:*", "Resource": [bucket, f"{bucket}/*"]}]
        controllers_s3 = s3.account(allowed)
        url = f"s3://{s3.bucket}/{namespace}"
        write_files(folder / "files")
        profile = profile_of(folder / "files", url, s3)
        (folder / "profiles").mkdir()
        text = yaml.safe_dump(profile.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"}))
        (folder / "profiles" / "default.yaml").write_text(text)
        _start_nodes(plane, folder, closing)
        made = Cluster(
            plane, namespace, s3, controllers_s3, url, folder, code,
            LogCounter(plane.audit_log, _api_kind),
            LogCounter(access_log, _s3_kind(controllers_s3.access_key)),
        )  # fmt: skip
        closing.callback(made.stop_controller)
        yield made


def _is_served(plane: ControlPlane) -> bool:
    """An API server that has just been told of a kind answers 404 or 429 for a moment, and describes it later still."""
    with suppress(ApiRefusedError):
        plane.api.get("/apis/potstill.dev/v1alpha1/experiments")
        return "Experiment" in json.dumps(plane.api.get("/openapi/v3/apis/potstill.dev/v1alpha1"))
    return False


def _make_account(plane: ControlPlane, namespace: str) -> None:
    """It may do everything: what a controller needs is tested elsewhere."""
    plane.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "scale"}, "roleRef": role, "subjects": [subject]}
    plane.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)


def _start_nodes(plane: ControlPlane, folder: Path, closing: ExitStack) -> None:
    kubeconfig = plane.kubeconfig()
    command = [str(program("kwok")), f"--kubeconfig={kubeconfig}", f"--config={STAGES}", "--manage-all-nodes=true"]
    kwok = Server([*command, "--node-lease-duration-seconds=0"], folder / "kwok.log")
    kwok.start(lambda: True)
    closing.callback(kwok.stop)
    plane.api.post(
        "/api/v1/nodes", {"metadata": {"name": "simulated", "labels": {"kubernetes.io/hostname": "simulated"}}}
    )
    wait_until(
        lambda: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in plane.api.get("/api/v1/nodes/simulated")["status"].get("conditions", [])
        ),
        "the simulated node is ready",
        60,
    )
